//! Answering: inputs in, answers and receipts out, on the rung that fits the time there is.

use std::time::Duration;

use acclimate_tensor::{Reading, Tensor};

use super::program::Program;
use super::{Answered, Mode, Session};
use crate::adapt::Reset;
use crate::error::Error;
use crate::receipt::{self, Digest, Event, Facts, Input, Place, Receipt, Recompute, Scope, Shortage};
use crate::report_row::{Layout, facts_of};

/// One submission on its way.
pub(super) struct Begun {
    level: usize,
    inputs: usize,
    /// Whether this rung had its plan for this size before.
    planned: bool,
    since: Duration,
    pub reading: Reading<f32>,
}

/// What one input came to.
struct Done {
    facts: Facts,
    level: usize,
    short: Option<Shortage>,
}

/// A call of `answer`.
struct Call {
    dims: [usize; 3],
    size: usize,
    n: usize,
    started: Duration,
    allowed: Option<Duration>,
    since_reset: u64,
    done: Vec<Done>,
}

/// A part of a call that is one submission: which inputs, on which rung.
struct Part {
    at: usize,
    len: usize,
    level: usize,
    short: Option<Shortage>,
}

impl Session {
    /// Answers images of [c, h, w] with values in 0..1, one after the other in `images`. Fails on an empty batch or a
    /// size that does not divide; NaN or huge values fail nothing: such an input gets the frozen model's answer, and
    /// its receipt says so.
    ///
    /// With a deadline, the rung of the ladder is chosen so that the whole call ends in time.
    pub fn answer(&mut self, images: &[f32], dims: [usize; 3]) -> Result<Vec<Answered>, Error> {
        self.answer_within(images, dims, self.budget.deadline)
    }

    /// As [`Session::answer`], with the time that is left for these inputs in place of the session's deadline: a frame
    /// that waited has less of it. `None`: as long as it takes.
    pub fn answer_within(
        &mut self,
        images: &[f32],
        dims: [usize; 3],
        left: Option<Duration>,
    ) -> Result<Vec<Answered>, Error> {
        let mut call = self.open(images, dims, left)?;
        while let Some(part) = self.next(&call) {
            let begun = self.begin(part.level, part_of(images, &call, &part), dims, &self.indices(&part))?;
            let values = (begun.level, begun.inputs, begun.planned, begun.since, begun.reading.wait());
            self.take_in(&mut call, images, part, values)?;
        }
        self.close(call, images)
    }

    /// As [`Session::answer`], without blocking while a GPU works. (The CPU engine computes in the call that asks.)
    ///
    /// What is dropped before it is done has moved the session's state, where it carries one, and has no receipts: the
    /// log shows the gap, and replay does not take it for a pass.
    pub async fn answer_async(&mut self, images: &[f32], dims: [usize; 3]) -> Result<Vec<Answered>, Error> {
        let mut call = self.open(images, dims, self.budget.deadline)?;
        while let Some(part) = self.next(&call) {
            let begun = self.begin(part.level, part_of(images, &call, &part), dims, &self.indices(&part))?;
            let values = (begun.level, begun.inputs, begun.planned, begun.since, begun.reading.await);
            self.take_in(&mut call, images, part, values)?;
        }
        self.close(call, images)
    }

    /// Logits of the model as it stands, without adapting to these images: what a stream that does not wait gets from a
    /// method that is busy. The images count as seen; no receipt is written.
    pub(crate) fn answer_unadapted(&mut self, images: &[f32], dims: [usize; 3]) -> Result<Vec<Vec<f32>>, Error> {
        let [c, h, w] = dims;
        let n = images.len() / (c * h * w).max(1);
        let x = Tensor::from_slice(&self.device, images, &[n, c, h, w])?;
        let driver = &self.ladder.full().driver;
        let state = self.carried.clone().map_or_else(|| driver.fresh(dims), Ok)?;
        let logits = driver.unadapted(&x, &state)?;
        self.index += n as u64;
        let classes = logits.numel() / n.max(1);
        Ok(logits.to_vec::<f32>()?.chunks(classes.max(1)).map(<[f32]>::to_vec).collect())
    }

