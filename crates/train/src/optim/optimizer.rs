//! The chain: links in order, then the step rule; a schedule sets the rate that the rule reads.

use std::fmt;
use std::sync::Arc;

use acclimate_tensor::{Device, Tensor};

use super::check;
use super::gates::{Accumulate, SkipIfNotFinite};
use super::link::{Flat, Gate, Link, Movable, StepCx, Transform};
use super::loss_scale::{LossScale, unscaled};
use super::rule::{Setting, StepRule};
use super::schedule::Schedule;
use super::state::State;
use super::transforms::{AddDecay, ClipNorm, ClipValue, Freeze};
use crate::error::Result;

/// A chain of gradient transforms and gates, one step rule, and a schedule of rates. A value: cheap to clone, holds no
/// state.
///
/// ```
/// # use acclimate_tensor::{Device, Tensor};
/// use acclimate_train::optim::{self, StepCx};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let optimizer = optim::sgd(0.1).momentum(0.9).clip_norm(1.0);
/// let device = Device::cpu();
/// let theta = Tensor::from_slice(&device, &[3.0f32, 4.0], &[2])?;
/// let state = optimizer.init(&theta)?;
/// let rate = optimizer.rate_tensor(&device, 0)?;
/// let grads = theta.clone(); // of ½‖θ‖²
/// let (theta, _state) = optimizer.step(theta, &grads, state, &StepCx::new(&rate))?;
/// assert!((theta.to_vec::<f32>()?[0] - 2.94).abs() < 1e-5); // 3 − 0.1 · 3/5
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Optimizer {
    links: Vec<Link>,
    rule: Arc<dyn StepRule>,
    schedule: Schedule,
    /// A setting that the rule does not have, told when the optimizer is checked.
    refused: Option<Setting>,
}

impl Optimizer {
    /// A rule without links.
    pub fn new(rule: impl StepRule + 'static, rate: impl Into<Schedule>) -> Self {
        Optimizer { links: Vec::new(), rule: Arc::new(rule), schedule: rate.into(), refused: None }
    }

    /// Adds a link that changes gradients, behind the present ones.
    #[must_use]
    pub fn transform(mut self, link: impl Transform + 'static) -> Self {
        self.links.push(Link::Transform(Arc::new(link)));
        self
    }

    /// Adds a link that decides whether to step, behind the present ones.
    #[must_use]
    pub fn gate(mut self, link: impl Gate + 'static) -> Self {
        self.links.push(Link::Gate(Arc::new(link)));
        self
    }

    /// Scales gradients down to a global norm of at most `max`.
    #[must_use]
    pub fn clip_norm(self, max: impl Into<f64>) -> Self {
        self.transform(ClipNorm { max: max.into() })
    }

    /// Cuts each gradient element to [−max, max].
    #[must_use]
    pub fn clip_value(self, max: impl Into<f64>) -> Self {
        self.transform(ClipValue { max: max.into() })
    }

    /// Adds `decay` · θ to the gradient at this place of the chain.
    #[must_use]
    pub fn add_decay(self, decay: impl Into<f64>) -> Self {
        self.transform(AddDecay { decay: decay.into() })
    }

    /// Keeps the parameters at or below these paths as they are. Put it first, so that clipping does not count them.
    #[must_use]
    pub fn freeze<S: Into<String>>(self, paths: impl IntoIterator<Item = S>) -> Self {
        self.transform(Freeze { paths: paths.into_iter().map(Into::into).collect() })
    }

    /// Steps every `n`-th time, with the mean of `n` gradients.
    #[must_use]
    pub fn accumulate(self, n: u32) -> Self {
        self.gate(Accumulate { n })
    }

    /// Does not step on gradients with an infinity or a NaN.
    #[must_use]
    pub fn skip_if_not_finite(self) -> Self {
        self.gate(SkipIfNotFinite)
    }

    /// Scales the loss, dynamically and with the usual settings, so that gradients in half precision do not vanish. Say it
    /// first.
    #[must_use]
    pub fn scale_loss(self) -> Self {
        self.gate(LossScale::default())
    }

    /// Momentum (SGD, RMSprop).
    #[must_use]
    pub fn momentum(self, momentum: impl Into<f64>) -> Self {
        self.set(Setting::Momentum(momentum.into()))
    }

    /// Dampening of the momentum (SGD).
    #[must_use]
    pub fn dampening(self, dampening: impl Into<f64>) -> Self {
        self.set(Setting::Dampening(dampening.into()))
    }

