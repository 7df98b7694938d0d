//! Adam (Kingma & Ba 2015), with decoupled decay AdamW (Loshchilov & Hutter 2019), with `amsgrad` AMSGrad (Reddi et al.
//! 2018).
//!
//! g = grad + weight_decay·θ, or g = grad and θ ← θ − rate·weight_decay·θ first if decoupled;
//! m ← m + (1 − β₁)(g − m); v ← β₂·v + (1 − β₂)·g²; w = v, or w = vmax ← max(vmax, v) if amsgrad;
//! θ ← θ − rate/(1 − β₁ᵗ) · m / (√w/√(1 − β₂ᵗ) + eps).
//! The gradient of a step is not a number where v is 0: that of √ is infinite there.

use acclimate_shaders::{Shader, shaders};
use acclimate_tensor::op::Launch;
use acclimate_tensor::{Real, Result, Tensor};

use super::{Now, Part, Rule, by_bits, require};

/// Hyper-parameters of Adam and its variants, under PyTorch's names.
#[derive(Clone, Copy, Debug)]
pub struct AdamConfig {
    /// Share of the first moment that is kept.
    pub beta1: f64,
    /// Share of the second moment that is kept.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2 penalty on the gradient, or the rate at which weights decay if `decoupled`.
    pub weight_decay: f64,
    /// AdamW: weights decay by themselves, not through the gradient.
    pub decoupled: bool,
    /// AMSGrad: the second moment never falls.
    pub amsgrad: bool,
}
by_bits!(AdamConfig { beta1, beta2, eps, weight_decay; decoupled, amsgrad });

impl Default for AdamConfig {
    fn default() -> Self {
        AdamConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false, amsgrad: false }
    }
}

impl Rule for AdamConfig {
    const NAME: &'static str = "adam";

    fn states(&self) -> Vec<&'static str> {
        let mut names = vec!["first_moment", "second_moment"];
        if self.amsgrad {
            names.push("second_moment_max");
        }
        names
    }

    fn validate(&self) -> Result<()> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        require(Self::NAME, "beta1", "a number from 0 to below 1", share(self.beta1), self.beta1)?;
        require(Self::NAME, "beta2", "a number from 0 to below 1", share(self.beta2), self.beta2)?;
        for (what, x) in [("eps", self.eps), ("weight_decay", self.weight_decay)] {
            require(Self::NAME, what, "a finite number of at least 0", x >= 0.0 && x.is_finite(), x)?;
        }
        Ok(())
    }

    #[inline(always)] // so that it is compiled for each kind of vectors
    fn advance<R: Real>(&self, part: Part<'_, R>) {
        let [beta2, rest1, rest2] = [self.beta2, 1.0 - self.beta1, 1.0 - self.beta2].map(R::of);
        let [eps, decay, ln1, ln2] = [self.eps, self.weight_decay, self.beta1.ln(), self.beta2.ln()].map(R::of);
        // 1 − βᵗ without cancellation.
        let corrected = |ln: R| -(part.step * ln).exp_m1();
        let (rate, step_size, root) = (part.rate, part.rate / corrected(ln1), corrected(ln2).sqrt());
        let (shrink, decay) = if self.decoupled { (R::ONE - rate * decay, R::ZERO) } else { (R::ONE, decay) };
        let mut states = part.states.into_iter().flatten();
        let (Some(m), Some(v)) = (states.next(), states.next()) else { return };
        let elements = part.theta.iter_mut().zip(part.grad).zip(m).zip(v);
        let moments = |x: &mut R, g: R, m: &mut R, v: &mut R| {
            let g = g + decay * *x;
            *x *= shrink;
            *m += rest1 * (g - *m);
            *v = beta2 * *v + rest2 * g * g;
        };
        match states.next() {
            None => elements.for_each(|(((x, &g), m), v)| {
                moments(x, g, m, v);
                *x -= step_size * *m / (v.sqrt() / root + eps);
            }),
            Some(peak) => elements.zip(peak).for_each(|((((x, &g), m), v), peak)| {
                moments(x, g, m, v);
                *peak = v.max_nan(*peak);
                *x -= step_size * *m / (peak.sqrt() / root + eps);
            }),
        }
    }

    fn graph(&self, now: &Now) -> Result<(Tensor, Vec<Tensor>)> {
        let [beta2, rest1, rest2] = [self.beta2, 1.0 - self.beta1, 1.0 - self.beta2].map(|x| x as f32);
        let [eps, decay, ln1, ln2] = [self.eps, self.weight_decay, self.beta1.ln(), self.beta2.ln()].map(|x| x as f32);
        let corrected = |ln: f32| now.step.mul_scalar(ln)?.expm1()?.neg();
        let (x, g) = if self.decoupled {
            let shrink = now.rate.mul_scalar(-decay)?.add_scalar(1.0)?;
            (now.theta.mul(&shrink)?, now.grad.clone())
        } else {
            (now.theta.clone(), now.grad.add(&now.theta.mul_scalar(decay)?)?)
        };
        let m = now.states[0].add(&g.sub(&now.states[0])?.mul_scalar(rest1)?)?;
        let v = now.states[1].mul_scalar(beta2)?.add(&g.square()?.mul_scalar(rest2)?)?;
        let peak = now.states.get(2).map(|peak| v.maximum(peak)).transpose()?;
        let root = peak.as_ref().unwrap_or(&v).sqrt()?.div(&corrected(ln2)?.sqrt()?)?;
        let x = x.sub(&now.rate.div(&corrected(ln1)?)?.mul(&m)?.div(&root.add_scalar(eps)?)?)?;
        Ok((x, [m, v].into_iter().chain(peak).collect()))
    }

    fn shader(&self) -> (&'static Shader, Vec<Option<usize>>) {
        (&shaders::ADAM, vec![Some(0), Some(1), self.amsgrad.then_some(2)])
    }

    fn params(&self, launch: Launch) -> Launch {
        let floats = [self.beta2, 1.0 - self.beta1, 1.0 - self.beta2, self.beta1.ln(), self.beta2.ln(), self.eps];
        let launch = floats.iter().fold(launch, |l, &x| l.f32(x as f32)).f32(self.weight_decay as f32);
        launch.u32(usize::from(self.decoupled)).u32(usize::from(self.amsgrad))
    }
}