    fn open(&mut self, images: &[f32], dims: [usize; 3], allowed: Option<Duration>) -> Result<Call, Error> {
        let size = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(0);
        let n = images.len() / size.max(1);
        if size == 0 || n == 0 {
            return Err(Error::Empty { what: "the batch of images" });
        }
        if n * size != images.len() {
            return Err(Error::size(
                "images",
                format!("a multiple of {size} values ({dims:?} an image)"),
                images.len(),
            ));
        }
        if let Reset::Every(k) = self.method().reset
            && k > 0
            && self.batch > 0
            && self.batch.is_multiple_of(k)
        {
            self.clear();
        }
        self.hold_back(images);
        let since_reset = if self.method().is_per_input() { 0 } else { self.since_reset };
        let started = self.budget.clock.now();
        Ok(Call { dims, size, n, started, allowed, since_reset, done: Vec::with_capacity(n) })
    }

    /// The next part of a call, on the rung that its share of the time left allows.
    fn next(&self, call: &Call) -> Option<Part> {
        let at = call.done.len();
        let most = if self.method().is_per_input() { self.slots } else { call.n };
        let len = (call.n - at).min(most);
        if len == 0 {
            return None;
        }
        let parts = (call.n - at).div_ceil(most);
        let left = call.allowed.map(|allowed| {
            let spent = self.budget.clock.now().saturating_sub(call.started);
            allowed.saturating_sub(spent) / u32::try_from(parts).unwrap_or(u32::MAX)
        });
        let levels = self.ladder.frozen() + 1;
        let inputs = if self.method().is_per_input() { self.slots } else { len };
        let (level, short) = match self.mode {
            Mode::HeldBack => (self.ladder.frozen(), None),
            Mode::Free => self.budget.choose(left, inputs, levels),
            Mode::Shadow => match self.budget.choose(left, inputs, levels) {
                (0, short) => (self.ladder.shadow(), short),
                (_, short) => (self.ladder.frozen(), short),
            },
        };
        Some(Part { at, len, level, short })
    }

    fn indices(&self, part: &Part) -> Vec<u64> {
        (self.index + part.at as u64..).take(part.len).collect()
    }

    /// Submits one part on a rung.
    pub(super) fn begin(
        &mut self,
        level: usize,
        images: &[f32],
        dims: [usize; 3],
        ids: &[u64],
    ) -> Result<Begun, Error> {
        let [c, h, w] = dims;
        let since = self.budget.clock.now();
        let plans = self.device.stats().plans_built;
        let rung =
            self.ladder.rungs.get(level).ok_or_else(|| {
                Error::size("rung of the budget", format!("below {}", self.ladder.rungs.len()), level)
            })?;
        let inputs;
        let reading = match &*rung.program {
            Program::Slots(step) => {
                inputs = self.slots;
                let size = c * h * w;
                // Free slots repeat the last input; their answers are dropped.
                let mut padded = images.to_vec();
                while padded.len() < self.slots * size {
                    padded.extend_from_within(padded.len() - size..);
                }
                let x = Tensor::from_slice(&self.device, &padded, &[self.slots, c, h, w])?;
                step.call_begin::<f32>((x, self.keys(ids, self.slots)?))?.1
            }
            Program::Batch(step) => {
                inputs = ids.len();
                let x = Tensor::from_slice(&self.device, images, &[inputs, c, h, w])?;
                let key = self.key(ids.first().copied().unwrap_or(0))?;
                let carried = match &self.carried {
                    Some(carried) => carried.clone(),
                    None => self.ladder.full().driver.fresh(dims)?,
                };
                // Whatever is wrong with the input shows while it is traced, before the state is handed over.
                step.warm((x.clone(), key.clone(), carried.clone()))?;
                // From here on the step is the only owner, so that the state is updated in place.
                self.carried = None;
                match step.call_begin::<f32>((x, key, carried)) {
                    Ok(((_, carried), reading)) => {
                        (self.carried, self.lost) = (Some(carried), false);
                        self.since_reset += inputs as u64;
                        reading
                    }
                    Err(error) => {
                        self.lose_state(&error);
                        return Err(error);
                    }
                }
            }
        };
        self.dims = Some(dims);
        let planned = self.device.stats().plans_built != plans;
        Ok(Begun { level, inputs, planned, since, reading })
    }

    /// The facts of one part, and what it took.
    fn take_in(
        &mut self,
        call: &mut Call,
        images: &[f32],
        part: Part,
        (level, inputs, planned, since, values): (usize, usize, bool, Duration, acclimate_tensor::Result<Vec<f32>>),
    ) -> Result<(), Error> {
        let values = match values {
            Ok(values) => values,
            Err(error) => {
                let error = Error::from(error);
                if !self.method().is_per_input() {
                    self.lose_state(&error);
                }
                return Err(error);
            }
        };
        let facts = self.facts(level, &values, part_of(images, call, &part), part.len)?;
        self.budget.clock.worked(&self.ladder.rungs[level].work(level, inputs));
        let took = self.budget.clock.now().saturating_sub(since);
        self.budget.costs.observed(level, inputs, took, planned);
        self.budget.recorder.answered(level, part.len);
        call.done.extend(facts.into_iter().map(|facts| Done { facts, level, short: part.short }));
        Ok(())
    }

