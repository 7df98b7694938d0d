//! Gradient descent with momentum (Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013).
//!
//! g = grad + weight_decay·θ; u = g at step 1, then momentum·u + (1 − dampening)·g;
//! θ ← θ − rate·g without momentum, θ − rate·(g + momentum·u) with Nesterov's, else θ − rate·u.

use acclimate_shaders::{Shader, shaders};
use acclimate_tensor::op::Launch;
use acclimate_tensor::{Real, Result, Tensor};

use super::{Now, Part, Rule, by_bits, require};

/// Hyper-parameters of gradient descent, under PyTorch's names.
#[derive(Clone, Copy, Debug, Default)]
pub struct SgdConfig {
    /// Share of the last direction that is kept; 0 remembers nothing.
    pub momentum: f64,
    /// Share of the gradient that does not enter the momentum.
    pub dampening: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Nesterov's momentum: looks ahead along the direction. Needs momentum and no dampening.
    pub nesterov: bool,
}
by_bits!(SgdConfig { momentum, dampening, weight_decay; nesterov });

impl Rule for SgdConfig {
    const NAME: &'static str = "sgd";

    fn states(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 { vec![] } else { vec!["momentum"] }
    }

    fn validate(&self) -> Result<()> {
        let (name, positive) = (Self::NAME, "a finite number of at least 0");
        let ok = |x: f64| x >= 0.0 && x.is_finite();
        require(name, "momentum", positive, ok(self.momentum), self.momentum)?;
        require(name, "dampening", "a finite number", self.dampening.is_finite(), self.dampening)?;
        require(name, "weight_decay", positive, ok(self.weight_decay), self.weight_decay)?;
        let plain = !self.nesterov || self.momentum > 0.0;
        require(name, "momentum", "above 0, since Nesterov's momentum is asked for", plain, self.momentum)?;
        let plain = !self.nesterov || self.dampening == 0.0;
        require(name, "dampening", "0, since Nesterov's momentum is asked for", plain, self.dampening)
    }

    #[inline(always)] // so that it is compiled for each kind of vectors
    fn advance<R: Real>(&self, part: Part<'_, R>) {
        let [momentum, keep, decay] = [self.momentum, 1.0 - self.dampening, self.weight_decay].map(R::of);
        let (rate, is_first) = (part.rate, part.step <= R::ONE);
        let mut states = part.states.into_iter().flatten();
        let Some(buffer) = states.next() else {
            for (x, &g) in part.theta.iter_mut().zip(part.grad) {
                *x -= rate * (g + decay * *x);
            }
            return;
        };
        for ((x, &g), u) in part.theta.iter_mut().zip(part.grad).zip(buffer) {
            let g = g + decay * *x;
            *u = if is_first { g } else { momentum * *u + keep * g };
            *x -= rate * if self.nesterov { g + momentum * *u } else { *u };
        }
    }

    fn graph(&self, now: &Now) -> Result<(Tensor, Vec<Tensor>)> {
        let g = now.grad.add(&now.theta.mul_scalar(self.weight_decay as f32)?)?;
        let Some(u) = now.states.first() else {
            return Ok((now.theta.sub(&now.rate.mul(&g)?)?, vec![]));
        };
        let momentum = self.momentum as f32;
        let later = u.mul_scalar(momentum)?.add(&g.mul_scalar((1.0 - self.dampening) as f32)?)?;
        let u = now.step.le(&now.step.ones_like()?)?.select(&g, &later)?;
        let direction = if self.nesterov { g.add(&u.mul_scalar(momentum)?)? } else { u.clone() };
        Ok((now.theta.sub(&now.rate.mul(&direction)?)?, vec![u]))
    }

    fn shader(&self) -> (&'static Shader, Vec<Option<usize>>) {
        (&shaders::SGD, vec![(self.momentum != 0.0).then_some(0)])
    }

    fn params(&self, launch: Launch) -> Launch {
        let [momentum, dampening, decay] = [self.momentum, self.dampening, self.weight_decay].map(|x| x as f32);
        launch.f32(momentum).f32(dampening).f32(decay).u32(usize::from(self.nesterov))
    }
}

/// One step of gradient descent; `states`: the momentum, if there is one. See [`super::apply`].
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// use acclimate_kernels::step::{SgdConfig, sgd};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let theta = Tensor::from_slice(&d, &[1.0f32, 2.0], &[2])?;
/// let grad = Tensor::from_slice(&d, &[0.5f32, -1.0], &[2])?;
/// let (rate, step) = (Tensor::full(&d, &[1], 0.1)?, Tensor::full(&d, &[1], 1.0)?);
/// let (theta, _) = sgd(&theta, &grad, &[], &rate, &step, SgdConfig::default())?;
/// assert_eq!(theta.to_vec::<f32>()?, [0.95, 2.1]);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn sgd(
    theta: &Tensor,
    grad: &Tensor,
    states: &[Tensor],
    rate: &Tensor,
    step: &Tensor,
    config: SgdConfig,
) -> Result<(Tensor, Vec<Tensor>)> {
    super::apply(&config, theta, grad, states, rate, step)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use super::case;

    let plain = SgdConfig { weight_decay: 0.1, ..SgdConfig::default() };
    let heavy = SgdConfig { momentum: 0.9, dampening: 0.25, ..plain };
    let ahead = SgdConfig { momentum: 0.9, nesterov: true, ..plain };
    let state = [(-1.0, 1.0)];
    let mut cases = Vec::new();
    for (n, slots) in [(1, 1), (7, 1), (6, 3), (257, 1), (1025, 5)] {
        cases.push(case("plain", plain, n, slots, 2.0, &[]));
        cases.push(case("momentum", heavy, n, slots, 2.0, &state));
        cases.push(case("nesterov", ahead, n, slots, 2.0, &state));
    }
    // The first step forgets what stands in the buffer, so no gradient reaches it.
    cases.push(case("first step", heavy, 7, 1, 1.0, &state).order(crate::testkit::Order::None));
    cases.push(case("several stretches", heavy, 20_000, 1, 2.0, &state).order(crate::testkit::Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    let mut rows = super::common_rejects!(SgdConfig::default());
    rows.extend([crate::testkit::Reject::new("Nesterov without momentum", &["sgd", "momentum", "Nesterov"], |d| {
        let (x, one) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[1])?);
        let config = SgdConfig { nesterov: true, ..SgdConfig::default() };
        Ok(sgd(&x, &x, &[], &one, &one, config)?.0)
    })]);
    rows
}
