//! Gradients against differences, in f64 through the oracle.
//!
//! L = Σ_j ⟨c_j, y_j⟩ for drawn c_j. Along drawn directions v, ⟨∇L, v⟩ is compared with
//! (L(x + h v) − L(x − h v)) / 2h, h = ∛ε: there rounding (ε/h) and truncation (h²) are of one size, ε^⅔ ≈ 4·10⁻¹¹.
//! The same for ⟨∇L, d⟩, d drawn, as a function of inputs and c_j: gradients of second order.

use acclimate_tensor::{DType, Device, Result, Tensor, grad, oracle};

use super::case::{Case, Order};
use super::failure::{During, Failure};
use super::values::{Draw, Input};

/// Points drawn for each case.
const POINTS: u64 = 3;
/// A gradient below this share of the loss's terms counts as vanished.
const NEGLIGIBLE: f64 = 1e-4;

/// Drawn weights of the outputs that are real numbers (in order), or their absolute values.
pub(super) fn cotangents(outputs: &[Tensor], seed: u64, absolute: bool) -> Result<Vec<Tensor>> {
    let real = outputs.iter().filter(|y| y.dtype() == DType::F32).zip(0..);
    real.map(|(y, j)| {
        let mut c = Input::normal(y.dims()).reals(seed * 64 + 32 + j);
        if absolute {
            c.iter_mut().for_each(|c| *c = c.abs());
        }
        Tensor::from_slice(y.device(), &c, y.dims())
    })
    .collect()
}

fn weighted(outputs: &[Tensor], weights: &[Tensor]) -> Result<Tensor> {
    let real = outputs.iter().filter(|y| y.dtype() == DType::F32);
    let mut terms = real.zip(weights).map(|(y, c)| y.mul(c)?.sum(&[]));
    let first = terms.next().unwrap_or_else(|| Err(acclimate_tensor::Error::NotDifferentiable { op: "words" }))?;
    terms.try_fold(first, |sum, term| sum.add(&term?))
}

/// The gradient of the weighted sum of outputs. Weights are absolute where magnitudes are to be summed; their signs are
/// drawn from the seed as the values are, so that the exact sum uses the same sizes.
pub(super) fn gradient_of(outputs: &[Tensor], wrt: &[Tensor], seed: u64, absolute: bool) -> Result<Vec<Tensor>> {
    let c = cotangents(outputs, seed, absolute)?;
    grad(&weighted(outputs, &c)?, wrt.to_vec())
}

/// A function of tensors and its gradient, both as graphs.
struct Checked<'a> {
    case: &'a str,
    check: &'static str,
    value: &'a Tensor,
    /// The value's terms, whose absolute sum is what rounding is relative to.
    at: &'a [Tensor],
    grads: &'a [Tensor],
}

