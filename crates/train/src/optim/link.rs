//! The seams of the chain: what a link is, what it sees, and what can be optimized.

use std::fmt::Debug;
use std::sync::Arc;

use acclimate_tensor::Tensor;

use super::check;
use super::state::State;
use crate::error::Result;
use crate::params::{Entry, Params};

/// What every link of a step sees.
#[derive(Clone, Debug)]
pub struct StepCx {
    /// The learning rate: f32 \[1\], a tensor so that a changing rate changes no plan.
    pub rate: Tensor,
    /// The loss of this step, for rules that look at it.
    pub loss: Option<Tensor>,
    /// Whether the gradients are those of [`super::Optimizer::scaled`]. A chain with a loss scale takes no others.
    pub is_scaled: bool,
}

impl StepCx {
    /// With a rate alone.
    pub fn new(rate: &Tensor) -> Self {
        StepCx { rate: rate.clone(), loss: None, is_scaled: false }
    }

    /// With the loss of this step.
    #[must_use]
    pub fn with_loss(self, loss: &Tensor) -> Self {
        StepCx { loss: Some(loss.clone()), ..self }
    }

    /// For gradients of a loss that [`super::Optimizer::scaled`] has multiplied.
    #[must_use]
    pub fn scaled(self) -> Self {
        StepCx { is_scaled: true, ..self }
    }
}

/// A link that changes gradients. It passes them on with their sign: only the step rule subtracts.
pub trait Transform: Debug + Send + Sync {
    /// Its name, a verb: `clip_norm`.
    fn name(&self) -> &'static str;

    /// Fails for a setting outside its domain.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What it remembers before the first step.
    fn init(&self, like: &dyn Flat) -> Result<State> {
        let _ = like;
        Ok(State::new())
    }

    /// Gradients and state, one step on. All tensors are flat, \[n\], and zero in the padding of an arena.
    fn apply(&self, grads: Tensor, theta: &Tensor, state: State, cx: &StepCx) -> Result<(Tensor, State)>;

    /// The last word on the parameters, after the links behind it and the rule: `new` unless the link holds parts back.
    fn settle(&self, old: &Tensor, new: Tensor, state: &State) -> Result<Tensor> {
        let _ = (old, state);
        Ok(new)
    }
}

/// A link that decides whether to step. Where it does not, parameters and the state of everything behind it keep their
/// bits.
pub trait Gate: Debug + Send + Sync {
    /// Its name, such as `accumulate`.
    fn name(&self) -> &'static str;

    /// Fails for a setting outside its domain.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What it remembers before the first step.
    fn init(&self, like: &dyn Flat) -> Result<State> {
        let _ = like;
        Ok(State::new())
    }

    /// Whether it wants the gradients of a loss that was multiplied by the entry `scale` of its state. Such a link is the
    /// first of its chain.
    fn scales_loss(&self) -> bool {
        false
    }

    /// Gradients to pass on, whether to step (bool \[1\]), and its own state, which moves on in any case.
    fn admit(&self, grads: Tensor, state: State, cx: &StepCx) -> Result<(Tensor, Tensor, State)>;
}

/// A link of a chain.
#[derive(Clone, Debug)]
pub enum Link {
    /// Changes gradients.
    Transform(Arc<dyn Transform>),
    /// Decides whether to step.
    Gate(Arc<dyn Gate>),
}

impl Link {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Link::Transform(link) => link.name(),
            Link::Gate(link) => link.name(),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Link::Transform(link) => link.check(),
            Link::Gate(link) => link.check(),
        }
    }

    pub(super) fn scales_loss(&self) -> bool {
        matches!(self, Link::Gate(link) if link.scales_loss())
    }

    pub(super) fn init(&self, like: &dyn Flat) -> Result<State> {
        match self {
            Link::Transform(link) => link.init(like),
            Link::Gate(link) => link.init(like),
        }
    }
}

/// What can be optimized: anything that is one flat f32 tensor.
pub trait Flat {
    /// The values, \[n\].
    fn flat(&self) -> &Tensor;

    /// Which elements belong to parameters whose path is or lies below one of `paths`: bool \[n\].
    ///
    /// # Errors
    /// For a path that selects nothing.
    fn select(&self, paths: &[String]) -> Result<Tensor> {
        let found = format!("a plain tensor, in which nothing is called {}", paths.join(", "));
        check::refused("freeze", "parameters with paths", found, "use `Params`, or freeze nothing")
    }
}

impl Flat for Tensor {
    fn flat(&self) -> &Tensor {
        self
    }
}

impl Flat for Params {
    fn flat(&self) -> &Tensor {
        self.arena()
    }

    fn select(&self, paths: &[String]) -> Result<Tensor> {
        let index = self.index();
        let mut chosen = vec![false; index.len()];
        for path in paths {
            let below = |e: &&Entry| {
                e.path.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let mut entries = index.entries().iter().filter(below).peekable();
            if entries.peek().is_none() {
                index.require("parameter", path)?;
            }
            entries.for_each(|e| chosen[e.offset..e.offset + e.shape.numel()].fill(true));
        }
        Ok(Tensor::from_bools(self.device(), &chosen, &[chosen.len()])?)
    }
}

/// Parameters that can take new values: what [`super::Optimizer::step`] moves.
pub trait Movable: Flat + Sized {
    /// With other values of the same shape.
    fn moved(self, to: Tensor) -> Result<Self>;
}

impl Movable for Tensor {
    fn moved(self, to: Tensor) -> Result<Self> {
        Ok(to)
    }
}

impl Movable for Params {
    fn moved(self, to: Tensor) -> Result<Self> {
        self.with_arena(to)
    }
}