    /// Nesterov's momentum (SGD with momentum).
    #[must_use]
    pub fn nesterov(self) -> Self {
        self.set(Setting::Nesterov)
    }

    /// Weight decay of the rule: decoupled in AdamW and Lion, a penalty on the gradient in the others.
    #[must_use]
    pub fn decay(self, decay: impl Into<f64>) -> Self {
        self.set(Setting::Decay(decay.into()))
    }

    /// Shares of the moments that are kept (Adam, AdamW, AMSGrad, Lion).
    #[must_use]
    pub fn betas(self, first: impl Into<f64>, second: impl Into<f64>) -> Self {
        self.set(Setting::Betas(first.into(), second.into()))
    }

    /// What is added to the denominator (all but SGD and Lion).
    #[must_use]
    pub fn eps(self, eps: impl Into<f64>) -> Self {
        self.set(Setting::Eps(eps.into()))
    }

    /// Divides by the deviation in place of the root mean square (RMSprop).
    #[must_use]
    pub fn centered(self) -> Self {
        self.set(Setting::Centered)
    }

    /// Another schedule of rates.
    #[must_use]
    pub fn schedule(mut self, rate: impl Into<Schedule>) -> Self {
        self.schedule = rate.into();
        self
    }

    fn set(mut self, setting: Setting) -> Self {
        match self.rule.with(setting) {
            Some(rule) => self.rule = rule,
            None => self.refused = self.refused.or(Some(setting)),
        }
        self
    }

    /// Whether every rate and setting makes sense; [`Optimizer::init`] asks it too.
    ///
    /// # Errors
    /// For a rate or setting that is negative, not a number or outside its domain, or that the rule does not have.
    pub fn check(&self) -> Result<()> {
        if let Some(setting) = self.refused {
            let expected = format!("a rule that has `{}`", setting.name());
            return check::refused(self.rule.name(), expected, "none", "leave the setting out, or use sgd or adam");
        }
        if self.links.iter().skip(1).any(Link::scales_loss) {
            let found = self.links.iter().map(Link::name).collect::<Vec<_>>().join(", ");
            return check::refused("loss_scale", "the first link", found, "other links want unscaled gradients");
        }
        self.schedule.check()?;
        self.rule.check()?;
        self.links.iter().try_for_each(Link::check)
    }

    /// Whether a step adds −rate · gradient and nothing else: gradient descent without momentum, decay and links.
    pub fn is_linear(&self) -> bool {
        self.links.is_empty() && self.rule.is_linear()
    }

    /// The schedule of rates.
    pub fn rates(&self) -> &Schedule {
        &self.schedule
    }

    /// The rate of step `step`, from 0. Of a plateau schedule: the first one.
    pub fn rate(&self, step: u64) -> f32 {
        self.schedule.rate(step)
    }

