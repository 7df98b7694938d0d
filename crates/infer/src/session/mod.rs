//! A session: a source model that never changes, an adaptation method, and a stream of inputs that each get an answer
//! and a receipt.
//!
//! Modules in reading order: the session itself, `program` its rungs, `answer` what happens to an input, `carried` what
//! a batch method carries on, `watch` what keeps an eye on it, [`snapshot`] and `host` how it survives its device,
//! `recompute` how it answers again.

mod answer;
mod carried;
mod host;
mod program;
mod recompute;
pub mod snapshot;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acclimate_kernels::random::Key;
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::rng::Philox;
use acclimate_train::{Layer, Params};
use serde::{Deserialize, Serialize};

use self::host::HostModel;
use self::program::{Ladder, Program};
pub use self::snapshot::Snapshot;
use self::watch::Watch;
use crate::adapt::{Adaptation, Carried, Moves};
use crate::budget::{Budget, Clock, Latency};
use crate::error::Error;
use crate::overlay::Overlay;
use crate::receipt::{self, Digest, Event, Reason, Receipt};
use crate::source::SourceStatistics;

/// An answer and what was done for it.
#[derive(Clone, Debug)]
pub struct Answered {
    /// One logit for each class.
    pub logits: Vec<f32>,
    /// What was moved, why, and whether it helped.
    pub receipt: Receipt,
}

impl Answered {
    /// The likeliest class.
    pub fn label(&self) -> u32 {
        self.receipt.facts.after.class
    }

    /// Softmax probabilities.
    pub fn probabilities(&self) -> Vec<f32> {
        crate::report_row::softmax(&self.logits)
    }
}

/// A running session. Its state is one value, [`Carried`]; the source model has no mutable path.
pub struct Session {
    ladder: Arc<Ladder>,
    device: Device,
    slots: usize,
    seed: u64,
    index: u64,
    batch: u64,
    since_reset: u64,
    carried: Option<Carried>,
    /// Sizes of the images answered last.
    dims: Option<[usize; 3]>,
    log: Option<Log>,
    base: Digest,
    config: serde_json::Value,
    budget: Budget,
    /// What happened since the last answer.
    events: Vec<Event>,
    /// What judge and side sensors allow.
    mode: Mode,
    watch: Watch,
    host: Option<HostModel>,
    /// The state as it was on the host, and after how many batches it is read again.
    mirror: Option<Snapshot>,
    mirror_every: u64,
    /// Whether the state went down with a submission and is not the one it should be.
    lost: bool,
}

/// What judge and side sensors allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Mode {
    /// The rung that fits the budget.
    Free,
    /// Adapting for comparison, answering frozen.
    Shadow,
    /// Frozen.
    HeldBack,
}

struct Log {
    writer: receipt::Writer,
    keep: bool,
}

impl Session {
    /// Over a model and its source parameters. Fails if the method contradicts itself, or if what should move is not
    /// there.
    pub fn new(model: Arc<dyn Layer>, params: Params, method: Adaptation) -> Result<Self, Error> {
        Self::with_source(model, params, method, None)
    }

    /// With the statistics of source data, for methods that measure how ordinary an input is.
    pub fn with_source(
        model: Arc<dyn Layer>,
        params: Params,
        method: Adaptation,
        source: Option<SourceStatistics>,
    ) -> Result<Self, Error> {
        method.validate()?;
        if method.needs_source_statistics() && source.is_none() {
            return Err(Error::Method {
                method: method.name().to_owned(),
                what: "no source statistics".into(),
                expected: "`Session::with_source(.., Some(SourceStatistics::record(..)?))`".into(),
            });
        }
        let base = Digest::of_bytes(params.hash()?.as_bytes());
        let ladder = Arc::new(Ladder::new(&model, &params, &method, &source)?);
        Ok(Self::over(ladder, params.device().clone(), base, method.config(), HostModel::of(&params)?))
    }

    /// The first state of a session over rungs that are there.
    fn over(
        ladder: Arc<Ladder>,
        device: Device,
        base: Digest,
        config: serde_json::Value,
        host: Option<HostModel>,
    ) -> Self {
        Session {
            ladder,
            device,
            slots: 32,
            seed: 0,
            index: 0,
            batch: 0,
            since_reset: 0,
            carried: None,
            dims: None,
            log: None,
            base,
            config,
            budget: Budget::default(),
            events: Vec::new(),
            mode: Mode::Free,
            watch: Watch::default(),
            host,
            mirror: None,
            mirror_every: 0,
            lost: false,
        }
    }

