//! Lion (Chen et al. 2023).
//!
//! c = β₁·m + (1 − β₁)·grad; θ ← θ − rate·(sign(c) + weight_decay·θ); m ← β₂·m + (1 − β₂)·grad.
//! The sign of 0 is 0, that of NaN is NaN. The gradient of a step does not go through the sign.

use acclimate_shaders::{Shader, shaders};
use acclimate_tensor::op::Launch;
use acclimate_tensor::{Real, Result, Tensor};

use super::{Now, Part, Rule, by_bits, require};

/// Hyper-parameters of Lion.
#[derive(Clone, Copy, Debug)]
pub struct LionConfig {
    /// Share of the moment in the direction.
    pub beta1: f64,
    /// Share of the moment that is kept.
    pub beta2: f64,
    /// Rate at which weights decay by themselves.
    pub weight_decay: f64,
}
by_bits!(LionConfig { beta1, beta2, weight_decay });

impl Default for LionConfig {
    fn default() -> Self {
        LionConfig { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

impl Rule for LionConfig {
    const NAME: &'static str = "lion";

    fn states(&self) -> Vec<&'static str> {
        vec!["moment"]
    }

    fn validate(&self) -> Result<()> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        require(Self::NAME, "beta1", "a number from 0 to below 1", share(self.beta1), self.beta1)?;
        require(Self::NAME, "beta2", "a number from 0 to below 1", share(self.beta2), self.beta2)?;
        let decay = self.weight_decay >= 0.0 && self.weight_decay.is_finite();
        require(Self::NAME, "weight_decay", "a finite number of at least 0", decay, self.weight_decay)
    }

    #[inline(always)] // so that it is compiled for each kind of vectors
    fn advance<R: Real>(&self, part: Part<'_, R>) {
        let [beta1, rest1, beta2, rest2] = [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2].map(R::of);
        let (rate, shrink) = (part.rate, R::ONE - part.rate * R::of(self.weight_decay));
        let Some(moment) = part.states.into_iter().flatten().next() else { return };
        for ((x, &g), m) in part.theta.iter_mut().zip(part.grad).zip(moment) {
            let c = beta1 * *m + rest1 * g;
            let sign = if c > R::ZERO {
                R::ONE
            } else if c < R::ZERO {
                -R::ONE
            } else {
                c * R::ZERO // 0, or NaN of NaN
            };
            *x = *x * shrink - rate * sign;
            *m = beta2 * *m + rest2 * g;
        }
    }

    fn graph(&self, now: &Now) -> Result<(Tensor, Vec<Tensor>)> {
        let [beta1, rest1, beta2, rest2] =
            [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2].map(|x| x as f32);
        let m = &now.states[0];
        let sign = m.mul_scalar(beta1)?.add(&now.grad.mul_scalar(rest1)?)?.sign()?;
        let shrink = now.rate.mul_scalar(-self.weight_decay as f32)?.add_scalar(1.0)?;
        let theta = now.theta.mul(&shrink)?.sub(&now.rate.mul(&sign)?)?;
        Ok((theta, vec![m.mul_scalar(beta2)?.add(&now.grad.mul_scalar(rest2)?)?]))
    }

    fn shader(&self) -> (&'static Shader, Vec<Option<usize>>) {
        (&shaders::LION, vec![Some(0)])
    }

    fn params(&self, launch: Launch) -> Launch {
        let floats = [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2, self.weight_decay];
        floats.iter().fold(launch, |l, &x| l.f32(x as f32))
    }
}

/// One step of Lion; `states`: the moment. See [`super::apply`].
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// use acclimate_kernels::step::{LionConfig, init, lion};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let theta = Tensor::from_slice(&d, &[1.0f32, 1.0], &[2])?;
/// let grad = Tensor::from_slice(&d, &[4.0f32, 0.0], &[2])?;
/// let (rate, step) = (Tensor::full(&d, &[1], 0.25)?, Tensor::full(&d, &[1], 1.0)?);
/// let config = LionConfig::default();
/// let (theta, _) = lion(&theta, &grad, &init(&config, &theta)?, &rate, &step, config)?;
/// assert_eq!(theta.to_vec::<f32>()?, [0.75, 1.0]);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn lion(
    theta: &Tensor,
    grad: &Tensor,
    states: &[Tensor],
    rate: &Tensor,
    step: &Tensor,
    config: LionConfig,
) -> Result<(Tensor, Vec<Tensor>)> {
    super::apply(&config, theta, grad, states, rate, step)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use super::case;

    let config = LionConfig { weight_decay: 0.1, ..LionConfig::default() };
    let mut cases = Vec::new();
    for (n, slots) in [(1, 1), (7, 1), (6, 3), (257, 1), (1025, 5)] {
        cases.push(case("decaying", config, n, slots, 2.0, &[(-1.0, 1.0)]));
    }
    cases.push(case("several stretches", config, 20_000, 1, 2.0, &[(-1.0, 1.0)]).order(crate::testkit::Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    let mut rows = super::common_rejects!(LionConfig::default());
    rows.extend([crate::testkit::Reject::new("beta 1", &["lion", "beta1", "below 1"], |d| {
        let (x, one) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[1])?);
        let config = LionConfig { beta1: 1.0, ..LionConfig::default() };
        Ok(lion(&x, &x, &super::init(&config, &x)?, &one, &one, config)?.0)
    })]);
    rows
}
