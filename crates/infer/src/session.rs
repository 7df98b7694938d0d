//! A session: a source model that never changes, an adaptation method, and a stream of inputs that each get an answer
//! and a receipt.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use acclimate_kernels::random::Key;
use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{Compiled, Device, EngineKind, Tensor, compile};
use acclimate_train::data::rng::Philox;
use acclimate_train::{Layer, Params};

use crate::adapt::driver::Driver;
use crate::adapt::{Adaptation, Carried, Moves, Reset};
use crate::error::Error;
use crate::overlay::Overlay;
use crate::receipt::{self, Digest, Facts, Input, Place, Receipt, Recompute, Rung, Scope};
use crate::report_row::{Layout, facts_of};
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

type PerInput = Compiled<(Tensor, Tensor), Tensor, Error>;
type PerBatch = Compiled<(Tensor, Tensor, Carried), (Tensor, Carried), Error>;

enum Program {
    /// Each input with its own overlay, by `vmap`.
    Slots(PerInput),
    /// One overlay for the batch, carried on.
    Batch(PerBatch),
}

/// A running session. Its state is one value, [`Carried`]; the source model has no mutable path.
pub struct Session {
    driver: Arc<Driver>,
    program: Program,
    device: Device,
    slots: usize,
    seed: u64,
    index: u64,
    batch: u64,
    since_reset: u64,
    carried: Option<Carried>,
    log: Option<Log>,
    base: Digest,
    base_norms: Vec<f32>,
    config: serde_json::Value,
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
        let overlay = method.moves.overlay(&params, method.name())?;
        let base_norms = overlay.base_norms(&params)?;
        let base = Digest::of_bytes(params.hash()?.as_bytes());
        let device = params.device().clone();
        let config = method.config();
        let driver = Arc::new(Driver { model, params, method, overlay, source });
        let program = program(&driver);
        Ok(Session {
            driver,
            program,
            device,
            slots: 32,
            seed: 0,
            index: 0,
            batch: 0,
            since_reset: 0,
            carried: None,
            log: None,
            base,
            base_norms,
            config,
        })
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
        let d = &self.driver;
        let fresh = Self::with_source(d.model.clone(), d.params.clone(), d.method.clone(), d.source.clone())?;
        Ok(fresh.slots(self.slots).seed(self.seed))
    }

    /// The method.
    pub fn method(&self) -> &Adaptation {
        &self.driver.method
    }

    /// How many inputs adapt side by side.
    pub fn n_slots(&self) -> usize {
        self.slots
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Hash of the source parameters, computed from their values now.
    pub fn base_hash_now(&self) -> Result<String, Error> {
        Ok(self.driver.params.hash()?)
    }

    /// What may move, and where it lies in Δ.
    pub fn overlay(&self) -> &Overlay {
        &self.driver.overlay
    }

    /// What was carried from the last batch: the overlay, the optimizer's state, what guards remember. None before the
    /// first batch, after a reset, and for per-input methods.
    pub fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// Goes on from a state that a session of the same method and model carried. Fails where names or shapes differ from
    /// those of this session, if it has answered before, or from its overlay's.
    pub fn resume(&mut self, state: Carried) -> Result<(), Error> {
        let named = |state: &Carried| state.iter().map(|(n, t)| (n, t.clone())).collect::<Vec<_>>();
        if let Some(own) = &self.carried {
            own.with_values(named(&state))?;
        }
        self.driver.check(&state)?;
        self.carried = Some(state);
        self.since_reset = self.since_reset.max(1);
        Ok(())
    }

    /// Back to the source model, exactly: the next answers equal a fresh session's, bit for bit.
    pub fn reset(&mut self) {
        (self.carried, self.since_reset) = (None, 0);
    }

    /// Traces and plans for batches of `n` images of [c, h, w] without answering, so that the first answer is as fast as
    /// the others.
    pub fn warm(&self, dims: [usize; 3], n: usize) -> Result<(), Error> {
        let [c, h, w] = dims;
        let zeros =
            |n: usize| Ok::<_, Error>(Tensor::from_slice(&self.device, &vec![0f32; n * c * h * w], &[n, c, h, w])?);
        match &self.program {
            Program::Slots(step) => step.warm((zeros(self.slots)?, self.keys(&[0], self.slots)?)),
            Program::Batch(step) => step.warm((zeros(n)?, self.key(0)?, self.driver.fresh(dims)?)),
        }
    }

    /// Answers images of [c, h, w] with values in 0..1, one after the other in `images`. Fails on an empty batch or a
    /// size that does not divide; NaN or huge values fail nothing: such an input gets the frozen model's answer, and
    /// its receipt says so.
    pub fn answer(&mut self, images: &[f32], dims: [usize; 3]) -> Result<Vec<Answered>, Error> {
        let size: usize = dims.iter().product();
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
        let started = Instant::now();
        let indices: Vec<u64> = (self.index..).take(n).collect();
        let since = if self.driver.method.is_per_input() { 0 } else { self.since_reset };
        let facts = self.compute(images, dims, &indices)?;
        let ms = started.elapsed().as_secs_f32() * 1e3 / n as f32;
        let mut answers = Vec::with_capacity(n);
        for (i, facts) in facts.into_iter().enumerate() {
            let input = Input::new(dims, images[i * size..(i + 1) * size].to_vec())?;
            let place = Place {
                batch: self.batch,
                slot: u32::try_from(i).unwrap_or(u32::MAX),
                of: u32::try_from(n).unwrap_or(u32::MAX),
            };
            let receipt = self.receipt(self.index + i as u64, place, since, &input, facts, ms)?;
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
        self.index += n as u64;
        self.batch += 1;
        Ok(answers)
    }

    /// Logits of the model as it stands, without adapting to these images: what a stream that does not wait gets from a
    /// method that is busy. The images count as seen; no receipt is written.
    pub(crate) fn answer_unadapted(&mut self, images: &[f32], dims: [usize; 3]) -> Result<Vec<Vec<f32>>, Error> {
        let [c, h, w] = dims;
        let n = images.len() / (c * h * w).max(1);
        let x = Tensor::from_slice(&self.device, images, &[n, c, h, w])?;
        let state = self.carried.clone().map_or_else(|| self.driver.fresh(dims), Ok)?;
        let logits = self.driver.unadapted(&x, &state)?;
        self.index += n as u64;
        let classes = logits.numel() / n.max(1);
        Ok(logits.to_vec::<f32>()?.chunks(classes.max(1)).map(<[f32]>::to_vec).collect())
    }

    fn receipt(
        &self,
        index: u64,
        place: Place,
        since: u64,
        input: &Input,
        facts: Facts,
        ms: f32,
    ) -> Result<Receipt, Error> {
        let method = &self.driver.method;
        let scope = match (method.is_per_input(), method.carries_state()) {
            (true, _) => Scope::Input,
            (false, false) => Scope::Batch,
            (false, true) => Scope::Stream,
        };
        Ok(Receipt {
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
            rung: Rung { level: 0, name: "full".into() },
            answer: Digest::of_bytes(b""),
            facts,
            ms,
            budget_ms: None,
        }
        .sealed())
    }

    /// The image as the network sees it after this method's correction; the image itself for methods that correct
    /// nothing or where a guard left it alone.
    pub fn corrected(&self, image: &[f32], [c, h, w]: [usize; 3]) -> Result<Vec<f32>, Error> {
        if self.driver.method.moves != Moves::Sensor {
            return Ok(image.to_vec());
        }
        let x = Tensor::from_slice(&self.device, image, &[c, h, w])?;
        let key = Key::from_tensor(self.key(0)?)?;
        let seen = self.driver.adapt(&x, &key, self.driver.fresh([c, h, w])?)?.image.unwrap_or(x);
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

    /// The facts of each input of a batch.
    fn compute(&mut self, images: &[f32], dims: [usize; 3], indices: &[u64]) -> Result<Vec<Facts>, Error> {
        let [c, h, w] = dims;
        let size = c * h * w;
        let n = indices.len();
        let layout =
            Layout { method: &self.driver.method, overlay: &self.driver.overlay, base_norms: &self.base_norms };
        let mut facts = Vec::with_capacity(n);
        match &self.program {
            Program::Slots(step) => {
                for (part, ids) in images.chunks(self.slots * size).zip(indices.chunks(self.slots)) {
                    // Free slots repeat the last input; their answers are dropped.
                    let mut padded = part.to_vec();
                    while padded.len() < self.slots * size {
                        padded.extend_from_within(padded.len() - size..);
                    }
                    let x = Tensor::from_slice(&self.device, &padded, &[self.slots, c, h, w])?;
                    let (report, values) = step.call_read::<f32>((x, self.keys(ids, self.slots)?))?;
                    let width = report.dims()[1];
                    for (row, image) in values.chunks(width).take(ids.len()).zip(part.chunks(size)) {
                        facts.extend(facts_of(&layout, row, 1, image)?);
                    }
                }
            }
            Program::Batch(step) => {
                if let Reset::Every(k) = self.driver.method.reset
                    && k > 0
                    && self.batch > 0
                    && self.batch.is_multiple_of(k)
                {
                    (self.carried, self.since_reset) = (None, 0);
                }
                let carried = self.carried.take().map_or_else(|| self.driver.fresh(dims), Ok)?;
                let x = Tensor::from_slice(&self.device, images, &[n, c, h, w])?;
                let ((_, carried), values) = step.call_read::<f32>((x, self.key(indices[0])?, carried))?;
                facts = facts_of(&layout, &values, n, images)?;
                self.carried = Some(carried);
                self.since_reset += n as u64;
            }
        }
        Ok(facts)
    }
}

fn program(driver: &Arc<Driver>) -> Program {
    let d = driver.clone();
    if driver.method.is_per_input() {
        Program::Slots(compile(move |(x, keys): (Tensor, Tensor)| {
            vmap_with(
                |(x, key): (Tensor, Tensor)| {
                    let image: [usize; 3] =
                        x.dims().try_into().map_err(|_| Error::size("an image", "[c, h, w]", x.shape()))?;
                    Ok::<_, Error>(d.adapt(&x, &Key::from_tensor(key)?, d.fresh(image)?)?.report)
                },
                (x, keys),
            )
        }))
    } else {
        Program::Batch(compile(move |(x, key, carried): (Tensor, Tensor, Carried)| {
            let o = d.adapt(&x, &Key::from_tensor(key)?, carried)?;
            Ok::<_, Error>((o.report, o.state))
        }))
    }
}

impl Recompute for Session {
    fn base_hash(&self) -> Result<Digest, Error> {
        Ok(Digest::of_bytes(self.driver.params.hash()?.as_bytes()))
    }

    fn device(&self) -> String {
        self.device.to_string()
    }

    fn engine(&self) -> receipt::Engine {
        match self.device.kind() {
            EngineKind::Gpu => receipt::Engine::Gpu,
            EngineKind::Cpu | EngineKind::Null => receipt::Engine::Cpu,
        }
    }

    fn variants(&self) -> Vec<String> {
        // Kernel variants are a function of device and shapes: none is chosen by measurement.
        vec!["static".into()]
    }

    fn answer(&mut self, receipts: &[Receipt], inputs: &[Input]) -> Result<Vec<Facts>, Error> {
        let Some(first) = receipts.first() else { return Ok(Vec::new()) };
        if first.config != self.config {
            return Err(Error::Method {
                method: self.driver.method.name().to_owned(),
                what: format!("receipts of `{}` with another configuration", first.method),
                expected: "a session of the method that wrote the log".into(),
            });
        }
        if first.since_reset == 0 {
            self.reset();
        }
        (self.seed, self.batch) = (first.seed, first.place.batch);
        let dims: [usize; 3] = inputs
            .first()
            .and_then(|i| i.shape().try_into().ok())
            .ok_or_else(|| Error::size("kept input", "[c, h, w]", format!("{:?}", inputs.first().map(Input::shape))))?;
        let images: Vec<f32> = inputs.iter().flat_map(|i| i.values().iter().copied()).collect();
        let indices: Vec<u64> = receipts.iter().map(|r| r.index).collect();
        self.compute(&images, dims, &indices)
    }
}
