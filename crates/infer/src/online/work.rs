//! How a learner's queue becomes submissions.

use std::collections::HashMap;

use acclimate_tensor::Tensor;

use super::drift::Response;
use super::learner::{Labeled, Learner, Predicted};
use super::replay::Kept;
use crate::error::Error;

/// Work in the order it came.
pub(super) enum Action {
    /// An input that wants an answer.
    Answer { id: u64, input: Vec<f32> },
    /// A label to learn.
    Learn {
        id: u64,
        new: Kept,
        replayed: Vec<Kept>,
        /// What the model had answered, once that is known.
        output: Option<Vec<f32>>,
        /// What the signal said, once it was asked.
        alarm: Option<bool>,
    },
}

/// A label's step, then an input's answer: what one slot of a block does.
#[derive(Default)]
struct Slot<'a> {
    learn: Option<(&'a Kept, &'a [Kept])>,
    answer: Option<&'a [f32]>,
}

impl Learner {
    /// Computes what is queued, block by block. A block that fails stays queued.
    pub(super) fn drain(&mut self) -> Result<(), Error> {
        while !self.queue.is_empty() {
            // A signal that acts is asked before its label is learned, so a block has one label: then results are
            // those of one event at a time.
            let acts = self.signal.is_some() && self.method.response != Response::Count;
            let answers = self.queue.iter().take_while(|a| matches!(a, Action::Answer { .. })).count();
            let n = match answers {
                0 if acts => self.fitting(1),
                0 => self.fitting(self.method.block),
                _ if acts || answers == self.queue.len() => answers.min(self.method.block),
                _ => self.fitting(self.method.block),
            };
            if acts {
                self.ask_before();
            }
            self.run(n)?;
        }
        Ok(())
    }

    /// How many actions from the front fit into `slots` slots.
    fn fitting(&self, slots: usize) -> usize {
        let (mut used, mut open) = (0, false);
        for (n, action) in self.queue.iter().enumerate() {
            // An answer fits behind the label of its slot; anything else needs a slot of its own.
            if !(open && matches!(action, Action::Answer { .. })) {
                if used == slots {
                    return n;
                }
                used += 1;
            }
            open = matches!(action, Action::Learn { .. });
        }
        self.queue.len()
    }

    /// Asks the signal about the label at the front, and responds.
    fn ask_before(&mut self) {
        let loss = self.method.loss;
        let Some(Action::Learn { new, output: Some(output), alarm: alarm @ None, .. }) = self.queue.front_mut() else {
            return;
        };
        let error = loss.error(output, new.label);
        let changed = self.signal.as_mut().is_some_and(|signal| signal(error));
        *alarm = Some(changed);
        if changed {
            self.counts.alarms += 1;
            self.respond();
        }
    }

    fn respond(&mut self) {
        match self.method.response {
            Response::Count => {}
            Response::Boost { labels, .. } => self.boosted = labels,
            Response::Restart | Response::ForgetMoments => {
                self.state = self.first_state.clone();
                self.steps = 0;
                if self.method.response == Response::Restart {
                    self.params = self.start.clone();
                }
                if let Some(buffer) = &mut self.buffer {
                    buffer.clear();
                }
            }
        }
    }

    /// Computes the first `n` actions in one submission.
    fn run(&mut self, n: usize) -> Result<(), Error> {
        let mut slots: Vec<Slot> = Vec::new();
        for action in self.queue.iter().take(n) {
            match action {
                Action::Answer { input, .. } => match slots.last_mut() {
                    Some(slot) if slot.answer.is_none() => slot.answer = Some(input),
                    _ => slots.push(Slot { answer: Some(input), ..Slot::default() }),
                },
                Action::Learn { new, replayed, .. } => {
                    slots.push(Slot { learn: Some((new, replayed)), ..Slot::default() });
                }
            }
        }
        let (report, size) = if slots.iter().all(|s| s.learn.is_none()) {
            let (inputs, size) = self.inputs(&slots)?;
            (self.answers.call_read::<f32>((self.params.clone(), inputs))?.1, size)
        } else {
            let (block, size) = self.block(&slots)?;
            // Handed over as clones: if the device fails, parameters and state are still those before.
            let ((_, (params, state)), report) =
                self.scan.call_read::<f32>((self.params.clone(), self.state.clone(), block))?;
            (self.params, self.state) = (params, state);
            (report, size)
        };
        self.counts.submissions += 1;
        self.settle(n, &report, size);
        Ok(())
    }

