//! Links that change gradients: clipping, decay, freezing.

use acclimate_tensor::Tensor;

use super::check;
use super::link::{Flat, StepCx, Transform};
use super::state::State;
use crate::error::Result;

/// g ← g · min(1, max / (‖g‖ + 1e-6)), the norm taken over all parameters (PyTorch's `clip_grad_norm_`). A norm that is
/// not a number makes every element so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipNorm {
    /// The largest norm that passes unchanged.
    pub max: f64,
}

impl Transform for ClipNorm {
    fn name(&self) -> &'static str {
        "clip_norm"
    }

    fn check(&self) -> Result<()> {
        check::positive("clip_norm", self.max, "1 is usual")
    }

    fn apply(&self, grads: Tensor, _: &Tensor, state: State, _: &StepCx) -> Result<(Tensor, State)> {
        let scale = norm(&grads)?.add_scalar(1e-6)?.recip()?.mul_scalar(single(self.max))?;
        Ok((grads.mul(&scale.minimum(&scale.ones_like()?)?)?, state))
    }
}

/// The Euclidean norm of all elements: f32 \[1\].
///
/// # Errors
/// If the tensor is not f32.
pub fn norm(x: &Tensor) -> Result<Tensor> {
    Ok(x.reshape(&[x.numel()])?.square()?.sum_keep(&[0])?.sqrt()?)
}

/// Each element cut to [−max, max].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipValue {
    /// The largest magnitude that passes unchanged.
    pub max: f64,
}

impl Transform for ClipValue {
    fn name(&self) -> &'static str {
        "clip_value"
    }

    fn check(&self) -> Result<()> {
        check::positive("clip_value", self.max, "1 is usual")
    }

    fn apply(&self, grads: Tensor, _: &Tensor, state: State, _: &StepCx) -> Result<(Tensor, State)> {
        let max = Tensor::full(grads.device(), &[1], single(self.max))?;
        Ok((grads.minimum(&max)?.maximum(&max.neg()?)?, state))
    }
}

/// g ← g + decay · θ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddDecay {
    /// The penalty.
    pub decay: f64,
}

impl Transform for AddDecay {
    fn name(&self) -> &'static str {
        "add_decay"
    }

    fn check(&self) -> Result<()> {
        check::not_negative("add_decay", self.decay, "1e-4 is usual")
    }

    fn apply(&self, grads: Tensor, theta: &Tensor, state: State, _: &StepCx) -> Result<(Tensor, State)> {
        Ok((grads.add(&theta.mul_scalar(single(self.decay))?)?, state))
    }
}

/// Parameters at or below these paths keep their bits, whatever decay or momentum would do to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    /// Paths of parameters, or of layers that hold them.
    pub paths: Vec<String>,
}

impl Transform for Freeze {
    fn name(&self) -> &'static str {
        "freeze"
    }

    fn check(&self) -> Result<()> {
        if self.paths.is_empty() {
            return check::refused("freeze", "at least one path", "none", "leave `freeze` out to move everything");
        }
        Ok(())
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        let frozen = like.select(&self.paths)?.cast(acclimate_tensor::DType::F32)?;
        Ok(State::new().with("frozen", frozen))
    }

    fn apply(&self, grads: Tensor, _: &Tensor, state: State, _: &StepCx) -> Result<(Tensor, State)> {
        let passed = frozen(&state)?.select(&grads.zeros_like()?, &grads)?;
        Ok((passed, state))
    }

    fn settle(&self, old: &Tensor, new: Tensor, state: &State) -> Result<Tensor> {
        Ok(frozen(state)?.select(old, &new)?)
    }
}

fn frozen(state: &State) -> Result<Tensor> {
    Ok(state.require("frozen")?.cast(acclimate_tensor::DType::Bool)?)
}

#[expect(clippy::cast_possible_truncation, reason = "settings are f64, tensors f32")]
fn single(x: f64) -> f32 {
    x as f32
}