    /// The same as a tensor, f32 \[1\], as [`StepCx`] wants it.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn rate_tensor(&self, device: &Device, step: u64) -> Result<Tensor> {
        Ok(Tensor::from_slice(device, &[self.rate(step)], &[1])?)
    }

    /// What the chain remembers before the first step on parameters such as `like`.
    ///
    /// # Errors
    /// As [`Optimizer::check`]; if `like` is not a flat f32 tensor; if a frozen path selects nothing.
    pub fn init(&self, like: &impl Flat) -> Result<State> {
        self.check()?;
        let theta = like.flat();
        if theta.rank() != 1 || theta.dtype() != acclimate_tensor::DType::F32 {
            let found = theta.spec().to_string();
            return check::refused("optimizer", "parameters as one flat f32 tensor", found, "reshape them to [n]");
        }
        let mut state = State::new();
        for (position, link) in self.links.iter().enumerate() {
            state.extend_under(&prefix(position, link.name()), link.init(like)?);
        }
        state.extend_under(&prefix(self.links.len(), self.rule.name()), self.rule.init(like)?);
        Ok(state)
    }

    /// Whether the chain wants gradients of a scaled loss: see [`Optimizer::scaled`].
    pub fn scales_loss(&self) -> bool {
        self.links.first().is_some_and(Link::scales_loss)
    }

    /// The loss that gradients are to be taken of: times the scale in the state, where a link scales it.
    ///
    /// ```
    /// # use acclimate_tensor::{Device, Tensor, grad};
    /// use acclimate_train::optim::{self, StepCx};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let optimizer = optim::sgd(0.1).scale_loss();
    /// let device = Device::cpu();
    /// let theta = Tensor::from_slice(&device, &[3.0f32, 4.0], &[2])?;
    /// let state = optimizer.init(&theta)?;
    /// let loss = theta.square()?.sum(&[])?;
    /// let grads = grad(&optimizer.scaled(&loss, &state)?, theta.clone())?;
    /// let cx = StepCx::new(&optimizer.rate_tensor(&device, 0)?).scaled();
    /// let (theta, _state) = optimizer.step(theta, &grads, state, &cx)?;
    /// assert!((theta.to_vec::<f32>()?[0] - 2.4).abs() < 1e-6);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the state is not one that [`Optimizer::init`] made.
    pub fn scaled(&self, loss: &Tensor, state: &State) -> Result<Tensor> {
        match self.scale(state)? {
            Some(scale) => Ok(loss.mul(&scale.reshape(loss.dims())?)?),
            None => Ok(loss.clone()),
        }
    }

    /// The gradients of the loss itself, flat, of those of [`Optimizer::scaled`].
    ///
    /// # Errors
    /// As [`Optimizer::scaled`].
    pub fn unscaled(&self, grads: &impl Flat, state: &State) -> Result<Tensor> {
        match self.scale(state)? {
            Some(scale) => unscaled(grads.flat(), &scale),
            None => Ok(grads.flat().clone()),
        }
    }

    fn scale(&self, state: &State) -> Result<Option<Tensor>> {
        let Some(link) = self.links.first().filter(|link| link.scales_loss()) else { return Ok(None) };
        Ok(Some(state.under(&prefix(0, link.name())).require("scale")?.clone()))
    }

    /// One step, recorded: parameters and state after it. What is moved in and held by nobody else is updated in place
    /// when the step runs. `grads` has the layout of `params`.
    ///
    /// # Errors
    /// If shapes differ, or the state is not one that [`Optimizer::init`] made for such parameters.
    pub fn step<P: Movable>(&self, params: P, grads: &impl Flat, state: State, cx: &StepCx) -> Result<(P, State)> {
        let (theta, grads) = (params.flat().clone(), grads.flat());
        if grads.shape() != theta.shape() {
            let (expected, found) = (format!("gradients of shape {}", theta.shape()), grads.shape().to_string());
            return check::refused("optimizer step", expected, found, "take the gradient of the parameters' arena");
        }
        let (theta, next) = self.run(0, &theta, grads.clone(), &state, cx)?;
        if next.iter().len() != state.iter().len() {
            let (expected, found) = (format!("{} entries", next.iter().len()), state.iter().len());
            return check::refused("optimizer state", expected, found, "use the state that `init` made");
        }
        Ok((params.moved(theta)?, next))
    }

    /// The chain from `position` on: the parameters after it, and the state of these positions.
    fn run(
        &self,
        position: usize,
        theta: &Tensor,
        grads: Tensor,
        state: &State,
        cx: &StepCx,
    ) -> Result<(Tensor, State)> {
        let mut next = State::new();
        let Some(link) = self.links.get(position) else {
            let prefix = prefix(position, self.rule.name());
            let (theta, own) = self.rule.step(theta, &grads, state.under(&prefix), cx)?;
            next.extend_under(&prefix, own);
            return Ok((theta, next));
        };
        let prefix = prefix(position, link.name());
        let own = state.under(&prefix);
        let theta = match link {
            Link::Transform(link) => {
                let (grads, own) = link.apply(grads, theta, own, cx)?;
                let (new, behind) = self.run(position + 1, theta, grads, state, cx)?;
                let new = link.settle(theta, new, &own)?;
                next.extend_under(&prefix, own);
                next.extend(behind);
                new
            }
            Link::Gate(link) => {
                let (grads, step, own) = link.admit(grads, own, cx)?;
                let (new, behind) = self.run(position + 1, theta, grads, state, cx)?;
                next.extend_under(&prefix, own);
                next.extend(behind.held_back(&step, state)?);
                step.select(&new, theta)?
            }
        };
        Ok((theta, next))
    }
}

impl fmt::Display for Optimizer {
    /// The chain as one line, for logs and receipts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.links {
            match link {
                Link::Transform(link) => write!(f, "{link:?}, ")?,
                Link::Gate(link) => write!(f, "{link:?}, ")?,
            }
        }
        write!(f, "{:?}, {:?}", self.rule, self.schedule)
    }
}

fn prefix(position: usize, name: &str) -> String {
    format!("{position}/{name}/")
}