impl Checked<'_> {
    fn value(&self, given: &[(Tensor, Vec<f64>)]) -> Result<f64> {
        Ok(oracle::evaluate(self.value, given)?.real().first().copied().unwrap_or(f64::NAN))
    }

    /// Compares along directions: one for each tensor, and one for all of them. Gives the norms of the gradients.
    fn along(&self, draw: &mut Draw) -> std::result::Result<Vec<f64>, Failure> {
        let (case, check) = (self.case, self.check);
        let point = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.to_vec::<f32>()?.into_iter().map(f64::from).collect()) };
        let x: Vec<Vec<f64>> = self.at.iter().map(point).collect::<Result<_>>().during(case, check)?;
        let g: Vec<Vec<f64>> = self
            .grads
            .iter()
            .map(|g| Ok(oracle::evaluate(g, &[])?.real().to_vec()))
            .collect::<Result<_>>()
            .during(case, check)?;
        for which in (0..x.len()).map(Some).chain((x.len() > 1).then_some(None)) {
            let mut v: Vec<Vec<f64>> = Vec::new();
            for (i, x) in x.iter().enumerate() {
                let moves = which.is_none_or(|w| w == i);
                v.push(x.iter().map(|_| if moves { f64::from(draw.normal()) } else { 0.0 }).collect());
            }
            let largest = x.iter().flatten().fold(1.0, |m: f64, x| m.max(x.abs()));
            let h = f64::EPSILON.cbrt() * largest;
            let moved = |h: f64| -> Result<f64> {
                let given = self.at.iter().zip(x.iter().zip(&v));
                let step = |x: &[f64], v: &[f64]| x.iter().zip(v).map(|(x, v)| x + h * v).collect();
                self.value(&given.map(|(t, (x, v))| (t.clone(), step(x, v))).collect::<Vec<_>>())
            };
            let (up, down) = (moved(h).during(case, check)?, moved(-h).during(case, check)?);
            let numeric = (up - down) / (2.0 * h);
            let terms = g.iter().flatten().zip(v.iter().flatten()).map(|(g, v)| g * v);
            let (exact, size) = terms.fold((0.0, 0.0), |(sum, size): (f64, f64), t| (sum + t, size + t.abs()));
            // Rounding and truncation are near 10⁻¹⁰ of the values; 10⁻⁶ leaves room for third derivatives and long
            // sums, and is far below any wrong factor. A value that large beside its slope rounds by ε/h of itself.
            let bound = 1e-6 * (size + exact.abs()) + 1e3 * f64::EPSILON / h * (up.abs() + 1.0);
            let error = (numeric - exact).abs();
            if error > bound || error.is_nan() {
                let who = which.map_or("all inputs".to_owned(), |w| format!("input {w}"));
                let what = format!("along {who}: the rule gives {exact:.9e}, differences {numeric:.9e}");
                return Err(what).during(case, check);
            }
        }
        Ok(g.iter().map(|g| g.iter().fold(0.0, |sum: f64, g| sum + g * g).sqrt()).collect())
    }
}

/// Fails unless the gradient rules agree with differences in first (and second) order, and are not all but zero at most
/// of the points drawn.
pub fn gradient_is_right(case: &Case) -> std::result::Result<(), Failure> {
    if case.order < Order::First {
        return Ok(());
    }
    let device = Device::cpu();
    let n = &case.name;
    let mut alive: Vec<u64> = Vec::new();
    for seed in 1..=POINTS {
        let check = "gradient";
        let inputs = case.tensors(&device, seed).during(n, check)?;
        let real: Vec<Tensor> = inputs.iter().filter(|t| t.dtype() == DType::F32).cloned().collect();
        let outputs = (case.build)(&inputs).during(n, check)?;
        let weights = cotangents(&outputs, seed, false).during(n, check)?;
        let loss = weighted(&outputs, &weights).during(n, check)?;
        let grads = grad(&loss, real.clone()).during(n, check)?;
        let mut draw = Draw::new(seed + 1000);
        let first = Checked { case: n, check, value: &loss, at: &real, grads: &grads };
        let norms = first.along(&mut draw)?;
        alive.resize(norms.len(), 0);
        for (alive, norm) in alive.iter_mut().zip(&norms) {
            *alive += u64::from(*norm > NEGLIGIBLE);
        }
        if case.order == Order::Second {
            let check = "gradient of the gradient";
            let directions = cotangents(&grads, seed + 500, false).during(n, check)?;
            let slope = weighted(&grads, &directions).during(n, check)?;
            let at: Vec<Tensor> = real.iter().chain(&weights).cloned().collect();
            let grads = grad(&slope, at.clone()).during(n, check)?;
            Checked { case: n, check, value: &slope, at: &at, grads: &grads }.along(&mut draw)?;
        }
    }
    match alive.iter().position(|&n| 2 * n < POINTS) {
        Some(i) => {
            let what =
                format!("by input {i} it vanishes at {} of {POINTS} points: the check says nothing", POINTS - alive[i]);
            Err(what).during(n, "gradient")
        }
        None => Ok(()),
    }
}
