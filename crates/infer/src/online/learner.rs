//! The learner: answers inputs one at a time, learns from labels when they arrive.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use acclimate_tensor::{Compiled, Device, Tensor};
use acclimate_train::optim::{Optimizer, State};
use acclimate_train::{Layer, Params};

use super::drift::{Response, Signal};
use super::loss::Loss;
use super::program;
use super::replay::{Buffer, Kept, Replay};
use super::work::Action;
use crate::error::Error;

/// How to learn online: a value.
#[derive(Clone, Debug)]
pub struct Method {
    pub(super) loss: Loss,
    pub(super) optimizer: Optimizer,
    pub(super) block: usize,
    pub(super) replay: Option<Replay>,
    pub(super) response: Response,
    max_pending: usize,
    seed: u64,
}

impl Method {
    /// With this loss and these steps; blocks of 32, no replay, alarms only counted, at most 100,000 inputs that wait
    /// for their label.
    pub fn new(loss: Loss, optimizer: Optimizer) -> Self {
        Method { loss, optimizer, block: 32, replay: None, response: Response::Count, max_pending: 100_000, seed: 0 }
    }

    /// How many inputs and labels make one submission where more than one wait. The order is kept: results are those
    /// of one at a time.
    #[must_use]
    pub fn block(self, block: usize) -> Self {
        Method { block: block.max(1), ..self }
    }

    /// Learns again from earlier inputs with each label; the step takes the mean of their losses and the new one.
    #[must_use]
    pub fn replay(self, replay: Replay) -> Self {
        Method { replay: Some(replay), ..self }
    }

    /// What to do on an alarm of the learner's signal.
    #[must_use]
    pub fn response(self, response: Response) -> Self {
        Method { response, ..self }
    }

    /// How many inputs may wait for their label; beyond that the oldest is given up and counted.
    #[must_use]
    pub fn max_pending(self, max_pending: usize) -> Self {
        Method { max_pending, ..self }
    }

    /// The seed of the replay buffer's draws.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Method { seed, ..self }
    }
}

/// Something that happens to a learner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// An input that wants an answer. It gets the next id.
    Input(&'a [f32]),
    /// The label of an earlier input.
    Label {
        /// The input's id.
        id: u64,
        /// 0 or 1, a class, or a number: as the loss says.
        label: f32,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// What the label must come back with.
    pub id: u64,
    /// The model's outputs.
    pub output: Vec<f32>,
}

/// A label that was learned, or could not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Labeled {
    /// The input's id.
    pub id: u64,
    /// The label.
    pub label: f32,
    /// What the model had answered.
    pub output: Vec<f32>,
    /// Loss of that answer.
    pub loss: f64,
    /// Error of that answer: 0 or 1 for classes, |x − y| for numbers.
    pub error: f64,
    /// Whether the step was taken; not if it would have left finite numbers.
    pub learned: bool,
    /// Whether the signal saw a change at this label.
    pub alarm: bool,
}

/// What came of events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Answers, in the order of their inputs.
    pub predicted: Vec<Predicted>,
    /// Labels, in the order they came.
    pub labeled: Vec<Labeled>,
}

/// What happened so far: nothing is lost without being counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Answered inputs.
    pub answered: u64,
    /// Labels whose step was taken.
    pub learned: u64,
    /// Labels whose step would have left finite numbers.
    pub held_back: u64,
    /// Inputs whose label never came while there was room to wait.
    pub expired: u64,
    /// Calls that were refused with an error, and changed nothing.
    pub refused: u64,
    /// Alarms of the signal.
    pub alarms: u64,
    /// Submissions to the device.
    pub submissions: u64,
}

/// A state to go back to.
#[derive(Clone, Debug)]
pub struct Snapshot {
    params: Params,
    state: State,
    steps: u64,
}

/// An input that has its answer, or will have with the next submission, and waits for its label.
pub(super) struct Pending {
    pub input: Vec<f32>,
    pub output: Option<Vec<f32>>,
}

