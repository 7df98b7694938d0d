//! Adagrad (Duchi, Hazan & Singer 2011).
//!
//! g = grad + weight_decay·θ; s ← s + g²; θ ← θ − rate/(1 + (t − 1)·rate_decay) · g/(√s + eps).
//! The gradient of a step is not a number where s is 0: that of √ is infinite there.

use acclimate_shaders::{Shader, shaders};
use acclimate_tensor::op::Launch;
use acclimate_tensor::{Real, Result, Tensor};

use super::{Now, Part, Rule, by_bits, require};

/// Hyper-parameters of Adagrad.
#[derive(Clone, Copy, Debug)]
pub struct AdagradConfig {
    /// How fast the rate falls with the steps (PyTorch's `lr_decay`).
    pub rate_decay: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Value of the sum of squares before the first step.
    pub initial_accumulator: f64,
    /// Added to the root of the sum.
    pub eps: f64,
}
by_bits!(AdagradConfig { rate_decay, weight_decay, initial_accumulator, eps });

impl Default for AdagradConfig {
    fn default() -> Self {
        AdagradConfig { rate_decay: 0.0, weight_decay: 0.0, initial_accumulator: 0.0, eps: 1e-10 }
    }
}

impl Rule for AdagradConfig {
    const NAME: &'static str = "adagrad";

    fn states(&self) -> Vec<&'static str> {
        vec!["square_sum"]
    }

    fn initial(&self) -> f32 {
        self.initial_accumulator as f32
    }

    fn validate(&self) -> Result<()> {
        let all = [
            ("rate_decay", self.rate_decay),
            ("weight_decay", self.weight_decay),
            ("initial_accumulator", self.initial_accumulator),
            ("eps", self.eps),
        ];
        for (what, x) in all {
            require(Self::NAME, what, "a finite number of at least 0", x >= 0.0 && x.is_finite(), x)?;
        }
        Ok(())
    }

    #[inline(always)] // so that it is compiled for each kind of vectors
    fn advance<R: Real>(&self, part: Part<'_, R>) {
        let [rate_decay, decay, eps] = [self.rate_decay, self.weight_decay, self.eps].map(R::of);
        let rate = part.rate / (R::ONE + (part.step - R::ONE) * rate_decay);
        let Some(sum) = part.states.into_iter().flatten().next() else { return };
        for ((x, &g), s) in part.theta.iter_mut().zip(part.grad).zip(sum) {
            let g = g + decay * *x;
            *s += g * g;
            *x -= rate * g / (s.sqrt() + eps);
        }
    }

    fn graph(&self, now: &Now) -> Result<(Tensor, Vec<Tensor>)> {
        let g = now.grad.add(&now.theta.mul_scalar(self.weight_decay as f32)?)?;
        let sum = now.states[0].add(&g.square()?)?;
        let slower = now.step.add_scalar(-1.0)?.mul_scalar(self.rate_decay as f32)?.add_scalar(1.0)?;
        let move_ = now.rate.div(&slower)?.mul(&g)?.div(&sum.sqrt()?.add_scalar(self.eps as f32)?)?;
        Ok((now.theta.sub(&move_)?, vec![sum]))
    }

    fn shader(&self) -> (&'static Shader, Vec<Option<usize>>) {
        (&shaders::ADAGRAD, vec![Some(0)])
    }

    fn params(&self, launch: Launch) -> Launch {
        [self.rate_decay, self.eps, self.weight_decay].iter().fold(launch, |l, &x| l.f32(x as f32))
    }
}

/// One step of Adagrad; `states`: the sum of squares. See [`super::apply`].
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// use acclimate_kernels::step::{AdagradConfig, adagrad, init};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let theta = Tensor::from_slice(&d, &[1.0f32], &[1])?;
/// let grad = Tensor::from_slice(&d, &[4.0f32], &[1])?;
/// let (rate, step) = (Tensor::full(&d, &[1], 0.1)?, Tensor::full(&d, &[1], 1.0)?);
/// let config = AdagradConfig::default();
/// let (theta, states) = adagrad(&theta, &grad, &init(&config, &theta)?, &rate, &step, config)?;
/// assert!((theta.item()? - 0.9).abs() < 1e-6);
/// assert_eq!(states[0].item()?, 16.0);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn adagrad(
    theta: &Tensor,
    grad: &Tensor,
    states: &[Tensor],
    rate: &Tensor,
    step: &Tensor,
    config: AdagradConfig,
) -> Result<(Tensor, Vec<Tensor>)> {
    super::apply(&config, theta, grad, states, rate, step)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use super::case;

    let config = AdagradConfig { rate_decay: 0.1, weight_decay: 0.1, ..AdagradConfig::default() };
    let mut cases = Vec::new();
    for (n, slots) in [(1, 1), (7, 1), (6, 3), (257, 1), (1025, 5)] {
        cases.push(case("decaying", config, n, slots, 5.0, &[(0.5, 2.0)]));
    }
    cases.push(case("several stretches", config, 20_000, 1, 2.0, &[(0.5, 2.0)]).order(crate::testkit::Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    let mut rows = super::common_rejects!(AdagradConfig::default());
    rows.extend([crate::testkit::Reject::new("eps", &["adagrad", "eps", "-1"], |d| {
        let (x, one) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[1])?);
        let config = AdagradConfig { eps: -1.0, ..AdagradConfig::default() };
        Ok(adagrad(&x, &x, &super::init(&config, &x)?, &one, &one, config)?.0)
    })]);
    rows
}
