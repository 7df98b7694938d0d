//! Links that decide whether to step. The answer is a `select` on the device: nothing is read back.

use acclimate_tensor::Tensor;

use super::check;
use super::link::{Flat, Gate, StepCx};
use super::state::State;
use crate::error::Result;

/// Steps every n-th time, with the mean of the n gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accumulate {
    /// How many gradients make a step.
    pub n: u32,
}

/// Above this a count in f32 would no longer be exact.
const MOST: u32 = 1 << 24;

impl Gate for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn check(&self) -> Result<()> {
        if (1..=MOST).contains(&self.n) {
            return Ok(());
        }
        check::refused("accumulate", format!("1 to {MOST} gradients a step"), self.n, "1 steps every time")
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        let theta = like.flat();
        Ok(State::new().with("count", Tensor::zeros(theta.device(), &[1])?).with("sum", theta.zeros_like()?))
    }

    #[expect(clippy::cast_precision_loss, reason = "checked to be exact in f32")]
    fn admit(&self, grads: Tensor, state: State, _: &StepCx) -> Result<(Tensor, Tensor, State)> {
        let n = self.n as f32;
        let count = state.require("count")?.add_scalar(1.0)?;
        let sum = state.require("sum")?.add(&grads)?;
        let full = count.ge(&count.full_like(n)?)?;
        let rest = |x: &Tensor| full.select(&x.zeros_like()?, x);
        let state = State::new().with("count", rest(&count)?).with("sum", rest(&sum)?);
        Ok((sum.mul_scalar(1.0 / n)?, full, state))
    }
}

/// Does not step on a gradient with an infinity or a NaN, and counts how often (`skipped`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkipIfNotFinite;

impl Gate for SkipIfNotFinite {
    fn name(&self) -> &'static str {
        "skip_if_not_finite"
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        Ok(State::new().with("skipped", Tensor::zeros(like.flat().device(), &[1])?))
    }

    fn admit(&self, grads: Tensor, state: State, _: &StepCx) -> Result<(Tensor, Tensor, State)> {
        let (finite, skipped) = judged(&grads, &state)?;
        Ok((grads, finite, State::new().with("skipped", skipped)))
    }
}

/// Whether all elements are finite (bool \[1\]), and the state's `skipped` (f32 \[1\]) with one more where they are not.
pub(super) fn judged(grads: &Tensor, state: &State) -> Result<(Tensor, Tensor)> {
    // 1 where an element is not finite: the maximum says whether any is.
    let bad = grads.is_finite()?.select(&grads.zeros_like()?, &grads.ones_like()?)?.max_keep(&[0])?;
    let skipped = state.require("skipped")?.add(&bad)?;
    // The second half always holds. It makes the counter something that the parameters need: a loop that reads only its loss
    // would otherwise carry a chain of counts that nobody has asked for yet.
    let finite = bad.lt(&bad.full_like(0.5)?)?.and(&skipped.ge(&bad.zeros_like()?)?)?;
    Ok((finite, skipped))
}