/// Learns while it answers. Labels come with the id of their input, at once or later, in any order; they are learned in
/// the order they come, and before the next answer.
///
/// ```
/// use std::sync::Arc;
/// use acclimate_infer::online::{self, Learner, Loss, Method};
/// use acclimate_tensor::Device;
/// use acclimate_train::{Layer, nn::Linear, optim};
///
/// let model = Arc::new(Linear::new("line", 2, 1));
/// let params = model.init(&Device::cpu(), 0)?;
/// let mut learner = Learner::new(model, params, &[2], Method::new(Loss::Logistic, optim::adagrad(0.5)))?;
/// for i in 0..200 {
///     let x = [(i % 7) as f32 - 3.0, (i % 5) as f32 - 2.0];
///     let answer = learner.predict(&x)?; // the label before was learned in the same submission
///     learner.label(answer.id, if x[0] > x[1] { 1.0 } else { 0.0 })?;
/// }
/// assert!(learner.predict(&[2.0, -1.0])?.output[0] > 0.0);
/// assert_eq!(learner.counts().learned, 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Learner {
    pub(super) model: Arc<dyn Layer>,
    pub(super) method: Arc<Method>,
    pub(super) params: Params,
    pub(super) state: State,
    pub(super) start: Params,
    pub(super) first_state: State,
    pub(super) scan: Compiled<program::In, program::Out, Error>,
    pub(super) answers: Compiled<(Params, Tensor), Tensor, Error>,
    pub(super) dims: Vec<usize>,
    pub(super) outputs: usize,
    pub(super) next: u64,
    pub(super) steps: u64,
    pub(super) boosted: u64,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) queue: VecDeque<Action>,
    pub(super) done: Report,
    pub(super) buffer: Option<Buffer>,
    pub(super) signal: Option<Signal>,
    pub(super) counts: Counts,
}

impl Learner {
    /// Over a model, its first parameters and inputs of `dims`. Fails if the method does not fit the model.
    pub fn new(model: Arc<dyn Layer>, params: Params, dims: &[usize], method: Method) -> Result<Self, Error> {
        let device = params.device();
        let one = Tensor::zeros(device, &[&[1], dims].concat())?;
        let outputs = model.forward(&params, &one)?.numel();
        method.loss.check(outputs)?;
        method.response.check()?;
        if method.replay.is_some_and(|r| r.capacity == 0) {
            return Err(Error::Empty { what: "the replay buffer" });
        }
        let state = method.optimizer.init(&params)?;
        let method = Arc::new(method);
        Ok(Learner {
            scan: program::scan(model.clone(), method.clone()),
            answers: program::answers(model.clone()),
            start: params.clone(),
            first_state: state.clone(),
            dims: dims.to_vec(),
            buffer: method.replay.map(|r| Buffer::new(r, method.seed)),
            model,
            method,
            params,
            state,
            outputs,
            next: 0,
            steps: 0,
            boosted: 0,
            pending: BTreeMap::new(),
            queue: VecDeque::new(),
            done: Report::default(),
            signal: None,
            counts: Counts::default(),
        })
    }

    /// With a signal that looks at every error; [`Method::response`] says what its alarms do.
    #[must_use]
    pub fn on_change(mut self, signal: impl FnMut(f64) -> bool + Send + 'static) -> Self {
        self.signal = Some(Box::new(signal));
        self
    }

    /// The id that the next input gets.
    pub fn next_id(&self) -> u64 {
        self.next
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The parameters now. Labels that wait for the next answer are not in them: see [`Learner::flush`].
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.params.device()
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.method.loss
    }

    /// Answers one input, after the labels that came before it: one submission. Fails on an input of another size or
    /// with a value that is not finite.
    pub fn predict(&mut self, input: &[f32]) -> Result<Predicted, Error> {
        let before = self.done.predicted.len();
        self.check(&[Event::Input(input)])?;
        self.accept(&[Event::Input(input)]);
        self.drain()?;
        // Labels that were learned on the way are told by the next report, which nobody may ever ask for.
        let surplus = self.done.labeled.len().saturating_sub(self.method.max_pending);
        self.done.labeled.drain(..surplus);
        Ok(self.done.predicted.remove(before))
    }

    /// Takes a label. It is learned in the submission of the next answer, or by [`Learner::flush`]. Fails on an id
    /// that waits for no label, or a label that the loss does not know.
    pub fn label(&mut self, id: u64, label: f32) -> Result<(), Error> {
        let events = [Event::Label { id, label }];
        self.check(&events)?;
        self.accept(&events);
        Ok(())
    }

    /// Several events in order, as few submissions as the block allows. If one is refused, none is taken. Ids of inputs
    /// count on from [`Learner::next_id`], so a label may follow its input in one call.
    pub fn take(&mut self, events: &[Event]) -> Result<Report, Error> {
        self.check(events)?;
        self.accept(events);
        self.flush()
    }

    /// Learns what waits, and reports all that was not reported yet.
    ///
    /// # Errors
    /// If the device fails. Nothing is lost then: what was not computed is still queued, and parameters are those
    /// before the submission that failed.
    pub fn flush(&mut self) -> Result<Report, Error> {
        self.drain()?;
        Ok(std::mem::take(&mut self.done))
    }