    /// The facts of the inputs of one submission.
    pub(super) fn facts(&self, level: usize, values: &[f32], images: &[f32], n: usize) -> Result<Vec<Facts>, Error> {
        let rung = &self.ladder.rungs[level];
        let layout = Layout {
            method: &rung.driver.method,
            overlay: &rung.driver.overlay,
            base_norms: &rung.base_norms,
            shadow: rung.shadow,
        };
        match &*rung.program {
            Program::Slots(_) => {
                let (width, size) = (values.len() / self.slots, images.len() / n);
                let rows = values.chunks(width).take(n).zip(images.chunks(size));
                let mut facts = Vec::with_capacity(n);
                for (row, image) in rows {
                    facts.extend(facts_of(&layout, row, 1, image)?);
                }
                Ok(facts)
            }
            Program::Batch(_) => facts_of(&layout, values, n, images),
        }
    }

    /// Receipts, the log, and what watches the session.
    fn close(&mut self, call: Call, images: &[f32]) -> Result<Vec<Answered>, Error> {
        let took = self.budget.clock.now().saturating_sub(call.started);
        let share = |d: Duration| d.as_secs_f32() * 1e3 / call.n as f32;
        let budget_ms = call.allowed.map(share);
        let adapted = call.done.iter().any(|d| d.facts.steps > 0);
        let mut events = std::mem::take(&mut self.events);
        let mut answers = Vec::with_capacity(call.n);
        for (i, done) in call.done.into_iter().enumerate() {
            let input = Input::new(call.dims, images[i * call.size..(i + 1) * call.size].to_vec())?;
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let place = Place { batch: self.batch, slot: count(i), of: count(call.n) };
            let rung = receipt::Rung {
                level: count(done.level),
                name: self.ladder.rungs[done.level].name.clone(),
                short: done.short,
            };
            let mut receipt = self.receipt(self.index + i as u64, place, call.since_reset, &input, done.facts, rung);
            (receipt.ms, receipt.budget_ms) = (share(took), budget_ms);
            receipt.events = std::mem::take(&mut events);
            if let Some(log) = &mut self.log {
                if log.keep {
                    log.writer.keep(&input)?;
                }
                log.writer.push(&receipt)?;
            }
            answers.push(Answered { logits: receipt.facts.logits.clone(), receipt });
        }
        if let Some(log) = &mut self.log {
            log.writer.flush()?;
        }
        self.index += call.n as u64;
        self.batch += 1;
        let all = self.budget.clock.now().saturating_sub(call.started);
        self.budget.costs.spent_besides(all.saturating_sub(took));
        self.budget.recorder.call(all, call.allowed, adapted);
        self.look_back(&answers)?;
        self.mirror_if_due()?;
        Ok(answers)
    }

    fn receipt(
        &self,
        index: u64,
        place: Place,
        since: u64,
        input: &Input,
        facts: Facts,
        rung: receipt::Rung,
    ) -> Receipt {
        let method = self.method();
        let scope = match (method.is_per_input(), method.carries_state()) {
            (true, _) => Scope::Input,
            (false, false) => Scope::Batch,
            (false, true) => Scope::Stream,
        };
        Receipt {
            index,
            place,
            scope,
            since_reset: since,
            input: input.digest(),
            base: self.base,
            method: method.name().to_owned(),
            config: self.config.clone(),
            config_hash: Digest::of_bytes(b""),
            seed: self.seed,
            device: self.device.to_string(),
            engine: Recompute::engine(self),
            variants: self.variants(),
            rung,
            answer: Digest::of_bytes(b""),
            facts,
            ms: 0.0,
            budget_ms: None,
            events: Vec::new(),
        }
        .sealed()
    }

    /// The state went down with the device or its memory. A mirror of it stays.
    fn lose_state(&mut self, error: &Error) {
        (self.carried, self.since_reset, self.lost) = (None, 0, true);
        self.events.push(Event::StateLost { why: error.to_string() });
    }
}

fn part_of<'a>(images: &'a [f32], call: &Call, part: &Part) -> &'a [f32] {
    &images[part.at * call.size..(part.at + part.len) * call.size]
}