    /// How many inputs adapt side by side in one submission (default 32). Of no effect on batch methods.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// The seed of random draws; an input's own key is made of it and the input's sequence number.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long a call of [`Session::answer`] may take. [`Session::warm`] then plans and times every rung of the
    /// method's ladder; a session that was not warmed learns from its first answers, which hold the planning. See
    /// [`crate::budget`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.budget.deadline = Some(deadline);
        self
    }

    /// Reads the time from this clock instead of the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.budget.clock = clock;
        self
    }

    /// The time on the session's clock.
    pub(crate) fn time(&self) -> Duration {
        self.budget.clock.now()
    }

    /// Writes receipts to a new log.
    pub fn receipts_to(mut self, path: impl AsRef<Path>) -> Result<Self, Error> {
        self.log = Some(Log { writer: receipt::Writer::create(path.as_ref())?, keep: false });
        Ok(self)
    }

    /// Keeps inputs beside the log, by content hash, so that replay can compute the answers again.
    pub fn keep_inputs(mut self) -> Result<Self, Error> {
        let mut log = self
            .log
            .take()
            .ok_or(Error::Empty { what: "the receipt log (call `receipts_to` before `keep_inputs`)" })?;
        log.writer = log.writer.keep_inputs();
        log.keep = true;
        self.log = Some(log);
        Ok(self)
    }

    /// Closes the log, if there is one.
    pub fn finish(&mut self) -> Result<Option<receipt::Manifest>, Error> {
        self.log.take().map(|log| log.writer.finish()).transpose()
    }

    /// A session of the same model, method and seed in its first state, without a log: what replay runs on.
    pub fn source(&self) -> Result<Self, Error> {
        let d = &self.ladder.full().driver;
        let fresh = Self::with_source(d.model.clone(), d.params.clone(), d.method.clone(), d.source.clone())?;
        Ok(fresh.slots(self.slots).seed(self.seed))
    }

    /// A session of its own over the same model and the same plans: its state begins at the source model, and nothing
    /// of it is shared. Costs nothing but the state it will carry.
    pub fn fork(&self) -> Self {
        let mut fork =
            Self::over(self.ladder.clone(), self.device.clone(), self.base, self.config.clone(), self.host.clone());
        fork.budget = self.budget.fresh();
        fork.slots(self.slots).seed(self.seed)
    }

    /// The method.
    pub fn method(&self) -> &Adaptation {
        &self.ladder.full().driver.method
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The names of the rungs, in the order in which they are given up when time is short; the last, "shadow", adapts
    /// for comparison and is taken while a judge has yet to be convinced.
    pub fn rungs(&self) -> impl Iterator<Item = &str> {
        self.ladder.rungs.iter().map(|rung| rung.name.as_str())
    }

    /// How long answers took, how many missed the deadline, and on which rungs they were.
    pub fn latency(&self) -> Latency {
        self.budget.recorder.report(self.rungs())
    }

    /// Answers given so far: the index of the next receipt.
    pub fn answered(&self) -> u64 {
        self.index
    }

    /// How many inputs adapt side by side.
    pub fn n_slots(&self) -> usize {
        self.slots
    }

    /// The deadline, if there is one.
    pub(crate) fn allowed(&self) -> Option<Duration> {
        self.budget.deadline
    }

    /// Hash of the source parameters, computed from their values now.
    pub fn base_hash_now(&self) -> Result<String, Error> {
        Ok(self.ladder.full().driver.params.hash()?)
    }

    /// What may move, and where it lies in Δ.
    pub fn overlay(&self) -> &Overlay {
        &self.ladder.full().driver.overlay
    }

    /// What was carried from the last batch: the overlay, the optimizer's state, what guards remember. None before the
    /// first batch, after a reset, and for per-input methods.
    pub fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// Goes on from a state that a session of the same method and model carried. Fails where names or shapes differ from
    /// those of this session, if it has answered before, or from its overlay's. [`Session::restore`] takes sequence
    /// numbers, seed and monitors over as well.
    pub fn resume(&mut self, state: Carried) -> Result<(), Error> {
        let named = |state: &Carried| state.iter().map(|(n, t)| (n, t.clone())).collect::<Vec<_>>();
        if let Some(own) = &self.carried {
            own.with_values(named(&state))?;
        }
        self.ladder.full().driver.check(&state)?;
        self.carried = Some(state);
        self.since_reset = self.since_reset.max(1);
        Ok(())
    }

    /// Back to the source model, exactly: the next answers equal a fresh session's, bit for bit.
    pub fn reset(&mut self) {
        self.clear();
    }

    /// The same, and the next receipt says why.
    pub fn reset_because(&mut self, because: Reason) {
        self.clear();
        self.events.push(Event::Reset { because });
    }

    /// Everything that is carried, gone.
    fn clear(&mut self) {
        (self.carried, self.since_reset, self.mirror, self.lost) = (None, 0, None, false);
    }

    /// Traces and plans for batches of `n` images of [c, h, w] without answering, so that the first answer is as fast as
    /// the others. With a deadline, every rung is planned, run and timed.
    pub fn warm(&mut self, dims: [usize; 3], n: usize) -> Result<(), Error> {
        let ladder = self.ladder.clone();
        let timed = self.budget.deadline.is_some();
        let count = if timed { ladder.frozen() + 1 } else { 1 };
        for (level, rung) in ladder.rungs.iter().enumerate().take(count) {
            self.warm_rung(&rung.program, dims, n)?;
            if !timed {
                continue;
            }
            let inputs = if self.method().is_per_input() { self.slots } else { n };
            let mut seconds = Vec::new();
            // The first run pays for memory and caches.
            for run in 0..4 {
                let before = self.budget.clock.now();
                self.run_zeros(&rung.program, dims, n)?;
                self.budget.clock.worked(&rung.work(level, inputs));
                if run > 0 {
                    seconds.push(self.budget.clock.now().saturating_sub(before).as_secs_f64());
                }
            }
            self.budget.costs.warmed(level, inputs, seconds);
        }
        Ok(())
    }

    fn zeros(&self, [c, h, w]: [usize; 3], n: usize) -> Result<Tensor, Error> {
        Ok(Tensor::from_slice(&self.device, &vec![0f32; n * c * h * w], &[n, c, h, w])?)
    }

    fn warm_rung(&self, program: &Program, dims: [usize; 3], n: usize) -> Result<(), Error> {
        match program {
            Program::Slots(step) => step.warm((self.zeros(dims, self.slots)?, self.keys(&[0], self.slots)?)),
            Program::Batch(step) => {
                step.warm((self.zeros(dims, n)?, self.key(0)?, self.ladder.full().driver.fresh(dims)?))
            }
        }
    }

    /// Runs a rung on black images and drops what comes out; the session's own state is not touched.
    fn run_zeros(&self, program: &Program, dims: [usize; 3], n: usize) -> Result<(), Error> {
        match program {
            Program::Slots(step) => {
                step.call_read::<f32>((self.zeros(dims, self.slots)?, self.keys(&[0], self.slots)?))?;
            }
            Program::Batch(step) => {
                step.call_read::<f32>((self.zeros(dims, n)?, self.key(0)?, self.ladder.full().driver.fresh(dims)?))?;
            }
        }
        Ok(())
    }

    /// The image as the network sees it after this method's correction; the image itself for methods that correct
    /// nothing or where a guard left it alone.
    pub fn corrected(&self, image: &[f32], [c, h, w]: [usize; 3]) -> Result<Vec<f32>, Error> {
        if self.method().moves != Moves::Sensor {
            return Ok(image.to_vec());
        }
        let x = Tensor::from_slice(&self.device, image, &[c, h, w])?;
        let driver = &self.ladder.full().driver;
        let key = Key::from_tensor(self.key(0)?)?;
        let seen = driver.adapt(&x, &key, driver.fresh([c, h, w])?)?.image.unwrap_or(x);
        Ok(seen.to_vec()?)
    }

    /// The key of an input, by seed and sequence number alone.
    fn words(&self, index: u64) -> [u32; 2] {
        let block = Philox::from_seed(self.seed).block([index as u32, (index >> 32) as u32, 0x1A7E_57ED, 0]);
        [block[0], block[1]]
    }

    fn key(&self, index: u64) -> Result<Tensor, Error> {
        Ok(Tensor::from_slice(&self.device, &self.words(index), &[2])?)
    }

    /// Keys of `count` inputs; free slots repeat the last.
    fn keys(&self, indices: &[u64], count: usize) -> Result<Tensor, Error> {
        let words: Vec<u32> = (0..count).flat_map(|i| self.words(indices[i.min(indices.len() - 1)])).collect();
        Ok(Tensor::from_slice(&self.device, &words, &[count, 2])?)
    }
}
