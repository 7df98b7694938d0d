//! The loop: one compiled step, replayed for every batch; parameters and optimizer state are moved in and come back.

use acclimate_kernels::random::Key;
use acclimate_tensor::{Compiled, Device, Tensor, Tree, compile};

use super::convergence::{Convergence, Watcher};
use super::history::{History, Measured, Point};
use super::progress::Progress;
use super::stop::EarlyStop;
use super::training::{Ended, Run, Training};
use crate::data::Batches;
use crate::data::rng::Philox;
use crate::error::{Error, Result};
use crate::layer::{Layer, Pass};
use crate::optim::{Optimizer, Rates, State, StepCx, norm, refused};
use crate::params::Params;

/// What a model says about a batch.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One element.
    pub loss: Tensor,
    /// The parameters with updated buffers, where the model has buffers.
    pub params: Option<Params>,
}

impl From<Tensor> for Outcome {
    fn from(loss: Tensor) -> Self {
        Outcome { loss, params: None }
    }
}

impl From<(Tensor, Params)> for Outcome {
    fn from((loss, params): (Tensor, Params)) -> Self {
        Outcome { loss, params: Some(params) }
    }
}

/// Parameters, state, batch, rate and key.
type In<B> = (Params, State, B, Tensor, Tensor);
/// Parameters and state after the step; loss and gradient norm before it.
type Out = ((Params, State), (Tensor, Tensor));

/// Metrics at the end of an epoch: epoch and parameters to names and values.
type AtEpoch = Box<dyn Fn(u64, &Params) -> Result<Vec<(String, f64)>>>;

/// How to train: an objective, an optimizer, and how to go about it. A value without state: what changes is in
/// [`Training`].
///
/// ```
/// # use acclimate_tensor::{Device, Tensor};
/// # use acclimate_train::{Params, Result};
/// use acclimate_train::{data::{Batches, Tail}, fit::{Fit, Progress}, optim};
/// # fn main() -> Result<()> {
/// let device = Device::cpu();
/// let params = Params::from_named(&device, vec![("slope".into(), vec![1], vec![0.0])])?;
/// let fit = Fit::new(optim::sgd(0.1), |params: &Params, (x, y): (Tensor, Tensor), _key| {
///     Ok(x.mul(&params.get("slope")?)?.sub(&y)?.square()?.sum(&[])?)
/// })
/// .epochs(100)
/// .progress(Progress::Silent);
/// let batches = Batches::new(4, 2, 7, Tail::Keep)?;
/// let trained = fit.run(fit.begin(&params)?, &batches, |positions| {
///     let x: Vec<f32> = positions.iter().map(|&i| i as f32 / 4.0).collect();
///     let y: Vec<f32> = x.iter().map(|x| 3.0 * x).collect();
///     Ok((Tensor::from_slice(&device, &x, &[x.len()])?, Tensor::from_slice(&device, &y, &[y.len()])?))
/// })?;
/// assert!((trained.params.get("slope")?.item()? - 3.0).abs() < 1e-3);
/// # Ok(()) }
/// ```
pub struct Fit<B: Tree + 'static> {
    step: Compiled<In<B>, Out, Error>,
    optimizer: Optimizer,
    epochs: u64,
    check_every: u64,
    seed: u64,
    convergence: Option<Convergence>,
    early: Option<EarlyStop>,
    progress: Progress,
    label: String,
    at_epoch: Option<AtEpoch>,
}

impl Fit<(Tensor, Tensor)> {
    /// A loop that trains a layer on batches of inputs and targets: `loss` compares its output with the targets.
    ///
    /// ```
    /// # use acclimate_train::{Result, fit::Fit, loss, nn::Mlp, optim};
    /// let fit = Fit::supervised(Mlp::new("digits", 784, &[64], 10), optim::adam(1e-3), loss::cross_entropy);
    /// ```
    pub fn supervised(
        model: impl Layer + 'static,
        optimizer: Optimizer,
        loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Fit::new(optimizer, move |params, (x, y), key| {
            let mut pass = Pass::train(Key::from_tensor(key)?);
            let loss = loss(&model.apply(params, &x, &mut pass)?, &y)?;
            Ok((loss, params.with_buffers(pass.take_updates())?))
        })
    }
}

