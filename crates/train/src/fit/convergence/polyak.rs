//! Polyak's step: as far as the loss is above its minimum.

use std::sync::Arc;

use acclimate_tensor::Tensor;

use crate::error::Result;
use crate::optim::{Flat, Optimizer, Setting, State, StepCx, StepRule, refused};

/// Stochastic Polyak steps (Polyak 1969; Loizou et al. 2021): η = (f − f*) / (c‖g‖² + 1e-8), at most `growth` times the last
/// one, times the schedule's rate. The loss comes from the step's context, as [`crate::fit::Fit`] gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Polyak {
    /// f*: the smallest loss; 0 where a model can fit every row.
    pub minimum: f64,
    /// c; ½ is right for convex losses.
    pub c: f64,
    /// The most that η grows from step to step; γ^(rows/data) with γ = 2 in the paper.
    pub growth: f64,
    /// The largest first step.
    pub first: f64,
}

impl Default for Polyak {
    fn default() -> Self {
        Polyak { minimum: 0.0, c: 0.5, growth: 2.0, first: 1.0 }
    }
}

/// The optimizer of Polyak's steps.
pub fn polyak(config: Polyak) -> Optimizer {
    Optimizer::new(config, 1.0)
}

impl StepRule for Polyak {
    fn name(&self) -> &'static str {
        "polyak"
    }

    fn check(&self) -> Result<()> {
        let Polyak { minimum, c, growth, first } = *self;
        let fits = minimum.is_finite() && [c, growth, first].iter().all(|x| x.is_finite() && *x > 0.0);
        if fits {
            return Ok(());
        }
        let found = format!("minimum {minimum}, c {c}, growth {growth}, first {first}");
        refused("polyak", "a finite minimum and numbers above 0", found, "minimum 0 and c ½ are usual")
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        // The bound of the first step, as if a step had been before it.
        let before = single(self.first / self.growth);
        Ok(State::new().with("rate", Tensor::full(like.flat().device(), &[1], before)?))
    }

    fn step(&self, theta: &Tensor, grads: &Tensor, state: State, cx: &StepCx) -> Result<(Tensor, State)> {
        let Some(loss) = &cx.loss else {
            return refused("polyak", "the loss in the step's context", "none", "use `StepCx::with_loss`");
        };
        let above = loss.reshape(&[1])?.add_scalar(single(-self.minimum))?;
        let length = grads.square()?.sum_keep(&[0])?.mul_scalar(single(self.c))?.add_scalar(1e-8)?;
        let zero = above.zeros_like()?;
        let limit = state.require("rate")?.mul_scalar(single(self.growth))?;
        let rate = above.maximum(&zero)?.div(&length)?.minimum(&limit)?;
        let step = rate.mul(&cx.rate)?;
        let moved = theta.sub(&grads.mul(&step.broadcast_to(grads.shape())?)?)?;
        Ok((moved, State::new().with("rate", rate)))
    }

    fn with(&self, _: Setting) -> Option<Arc<dyn StepRule>> {
        None
    }
}

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "settings are f64 and used in f32")]
fn single(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use acclimate_tensor::{Device, grad};

    use super::*;

    /// f = ½ Σ a θ²: Polyak's step with c = 1 is f/‖g‖², and the growth bound holds it at first.
    #[test]
    fn steps_are_the_formula() -> Result<()> {
        let d = Device::cpu();
        let a = [1.0f64, 9.0];
        let optimizer = polyak(Polyak { c: 1.0, first: 0.01, ..Polyak::default() });
        let mut theta = Tensor::from_slice(&d, &[3.0f32, -1.0], &[2])?;
        let mut state = optimizer.init(&theta)?;
        let (mut want, mut limit) = ([3.0f64, -1.0], 0.01);
        let mut losses = Vec::new();
        for step in 0..60 {
            let weights = Tensor::from_slice(&d, &[1.0f32, 9.0], &[2])?;
            let loss = theta.square()?.mul(&weights)?.sum(&[])?.mul_scalar(0.5)?;
            let gradient = grad(&loss, theta.clone())?;
            let cx = StepCx::new(&optimizer.rate_tensor(&d, step)?).with_loss(&loss);
            (theta, state) = optimizer.step(theta, &gradient, state, &cx)?;
            losses.push(loss.item()?);
            let f: f64 = 0.5 * a.iter().zip(&want).map(|(a, t)| a * t * t).sum::<f64>();
            let g: Vec<f64> = a.iter().zip(&want).map(|(a, t)| a * t).collect();
            let rate = (f / (g.iter().map(|g| g * g).sum::<f64>() + 1e-8)).min(limit);
            limit = 2.0 * rate;
            want.iter_mut().zip(&g).for_each(|(t, g)| *t -= rate * g);
            if step < 10 {
                for (got, want) in theta.to_vec::<f32>()?.iter().zip(want) {
                    // Ten steps of some ten roundings of numbers below 4.
                    assert!((f64::from(*got) - want).abs() < 100.0 * 6e-8 * 4.0, "{step}: {got}, {want}");
                }
            }
        }
        assert!(losses[59] < 1e-3 * losses[0], "{losses:?}");
        assert!(polyak(Polyak { c: 0.0, ..Polyak::default() }).check().is_err());
        Ok(())
    }
}
