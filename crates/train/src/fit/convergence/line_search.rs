//! Line search as graph: all trial rates at once, and the largest that keeps Armijo's promise.

use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{DType, Tensor};

use crate::error::{Error, Result};
use crate::optim::refused;

/// Armijo's condition f(θ − ηg) ≤ f(θ) − c·η‖g‖² over the rates η, ηβ, ηβ², .. (Armijo 1966). On the loss of a batch that is
/// the stochastic line search of Vaswani et al. 2019, for which trials must see the same batch as the gradient did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Armijo {
    /// c: the share of the promised decrease that is asked for.
    pub decrease: f32,
    /// β.
    pub shrink: f32,
    /// How many rates are tried. They are tried side by side, so this is memory, not waiting.
    pub trials: u32,
    /// The rate where none of them keeps the promise.
    pub fallback: f32,
    /// What the next search may begin with, as a multiple of the rate taken (γ^(rows/data) with γ = 2 in the paper).
    pub growth: f32,
}

impl Default for Armijo {
    /// c = .1, β = .5, 20 rates down to 2e-6 of the first, growth 2. (The paper shrinks by .9 up to 100 times.)
    fn default() -> Self {
        Armijo { decrease: 0.1, shrink: 0.5, trials: 20, fallback: 1e-6, growth: 2.0 }
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Searched {
    /// Parameters after the step, \[n\].
    pub theta: Tensor,
    /// The rate taken, \[1\].
    pub rate: Tensor,
    /// The rate that the next search may begin with, \[1\].
    pub next: Tensor,
    /// Whether a rate kept the promise, bool \[1\].
    pub accepted: Tensor,
}

impl Armijo {
    /// One step from `theta` (\[n\], with its loss and gradient) along the negative gradient, recorded. `first`: the
    /// largest rate, \[1\].
    ///
    /// # Errors
    /// For constants outside their domain, or as the objective does.
    pub fn step(
        &self,
        objective: impl Fn(&Tensor) -> Result<Tensor>,
        theta: &Tensor,
        loss: &Tensor,
        gradient: &Tensor,
        first: &Tensor,
    ) -> Result<Searched> {
        let Armijo { decrease, shrink, trials, fallback, growth } = *self;
        let share = |x: f32| x > 0.0 && x < 1.0;
        let fits = share(decrease) && share(shrink) && trials > 0 && fallback >= 0.0 && growth >= 1.0;
        if !fits {
            let found = format!("{self:?}");
            return refused(
                "line search",
                "decrease and shrink in (0, 1), a trial or more, growth of at least 1",
                found,
                "use the default",
            );
        }
        let n = usize::try_from(trials).unwrap_or(usize::MAX);
        let device = theta.device();
        let powers: Vec<f32> =
            (0..trials).map(|i| shrink.powf(f32::from(u16::try_from(i).unwrap_or(u16::MAX)))).collect();
        let rates = first.broadcast_to(&acclimate_tensor::Shape::new(&[n])?)?.mul(&Tensor::from_slice(
            device,
            &powers,
            &[n],
        )?)?;
        let losses = vmap_with(
            |rate: Tensor| {
                let step = gradient.mul(&rate.broadcast_to(gradient.shape())?)?;
                Ok::<_, Error>(objective(&theta.sub(&step)?)?.reshape(&[])?)
            },
            rates.clone(),
        )?;
        let length = gradient.square()?.sum_keep(&[0])?;
        let promised = rates.mul(&length.expand(&[n])?)?.mul_scalar(decrease)?;
        let bound = loss.reshape(&[1])?.expand(&[n])?.sub(&promised)?;
        // A loss that is not a number keeps no promise.
        let kept = losses.le(&bound)?.cast(DType::F32)?;
        let accepted = kept.max(&[0])?.reshape(&[1])?.gt(&Tensor::zeros(device, &[1])?)?;
        // Rates fall, so the largest that was kept is the largest product.
        let best = kept.mul(&rates)?.max(&[0])?.reshape(&[1])?;
        let rate = accepted.select(&best, &best.full_like(fallback)?)?;
        let moved = theta.sub(&gradient.mul(&rate.broadcast_to(gradient.shape())?)?)?;
        Ok(Searched { theta: moved, next: rate.mul_scalar(growth)?, rate, accepted })
    }
}

/// η such that the quadratic model with curvature L promises the most: 1/L; beyond 2/L it promises a rise.
pub fn largest_stable_rate(smoothness: f64) -> f64 {
    2.0 / smoothness
}

/// Actual decrease over that promised by −η‖g‖² + ½η²L‖g‖²: below .25 the model is not to be trusted that far, above .75 it
/// may go further (the rule of trust regions; Nocedal & Wright 2006, algorithm 4.1).
pub fn decrease_ratio(before: f64, after: f64, rate: f64, gradient: f64, smoothness: f64) -> f64 {
    let promised = rate * gradient * gradient * (1.0 - rate * smoothness / 2.0);
    (before - after) / promised
}

#[cfg(test)]
mod tests {
    use acclimate_tensor::{Device, grad};

    use super::*;

    /// f = ½·8·θ²: f(θ − ηg) = f·(1 − 8η)², so Armijo with c = .1 holds up to η = 2(1 − c)/8 = .225.
    #[test]
    fn the_largest_rate_that_keeps_the_promise_is_taken() -> Result<()> {
        let d = Device::cpu();
        let objective = |theta: &Tensor| Ok(theta.square()?.sum(&[])?.mul_scalar(4.0)?);
        for (first, want) in [(1.0f32, 0.125f32), (0.2, 0.2), (0.8, 0.2)] {
            let theta = Tensor::from_slice(&d, &[1.5f32, -0.5], &[2])?;
            let loss = objective(&theta)?;
            let gradient = grad(&loss, theta.clone())?;
            let first = Tensor::full(&d, &[1], first)?;
            let found = Armijo::default().step(objective, &theta, &loss, &gradient, &first)?;
            let rate = found.rate.item()?;
            assert!((rate - want).abs() < 1e-6, "{rate}, expected {want}");
            assert!(found.accepted.to_vec::<u32>()?[0] == 1);
            assert!((found.next.item()? - 2.0 * rate).abs() < 1e-6);
        }
        // Uphill there is nothing to accept.
        let theta = Tensor::from_slice(&d, &[1.0f32, 0.0], &[2])?;
        let loss = objective(&theta)?;
        let uphill = grad(&loss, theta.clone())?.neg()?;
        let found = Armijo::default().step(objective, &theta, &loss, &uphill, &Tensor::ones(&d, &[1])?)?;
        assert_eq!((found.accepted.to_vec::<u32>()?[0], found.rate.item()?), (0, 1e-6));
        assert!(
            Armijo { shrink: 1.0, ..Armijo::default() }
                .step(objective, &theta, &loss, &uphill, &Tensor::ones(&d, &[1])?)
                .is_err()
        );
        Ok(())
    }

    #[test]
    fn promised_and_kept() {
        // On a quadratic of curvature 4 the model is exact.
        let f = |x: f64| 2.0 * x * x;
        assert!((decrease_ratio(f(1.0), f(1.0 - 0.1 * 4.0), 0.1, 4.0, 4.0) - 1.0).abs() < 1e-12);
        assert_eq!(largest_stable_rate(4.0), 0.5);
    }
}