    /// Parameters and moments as they are now, to go back to.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.drain()?;
        Ok(Snapshot { params: self.params.clone(), state: self.state.clone(), steps: self.steps })
    }

    /// Back to a snapshot of this learner, exactly. Labels that wait are learned from there on.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        (self.params, self.state, self.steps) = (snapshot.params.clone(), snapshot.state.clone(), snapshot.steps);
    }

    /// Makes what was learned so far worth keeping: for each [`Ewc`](super::Ewc) in the optimizer the anchor becomes the
    /// parameters now, and the Fisher information `decay` times the old one plus that of the replay buffer's inputs
    /// (Schwarz et al. 2018). Fails without such a link, or without inputs in a replay buffer.
    pub fn consolidate(&mut self, decay: f32) -> Result<(), Error> {
        self.drain()?;
        let kept = self.buffer.as_ref().map(Buffer::kept).unwrap_or_default();
        if kept.is_empty() {
            return Err(Error::Empty { what: "the replay buffer that consolidation looks at" });
        }
        if !self.state.iter().any(|(name, _)| name.ends_with("/ewc/fisher")) {
            return Err(Error::Method {
                method: "consolidate".into(),
                what: "no ewc in the optimizer".into(),
                expected: "an optimizer with `.transform(Ewc { weight })`".into(),
            });
        }
        let inputs: Vec<f32> = kept.iter().flat_map(|k| k.input.iter().copied()).collect();
        let labels: Vec<f32> = kept.iter().map(|k| k.label).collect();
        let rows = Tensor::from_slice(self.device(), &inputs, &[&[kept.len()], self.dims.as_slice()].concat())?;
        let labels = Tensor::from_slice(self.device(), &labels, &[kept.len()])?;
        let fisher = program::fisher(&*self.model, &self.method, &self.params, &rows, &labels)?;
        let mut state = State::new();
        for (name, old) in self.state.iter() {
            let value = if name.ends_with("/ewc/anchor") {
                self.params.arena().clone()
            } else if name.ends_with("/ewc/fisher") {
                old.mul_scalar(decay)?.add(&fisher)?
            } else {
                old.clone()
            };
            state = state.with(name, value);
        }
        Tensor::realize(&state.iter().map(|(_, t)| t).collect::<Vec<_>>())?;
        self.state = state;
        Ok(())
    }

    /// The Fisher information that an [`Ewc`](super::Ewc) link holds on to, in the order of the parameters' arena, if
    /// there is such a link.
    pub fn fisher(&self) -> Result<Option<Vec<f32>>, Error> {
        let entry = self.state.iter().find(|(name, _)| name.ends_with("/ewc/fisher"));
        Ok(entry.map(|(_, fisher)| fisher.to_vec()).transpose()?)
    }

    /// Refuses events that cannot be taken, all or none.
    fn check(&mut self, events: &[Event]) -> Result<(), Error> {
        let checked = self.checked(events);
        self.counts.refused += u64::from(checked.is_err());
        checked
    }

    fn checked(&self, events: &[Event]) -> Result<(), Error> {
        let size: usize = self.dims.iter().product();
        let mut next = self.next;
        let mut taken = std::collections::BTreeSet::new();
        for event in events {
            match *event {
                Event::Input(input) => {
                    if input.len() != size {
                        return Err(Error::size(format!("input {next}"), format!("{size} values"), input.len()));
                    }
                    if let Some(position) = input.iter().position(|x| !x.is_finite()) {
                        let (expected, found) = ("a finite number".into(), input[position].to_string());
                        return Err(Error::Value { what: "input", position, expected, found });
                    }
                    next += 1;
                }
                Event::Label { id, label } => {
                    let why = if id >= next {
                        "no input had this id yet"
                    } else if !taken.insert(id) || id < self.next && !self.pending.contains_key(&id) {
                        "it has its label already, or waited too long"
                    } else {
                        ""
                    };
                    if !why.is_empty() {
                        return Err(Error::UnknownInput { id, why });
                    }
                    if let Some(expected) = self.method.loss.refuses(label, self.outputs) {
                        let position = usize::try_from(id).unwrap_or(usize::MAX);
                        return Err(Error::Value { what: "label", position, expected, found: label.to_string() });
                    }
                }
            }
        }
        Ok(())
    }

    /// Queues checked events.
    fn accept(&mut self, events: &[Event]) {
        for event in events {
            match *event {
                Event::Input(input) => {
                    self.pending.insert(self.next, Pending { input: input.to_vec(), output: None });
                    self.queue.push_back(Action::Answer { id: self.next, input: input.to_vec() });
                    self.next += 1;
                }
                Event::Label { id, label } => {
                    let Some(Pending { input, output }) = self.pending.remove(&id) else { continue };
                    let new = Kept { input, label };
                    let replayed = self.buffer.as_mut().map(|b| b.draw_and_keep(&new)).unwrap_or_default();
                    self.queue.push_back(Action::Learn { id, new, replayed, output, alarm: None });
                }
            }
        }
        while self.pending.len() > self.method.max_pending {
            self.pending.pop_first();
            self.counts.expired += 1;
        }
    }
}
