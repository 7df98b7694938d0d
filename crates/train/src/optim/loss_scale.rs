//! Dynamic loss scaling (Micikevicius et al. 2018), by the names, defaults and rule of PyTorch's `GradScaler`. Everything is
//! decided on the device: the same plan each step, and nothing is read back.

use acclimate_tensor::Tensor;

use super::check;
use super::gates::judged;
use super::link::{Flat, Gate, StepCx};
use super::state::State;
use crate::error::Result;

/// Divides gradients by the scale that the loss was multiplied with, does not step where one of them is not finite, and
/// moves the scale: down at once where a step is left out, up after a number of steps in a row that were not.
///
/// State: `scale` \[1\], by which the next loss is to be multiplied ([`super::Optimizer::scaled`]); `growth_tracker` \[1\],
/// steps since the scale last moved or a step was left out; `skipped` \[1\], steps left out so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// The first scale.
    pub init_scale: f64,
    /// Factor after `growth_interval` steps in a row.
    pub growth_factor: f64,
    /// Factor after a step that was left out.
    pub backoff_factor: f64,
    /// Steps in a row after which the scale grows.
    pub growth_interval: u32,
}

impl Default for LossScale {
    /// 65536, 2, ½, 2000.
    fn default() -> Self {
        LossScale { init_scale: 65536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

/// Above this a count in f32 would no longer be exact.
const MOST: u32 = 1 << 24;

impl Gate for LossScale {
    fn name(&self) -> &'static str {
        "loss_scale"
    }

    fn check(&self) -> Result<()> {
        let LossScale { init_scale, growth_factor, backoff_factor, growth_interval } = *self;
        check::positive("loss scale", init_scale, "65536 is usual")?;
        if !(growth_factor.is_finite() && growth_factor > 1.0) {
            return check::refused("growth factor of the loss scale", "above 1", growth_factor, "2 is usual");
        }
        if !(backoff_factor > 0.0 && backoff_factor < 1.0) {
            return check::refused("backoff factor of the loss scale", "in (0, 1)", backoff_factor, "0.5 is usual");
        }
        if (1..=MOST).contains(&growth_interval) {
            return Ok(());
        }
        let expected = format!("1 to {MOST} steps");
        check::refused("growth interval of the loss scale", expected, growth_interval, "2000 is usual")
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        let zero = || Tensor::zeros(like.flat().device(), &[1]);
        let scale = Tensor::full(like.flat().device(), &[1], single(self.init_scale))?;
        Ok(State::new().with("scale", scale).with("growth_tracker", zero()?).with("skipped", zero()?))
    }

    fn scales_loss(&self) -> bool {
        true
    }

    #[expect(clippy::cast_precision_loss, reason = "checked to be exact in f32")]
    fn admit(&self, grads: Tensor, state: State, cx: &StepCx) -> Result<(Tensor, Tensor, State)> {
        if !cx.is_scaled {
            let expected = "a loss that was multiplied by `Optimizer::scaled`, and a context that says so";
            return check::refused("loss_scale", expected, "one that was not", "use `Fit`, or `StepCx::scaled`");
        }
        let (scale, tracker) = (state.require("scale")?, state.require("growth_tracker")?);
        let (finite, skipped) = judged(&grads, &state)?;
        let steps = tracker.add_scalar(1.0)?;
        let full = steps.ge(&steps.full_like(self.growth_interval as f32)?)?;
        let grown = scale.mul_scalar(single(self.growth_factor))?;
        // A scale that would be infinite stays.
        let grown = grown.is_finite()?.and(&full)?.select(&grown, scale)?;
        let rest = full.select(&steps.zeros_like()?, &steps)?;
        let next = State::new()
            .with("scale", finite.select(&grown, &scale.mul_scalar(single(self.backoff_factor))?)?)
            .with("growth_tracker", finite.select(&rest, &steps.zeros_like()?)?)
            .with("skipped", skipped);
        Ok((unscaled(&grads, scale)?, finite, next))
    }
}

/// Gradients of the loss itself, of those of the scaled one.
pub(super) fn unscaled(grads: &Tensor, scale: &Tensor) -> Result<Tensor> {
    Ok(grads.mul(&scale.recip()?)?)
}

#[expect(clippy::cast_possible_truncation, reason = "settings are f64, tensors f32")]
fn single(x: f64) -> f32 {
    x as f32
}