/// One step of Adam, AdamW (`decoupled`) or AMSGrad (`amsgrad`); `states`: first moment, second moment, and with
/// AMSGrad its maximum. See [`super::apply`].
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// use acclimate_kernels::step::{AdamConfig, adam, init};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let theta = Tensor::from_slice(&d, &[1.0f32, 2.0], &[2])?;
/// let grad = Tensor::from_slice(&d, &[0.5f32, -1.0], &[2])?;
/// let (rate, step) = (Tensor::full(&d, &[1], 0.1)?, Tensor::full(&d, &[1], 1.0)?);
/// let config = AdamConfig::default();
/// let (theta, _) = adam(&theta, &grad, &init(&config, &theta)?, &rate, &step, config)?;
/// // The first step has the length of the rate.
/// let theta = theta.to_vec::<f32>()?;
/// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] - 2.1).abs() < 1e-6);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn adam(
    theta: &Tensor,
    grad: &Tensor,
    states: &[Tensor],
    rate: &Tensor,
    step: &Tensor,
    config: AdamConfig,
) -> Result<(Tensor, Vec<Tensor>)> {
    super::apply(&config, theta, grad, states, rate, step)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use super::case;

    let adam = AdamConfig { weight_decay: 0.1, ..AdamConfig::default() };
    let adamw = AdamConfig { decoupled: true, ..adam };
    let (m, v) = ((-1.0, 1.0), (0.5, 2.0));
    let mut cases = Vec::new();
    for (n, slots) in [(1, 1), (7, 1), (6, 3), (257, 1), (1025, 5)] {
        for step in [1.0, 30.0] {
            cases.push(case(&format!("step {step}"), adam, n, slots, step, &[m, v]));
            cases.push(case(&format!("AdamW, step {step}"), adamw, n, slots, step, &[m, v]));
            let peak = AdamConfig { amsgrad: true, ..adam };
            // Apart, so that no maximum is near its kink: kept, then replaced.
            cases.push(case(&format!("AMSGrad keeps, step {step}"), peak, n, slots, step, &[m, v, (3.0, 4.0)]));
        }
    }
    let peak = AdamConfig { amsgrad: true, ..adamw };
    let replaced = case("AMSGrad replaces", peak, 33, 1, 3.0, &[m, v, (0.1, 0.3)]);
    // What is replaced has no gradient.
    cases.push(replaced.order(crate::testkit::Order::None));
    cases.push(case("several stretches", adam, 20_000, 1, 2.0, &[m, v]).order(crate::testkit::Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    let mut rows = super::common_rejects!(AdamConfig::default());
    rows.extend([crate::testkit::Reject::new("beta 1", &["adam", "beta2", "below 1"], |d| {
        let (x, one) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[1])?);
        let config = AdamConfig { beta2: 1.0, ..AdamConfig::default() };
        Ok(adam(&x, &x, &super::init(&config, &x)?, &one, &one, config)?.0)
    })]);
    rows
}
