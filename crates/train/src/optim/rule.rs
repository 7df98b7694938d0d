//! The step itself: one dispatch over the whole arena. Every rule of `acclimate_kernels::step` is one.

use std::fmt::Debug;
use std::sync::Arc;

use acclimate_kernels::step::{self, AdagradConfig, AdamConfig, LionConfig, RmsPropConfig, Rule, SgdConfig};
use acclimate_tensor::Tensor;

use super::check;
use super::link::{Flat, StepCx};
use super::state::State;
use crate::error::Result;

/// The last link: moves the parameters against the gradient.
pub trait StepRule: Debug + Send + Sync {
    /// Its name, that of the literature.
    fn name(&self) -> &'static str;

    /// Fails for a hyper-parameter outside its domain.
    fn check(&self) -> Result<()>;

    /// What it remembers before the first step.
    fn init(&self, like: &dyn Flat) -> Result<State>;

    /// Parameters and state after a step. All tensors are flat, \[n\]; where gradient and parameters are zero (the
    /// padding of an arena) the parameters stay zero.
    fn step(&self, theta: &Tensor, grads: &Tensor, state: State, cx: &StepCx) -> Result<(Tensor, State)>;

    /// Whether a step adds −rate · gradient and nothing else, and remembers nothing: then the step along a sum of
    /// gradients is the sum of their steps.
    fn is_linear(&self) -> bool {
        false
    }

    /// The same rule with a setting changed; `None` if it has no such setting.
    fn with(&self, setting: Setting) -> Option<Arc<dyn StepRule>> {
        let _ = setting;
        None
    }
}

/// A setting that some rules have.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Setting {
    /// Share of the last direction that is kept.
    Momentum(f64),
    /// Share of the gradient that does not enter the momentum.
    Dampening(f64),
    /// Look ahead along the direction.
    Nesterov,
    /// Weight decay: as penalty on the gradient, or decoupled where the rule is (AdamW, Lion).
    Decay(f64),
    /// Shares of first and second moment that are kept.
    Betas(f64, f64),
    /// What is added to the denominator.
    Eps(f64),
    /// Divide by the deviation in place of the root mean square.
    Centered,
}

impl Setting {
    /// The builder method that sets it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Setting::Momentum(_) => "momentum",
            Setting::Dampening(_) => "dampening",
            Setting::Nesterov => "nesterov",
            Setting::Decay(_) => "decay",
            Setting::Betas(..) => "betas",
            Setting::Eps(_) => "eps",
            Setting::Centered => "centered",
        }
    }
}

/// How the rules of the kernels take settings.
trait Settings: Rule {
    /// Changes one; whether there is such a one.
    fn set(&mut self, setting: Setting) -> bool;

    /// Whether it adds −rate · gradient and nothing else.
    fn is_linear(&self) -> bool {
        false
    }

    /// What is added to the denominator, if the rule divides. It must be above 0: an element whose gradient has always
    /// been zero, and that is all padding, would be 0/0.
    fn eps(&self) -> Option<f64> {
        None
    }
}

impl<R: Settings> StepRule for R {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn is_linear(&self) -> bool {
        Settings::is_linear(self)
    }

    fn check(&self) -> Result<()> {
        self.validate()?;
        self.eps().map_or(Ok(()), |eps| check::positive("eps", eps, "1e-8 is usual"))
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        let theta = like.flat();
        let state = State::new().with("step", Tensor::zeros(theta.device(), &[1])?);
        let moments = self.states().into_iter().zip(step::init(self, theta)?);
        Ok(moments.fold(state, |state, (name, zero)| state.with(name, zero)))
    }

    fn step(&self, theta: &Tensor, grads: &Tensor, state: State, cx: &StepCx) -> Result<(Tensor, State)> {
        let names = self.states();
        let number = state.require("step")?.add_scalar(1.0)?;
        let moments = names.iter().map(|name| Ok(state.require(name)?.clone())).collect::<Result<Vec<_>>>()?;
        drop(state);
        let (theta, moments) = step::apply(self, theta, grads, &moments, &cx.rate, &number)?;
        let state = State::new().with("step", number);
        Ok((theta, names.into_iter().zip(moments).fold(state, |state, (name, value)| state.with(name, value))))
    }

    fn with(&self, setting: Setting) -> Option<Arc<dyn StepRule>> {
        let mut rule = self.clone();
        rule.set(setting).then(|| Arc::new(rule) as Arc<dyn StepRule>)
    }
}

impl Settings for SgdConfig {
    fn is_linear(&self) -> bool {
        self.momentum == 0.0 && self.weight_decay == 0.0
    }

    fn set(&mut self, setting: Setting) -> bool {
        match setting {
            Setting::Momentum(x) => self.momentum = x,
            Setting::Dampening(x) => self.dampening = x,
            Setting::Nesterov => self.nesterov = true,
            Setting::Decay(x) => self.weight_decay = x,
            _ => return false,
        }
        true
    }
}

impl Settings for AdamConfig {
    fn set(&mut self, setting: Setting) -> bool {
        match setting {
            Setting::Betas(first, second) => (self.beta1, self.beta2) = (first, second),
            Setting::Eps(x) => self.eps = x,
            Setting::Decay(x) => self.weight_decay = x,
            _ => return false,
        }
        true
    }

    fn eps(&self) -> Option<f64> {
        Some(self.eps)
    }
}

impl Settings for RmsPropConfig {
    fn set(&mut self, setting: Setting) -> bool {
        match setting {
            Setting::Momentum(x) => self.momentum = x,
            Setting::Centered => self.centered = true,
            Setting::Eps(x) => self.eps = x,
            Setting::Decay(x) => self.weight_decay = x,
            _ => return false,
        }
        true
    }

    fn eps(&self) -> Option<f64> {
        Some(self.eps)
    }
}

impl Settings for AdagradConfig {
    fn set(&mut self, setting: Setting) -> bool {
        match setting {
            Setting::Eps(x) => self.eps = x,
            Setting::Decay(x) => self.weight_decay = x,
            _ => return false,
        }
        true
    }

    fn eps(&self) -> Option<f64> {
        Some(self.eps)
    }
}

impl Settings for LionConfig {
    fn set(&mut self, setting: Setting) -> bool {
        match setting {
            Setting::Betas(first, second) => (self.beta1, self.beta2) = (first, second),
            Setting::Decay(x) => self.weight_decay = x,
            _ => return false,
        }
        true
    }
}
