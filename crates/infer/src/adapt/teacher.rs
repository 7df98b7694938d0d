//! A second model that follows the first slowly, and what happens to the overlay after each step.

use acclimate_kernels::TensorOps;
use acclimate_kernels::random::{Key, bernoulli};
use acclimate_tensor::Tensor;
use serde::Serialize;

use super::state::Carried;
use crate::error::Error;
use crate::views::Views;

/// The teacher's overlay: f32 \[len of the overlay\].
pub(super) const TEACHER: &str = "teacher";

/// A teacher: the model under an overlay of its own, an exponential mean of the student's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Teacher {
    /// What the teacher keeps of itself at each step.
    pub keep: f32,
    /// Its answer is the mean of the logits over so many views, where the source model is unsure of the batch.
    pub views: Option<Views>,
    /// Unsure: the source model's mean confidence is below this.
    pub unsure: f32,
}

/// What happens to the overlay after a step, in this order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Settle {
    /// θ ← m·θ + (1 − m)·θ₀: back towards the source (ROID).
    TowardsSource(
        /// m.
        f32,
    ),
    /// Each element goes back to the source with this probability (CoTTA).
    Restore(
        /// The probability.
        f32,
    ),
}

impl Settle {
    pub(super) fn apply(self, delta: &Tensor, key: &Key) -> Result<Tensor, Error> {
        Ok(match self {
            Settle::TowardsSource(keep) => delta.mul_scalar(keep)?,
            Settle::Restore(p) => {
                let back = bernoulli(key, p, delta.dims())?;
                back.select(&delta.zeros_like()?, delta)?
            }
        })
    }
}

impl Teacher {
    /// The teacher after a step of the student to `delta`.
    pub(super) fn follow(self, state: Carried, delta: &Tensor) -> Result<Carried, Error> {
        let old = state.memory(TEACHER)?;
        let new = old.mul_scalar(self.keep)?.add(&delta.mul_scalar(1.0 - self.keep)?)?;
        Ok(state.remember(TEACHER, new))
    }

    /// Its answer: `plain` [n, c], or the mean over `views` [k, n, c] where the source's answers, `source` [n, c], are
    /// unsure.
    pub(super) fn answer(self, plain: &Tensor, views: Option<&Tensor>, source: &Tensor) -> Result<Tensor, Error> {
        let Some(views) = views else { return Ok(plain.clone()) };
        let confidence = source.log_softmax(1)?.max(&[1])?.exp()?.mean(&[])?;
        let unsure = confidence.lt(&confidence.full_like(self.unsure)?)?;
        Ok(unsure.broadcast_to(plain.shape())?.select(&views.mean(&[0])?, plain)?)
    }
}