impl<B: Tree + 'static> Fit<B> {
    /// A loop that lowers `objective`: a function of parameters, batch and a random key (u32 \[2\], another one each
    /// step) that gives the loss, or the loss and the parameters with updated buffers. It is traced once for each
    /// shape of batch; numbers it captures are constants. If the optimizer scales the loss
    /// ([`Optimizer::scale_loss`]), the loop multiplies it; what it reports is unscaled.
    pub fn new<O: Into<Outcome>>(
        optimizer: Optimizer,
        objective: impl Fn(&Params, B, Tensor) -> Result<O> + Send + Sync + 'static,
    ) -> Self {
        let chain = optimizer.clone();
        let step = compile(move |(params, state, batch, rate, key): In<B>| {
            let outcome: Outcome = objective(&params, batch, key)?.into();
            let grads = params.grad(&chain.scaled(&outcome.loss, &state)?)?;
            let length = norm(&chain.unscaled(&grads, &state)?)?;
            let cx = StepCx::new(&rate).with_loss(&outcome.loss).scaled();
            // The objective's parameters are the same but for the buffers.
            let params = outcome.params.unwrap_or(params);
            Ok((chain.step(params, &grads, state, &cx)?, (outcome.loss, length)))
        });
        Fit {
            step,
            optimizer,
            epochs: 1,
            check_every: 10,
            seed: 0,
            convergence: None,
            early: None,
            progress: Progress::Auto,
            label: "training".to_owned(),
            at_epoch: None,
        }
    }

    /// How many times through the data; 1 if not said.
    #[must_use]
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.epochs = epochs;
        self
    }

    /// Loss and gradient norm are read every `steps` steps and at the last one; 10 if not said. Each look
    /// waits for the device.
    #[must_use]
    pub fn check_every(mut self, steps: u64) -> Self {
        self.check_every = steps;
        self
    }

    /// The seed of the keys; 0 if not said. The order of the data has a seed of its own, in [`Batches`].
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Ends the run when a rule fires. Without this, only a loss that is not finite ends it early.
    #[must_use]
    pub fn converge(mut self, settings: Convergence) -> Self {
        self.convergence = Some(settings);
        self
    }

    /// Ends the run when a metric has stopped getting better.
    #[must_use]
    pub fn early_stop(mut self, stop: EarlyStop) -> Self {
        self.early = Some(stop);
        self
    }

    /// How to show progress.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// What the progress calls the run.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Measures something at the end of each epoch: names and values for the history, the progress and the early stop.
    #[must_use]
    pub fn measure<S: Into<String>>(
        mut self,
        metrics: impl Fn(u64, &Params) -> Result<Vec<(S, f64)>> + 'static,
    ) -> Self {
        let named = move |epoch, params: &Params| {
            Ok(metrics(epoch, params)?.into_iter().map(|(name, value)| (name.into(), value)).collect())
        };
        self.at_epoch = Some(Box::new(named));
        self
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// A training before its first step.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn begin(&self, params: &Params) -> Result<Training> {
        if self.check_every == 0 {
            return refused("fit", "a look every 1 or more steps", 0, "10 is usual");
        }
        let state = self.optimizer.init(params)?;
        // Without rules for convergence the watcher still sees a loss that is not finite.
        let silent = Convergence { gradient: 0.0, loss: 0.0, checks: u32::MAX, plateau: None, divergence: f64::MAX };
        let run = Run {
            step: 0,
            history: History::default(),
            ended: None,
            rates: Rates::new(self.optimizer.rates()),
            watcher: Watcher::new(self.convergence.as_ref().unwrap_or(&silent))?,
            early: self.early.clone(),
        };
        Ok(Training { params: params.clone(), state, run })
    }

    /// Trains to the end of the last epoch, or until a rule ends it. `data` makes the batch of some positions.
    ///
    /// # Errors
    /// Whatever the data, the objective or the device fail with; the training is lost then, so save it now and then.
    pub fn run(
        &self,
        training: Training,
        batches: &Batches,
        data: impl FnMut(&[usize]) -> Result<B>,
    ) -> Result<Training> {
        self.run_to(u64::MAX, training, batches, data)
    }

    /// The same, but not beyond step `last`: so a long run can be saved in between.
    ///
    /// # Errors
    /// As [`Fit::run`].
    pub fn run_to(
        &self,
        last: u64,
        training: Training,
        batches: &Batches,
        mut data: impl FnMut(&[usize]) -> Result<B>,
    ) -> Result<Training> {
        let Training { mut params, mut state, mut run } = training;
        let device = params.device().clone();
        let per_epoch = batches.per_epoch() as u64;
        let end = per_epoch.saturating_mul(self.epochs);
        let mut shown = self.progress.begin(&self.label, end);
        let mut message = String::new();
        'epochs: while run.step < end.min(last) && run.ended.is_none() {
            let epoch = run.step / per_epoch;
            let done = usize::try_from(run.step % per_epoch).unwrap_or(usize::MAX);
            for positions in batches.epoch(epoch).skip(done) {
                let rate = run.rates.rate(run.step);
                let tensors = (self.scalar(&device, rate)?, self.key(&device, run.step)?);
                let batch = data(&positions)?;
                let (next, (loss, length)) = self.step.call((params, state, batch, tensors.0, tensors.1))?;
                (params, state) = next;
                let step = run.step;
                run.step += 1;
                shown.step(run.step);
                if step % self.check_every == 0 || run.step == end {
                    let (loss, gradient) = (f64::from(loss.item()?), f64::from(length.item()?));
                    run.look(Point { step, epoch, loss, gradient, rate: rate.into() }, self.optimizer.scales_loss());
                    message = format!("loss {loss:.4}");
                    shown.say(run.step, &message);
                }
                if run.ended.is_some() || run.step >= last {
                    break;
                }
            }
            if run.step % per_epoch != 0 {
                break 'epochs;
            }
            if let Some(measure) = &self.at_epoch {
                for (name, value) in measure(epoch, &params)? {
                    message = format!("{message}, {name} {value:.4}");
                    run.measured(Measured { name, epoch, value });
                }
                shown.say(run.step, &message);
            }
        }
        if run.step >= end {
            run.ended.get_or_insert(Ended::Done);
        }
        if let Some(Ended::Verdict(verdict)) = &run.ended {
            message = verdict.to_string();
        }
        shown.end(run.step, &message);
        Ok(Training { params, state, run })
    }

    fn scalar(&self, device: &Device, x: f32) -> Result<Tensor> {
        Ok(Tensor::from_slice(device, &[x], &[1])?)
    }

    /// The key of a step: a function of seed and step only, so that a resumed run draws what a straight one draws.
    fn key(&self, device: &Device, step: u64) -> Result<Tensor> {
        let mut stream = Philox::from_seed(self.seed).fold_name("fit").stream(step);
        Ok(Tensor::from_slice(device, &[stream.bits(), stream.bits()], &[2])?)
    }
}

impl Run {
    /// With a loss scale, gradients that are not finite are no failure: that step was left out.
    fn look(&mut self, point: Point, scaled: bool) {
        self.history.points.push(point);
        self.rates.observe(point.loss);
        if scaled && point.loss.is_finite() && !point.gradient.is_finite() {
            return;
        }
        if let Some(verdict) = self.watcher.check(point.step, point.loss, point.gradient) {
            self.ended = Some(Ended::Verdict(verdict));
        }
    }

    fn measured(&mut self, metric: Measured) {
        if let Some(early) = &mut self.early
            && early.metric() == metric.name
            && early.look(metric.value, metric.epoch)
            && self.ended.is_none()
        {
            let (best, epoch) = early.best().unwrap_or((metric.value, metric.epoch));
            self.ended = Some(Ended::EarlyStop { metric: metric.name.clone(), best, epoch });
        }
        self.history.metrics.push(metric);
    }
}
