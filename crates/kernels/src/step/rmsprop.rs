//! RMSprop (Hinton 2012), centered as in Graves (2013).
//!
//! g = grad + weight_decay·θ; s ← α·s + (1 − α)·g²; a ← a + (1 − α)(g − a) and w = s − a² if centered, else w = s;
//! θ ← θ − rate·g/(√w + eps), or with momentum u ← momentum·u + g/(√w + eps) and θ ← θ − rate·u.
//! The gradient of a step is not a number where w is 0: that of √ is infinite there.

use acclimate_shaders::{Shader, shaders};
use acclimate_tensor::op::Launch;
use acclimate_tensor::{Real, Result, Tensor};

use super::{Now, Part, Rule, by_bits, require};

/// Hyper-parameters of RMSprop, under PyTorch's names.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropConfig {
    /// Share of the average of squares that is kept.
    pub alpha: f64,
    /// Added to the root of the average.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Share of the last direction that is kept; 0 remembers none.
    pub momentum: f64,
    /// Divides by the deviation in place of the root mean square.
    pub centered: bool,
}
by_bits!(RmsPropConfig { alpha, eps, weight_decay, momentum; centered });

impl Default for RmsPropConfig {
    fn default() -> Self {
        RmsPropConfig { alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl Rule for RmsPropConfig {
    const NAME: &'static str = "rmsprop";

    fn states(&self) -> Vec<&'static str> {
        let mut names = vec!["square_average"];
        if self.centered {
            names.push("gradient_average");
        }
        if self.momentum > 0.0 {
            names.push("momentum");
        }
        names
    }

    fn validate(&self) -> Result<()> {
        let alpha = (0.0..1.0).contains(&self.alpha);
        require(Self::NAME, "alpha", "a number from 0 to below 1", alpha, self.alpha)?;
        for (what, x) in [("eps", self.eps), ("weight_decay", self.weight_decay), ("momentum", self.momentum)] {
            require(Self::NAME, what, "a finite number of at least 0", x >= 0.0 && x.is_finite(), x)?;
        }
        Ok(())
    }

    #[inline(always)] // so that it is compiled for each kind of vectors
    fn advance<R: Real>(&self, part: Part<'_, R>) {
        let [alpha, rest, eps] = [self.alpha, 1.0 - self.alpha, self.eps].map(R::of);
        let [decay, momentum] = [self.weight_decay, self.momentum].map(R::of);
        let mut states = part.states.into_iter().flatten();
        let Some(square) = states.next() else { return };
        let mut average = if self.centered { states.next() } else { None };
        let mut buffer = states.next();
        for (i, ((x, &g), s)) in part.theta.iter_mut().zip(part.grad).zip(square).enumerate() {
            let g = g + decay * *x;
            *s = alpha * *s + rest * g * g;
            let mut w = *s;
            if let Some(a) = average.as_mut().and_then(|a| a.get_mut(i)) {
                *a += rest * (g - *a);
                w -= *a * *a;
                // A variance; rounding can push it below zero.
                w = if w < R::ZERO { R::ZERO } else { w };
            }
            let mut direction = g / (w.sqrt() + eps);
            if let Some(u) = buffer.as_mut().and_then(|u| u.get_mut(i)) {
                *u = momentum * *u + direction;
                direction = *u;
            }
            *x -= part.rate * direction;
        }
    }

    fn graph(&self, now: &Now) -> Result<(Tensor, Vec<Tensor>)> {
        let rest = (1.0 - self.alpha) as f32;
        let g = now.grad.add(&now.theta.mul_scalar(self.weight_decay as f32)?)?;
        let mut old = now.states.iter();
        let square = old.next().unwrap_or(&now.grad);
        let square = square.mul_scalar(self.alpha as f32)?.add(&g.square()?.mul_scalar(rest)?)?;
        let mut states = vec![square.clone()];
        let mut w = square;
        if self.centered
            && let Some(a) = old.next()
        {
            let a = a.add(&g.sub(a)?.mul_scalar(rest)?)?;
            w = w.sub(&a.square()?)?.relu()?;
            states.push(a);
        }
        let mut direction = g.div(&w.sqrt()?.add_scalar(self.eps as f32)?)?;
        if let Some(u) = old.next() {
            direction = u.mul_scalar(self.momentum as f32)?.add(&direction)?;
            states.push(direction.clone());
        }
        Ok((now.theta.sub(&now.rate.mul(&direction)?)?, states))
    }

    fn shader(&self) -> (&'static Shader, Vec<Option<usize>>) {
        let buffer = (self.momentum > 0.0).then_some(1 + usize::from(self.centered));
        (&shaders::RMSPROP, vec![Some(0), self.centered.then_some(1), buffer])
    }

    fn params(&self, launch: Launch) -> Launch {
        let floats = [self.alpha, 1.0 - self.alpha, self.eps, self.weight_decay, self.momentum];
        floats.iter().fold(launch, |l, &x| l.f32(x as f32)).u32(usize::from(self.centered))
    }
}

/// One step of RMSprop; `states`: average of squares, average of gradients if centered, momentum if there is one. See
/// [`super::apply`].
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// use acclimate_kernels::step::{RmsPropConfig, init, rmsprop};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let theta = Tensor::from_slice(&d, &[1.0f32], &[1])?;
/// let grad = Tensor::from_slice(&d, &[4.0f32], &[1])?;
/// let (rate, step) = (Tensor::full(&d, &[1], 0.1)?, Tensor::full(&d, &[1], 1.0)?);
/// let config = RmsPropConfig { alpha: 0.75, ..RmsPropConfig::default() };
/// let (theta, _) = rmsprop(&theta, &grad, &init(&config, &theta)?, &rate, &step, config)?;
/// assert!((theta.item()? - 0.8).abs() < 1e-6); // s = ¼ · 16, so the direction is 4 / 2
/// # Ok(()) }
/// ```
#[track_caller]
pub fn rmsprop(
    theta: &Tensor,
    grad: &Tensor,
    states: &[Tensor],
    rate: &Tensor,
    step: &Tensor,
    config: RmsPropConfig,
) -> Result<(Tensor, Vec<Tensor>)> {
    super::apply(&config, theta, grad, states, rate, step)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use super::case;

    let plain = RmsPropConfig { weight_decay: 0.1, ..RmsPropConfig::default() };
    let (s, a, u) = ((1.0, 2.0), (-0.5, 0.5), (-1.0, 1.0));
    let mut cases = Vec::new();
    for (n, slots) in [(1, 1), (7, 1), (6, 3), (257, 1), (1025, 5)] {
        cases.push(case("plain", plain, n, slots, 2.0, &[s]));
        cases.push(case("momentum", RmsPropConfig { momentum: 0.9, ..plain }, n, slots, 2.0, &[s, u]));
        cases.push(case("centered", RmsPropConfig { centered: true, ..plain }, n, slots, 2.0, &[s, a]));
        let both = RmsPropConfig { centered: true, momentum: 0.9, ..plain };
        cases.push(case("centered with momentum", both, n, slots, 2.0, &[s, a, u]));
    }
    cases.push(case("several stretches", plain, 20_000, 1, 2.0, &[s]).order(crate::testkit::Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    let mut rows = super::common_rejects!(RmsPropConfig::default());
    rows.extend([crate::testkit::Reject::new("alpha", &["rmsprop", "alpha", "NaN"], |d| {
        let (x, one) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[1])?);
        let config = RmsPropConfig { alpha: f64::NAN, ..RmsPropConfig::default() };
        Ok(rmsprop(&x, &x, &super::init(&config, &x)?, &one, &one, config)?.0)
    })]);
    rows
}