    /// The inputs to answer, and how many slots they were filled up to.
    fn inputs(&self, slots: &[Slot]) -> Result<(Tensor, usize), Error> {
        // Two sizes of block, so two plans: one slot, and as many as the method says.
        let size = if slots.len() == 1 { 1 } else { self.method.block };
        let width: usize = self.dims.iter().product();
        let mut values = vec![0f32; size * width];
        for (i, slot) in slots.iter().enumerate() {
            if let Some(input) = slot.answer {
                values[i * width..(i + 1) * width].copy_from_slice(input);
            }
        }
        Ok((Tensor::from_slice(self.device(), &values, &[&[size], self.dims.as_slice()].concat())?, size))
    }

    fn block(&self, slots: &[Slot]) -> Result<(super::program::Block, usize), Error> {
        let (inputs, size) = self.inputs(slots)?;
        let width: usize = self.dims.iter().product();
        let rows = 1 + self.method.replay.map_or(0, |r| r.rows);
        let mut learn = vec![0f32; size * rows * width];
        let (mut labels, mut there) = (vec![0f32; size * rows], vec![0f32; size * rows]);
        let mut rates = vec![1f32; size];
        let mut step = 0;
        for (i, slot) in slots.iter().enumerate() {
            let Some((new, replayed)) = slot.learn else { continue };
            for (j, kept) in std::iter::once(new).chain(replayed).enumerate().take(rows) {
                let at = i * rows + j;
                learn[at * width..(at + 1) * width].copy_from_slice(&kept.input);
                (labels[at], there[at]) = (kept.label, 1.0);
            }
            rates[i] = self.rate(step);
            step += 1;
        }
        let device = self.device();
        let block = (
            Tensor::from_slice(device, &learn, &[&[size, rows], self.dims.as_slice()].concat())?,
            Tensor::from_slice(device, &labels, &[size, rows])?,
            Tensor::from_slice(device, &there, &[size, rows])?,
            Tensor::from_slice(device, &rates, &[size])?,
            inputs,
        );
        Ok((block, size))
    }

    /// The rate of the step that is `ahead` labels away.
    fn rate(&self, ahead: u64) -> f32 {
        let rate = self.method.optimizer.rate(self.steps + ahead);
        match self.method.response {
            Response::Boost { factor, .. } if ahead < self.boosted => rate * factor,
            _ => rate,
        }
    }

    /// Tells what the first `n` actions came to, and takes them off the queue.
    fn settle(&mut self, n: usize, report: &[f32], size: usize) {
        let (outputs, learned) = report.split_at(report.len().min(size * self.outputs));
        let mut fresh: HashMap<u64, Vec<f32>> = HashMap::new();
        let (mut slot, mut open, mut first) = (0, false, true);
        for action in self.queue.drain(..n).collect::<Vec<_>>() {
            let joins = open && matches!(action, Action::Answer { .. });
            slot += usize::from(!joins && !first);
            first = false;
            open = matches!(action, Action::Learn { .. });
            match action {
                Action::Answer { id, .. } => {
                    let output = outputs[slot * self.outputs..(slot + 1) * self.outputs].to_vec();
                    fresh.insert(id, output.clone());
                    self.counts.answered += 1;
                    self.done.predicted.push(Predicted { id, output });
                }
                Action::Learn { id, new, output, alarm, .. } => {
                    let output = output.or_else(|| fresh.remove(&id)).unwrap_or_default();
                    let taken = learned.get(slot).is_some_and(|x| *x > 0.0);
                    let (learned, held_back) = (u64::from(taken), u64::from(!taken));
                    self.counts.learned += learned;
                    self.counts.held_back += held_back;
                    self.steps += 1;
                    self.boosted = self.boosted.saturating_sub(1);
                    let error = self.method.loss.error(&output, new.label);
                    let alarm = alarm.unwrap_or_else(|| {
                        let alarm = self.signal.as_mut().is_some_and(|signal| signal(error));
                        self.counts.alarms += u64::from(alarm);
                        alarm
                    });
                    let loss = self.method.loss.of(&output, new.label);
                    self.done.labeled.push(Labeled {
                        id,
                        label: new.label,
                        output,
                        loss,
                        error,
                        learned: taken,
                        alarm,
                    });
                }
            }
        }
        // Answers whose labels come later, or are queued already.
        for (id, output) in fresh {
            if let Some(pending) = self.pending.get_mut(&id) {
                pending.output = Some(output);
                continue;
            }
            let waits = self.queue.iter_mut().find_map(|action| match action {
                Action::Learn { id: i, output, .. } if *i == id => Some(output),
                _ => None,
            });
            if let Some(place) = waits {
                *place = Some(output);
            }
        }
    }
}
