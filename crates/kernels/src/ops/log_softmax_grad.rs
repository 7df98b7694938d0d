//! Gradient of log-softmax over the last axis.
//!
//! dxᵢ = dyᵢ − exp(yᵢ) · Σⱼ dyⱼ, y being what log-softmax gave.
//! Shapes: y [.., n], dy [.., n] → [.., n], n ≥ 1.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launches, Rows};
use acclimate_tensor::{Caps, Kernel, Real, Result, Spec, Tensor, record_one};

use crate::ops::softmax_grad::two_rows;
use crate::rows;

/// Gradient of log-softmax: inputs y (log-softmax's output) and dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogSoftmaxGrad;

impl Kernel for LogSoftmaxGrad {
    const NAME: &'static str = "log_softmax_grad";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        two_rows(Self::NAME, inputs)
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (y, dy, n) = (call.real(0), call.real(1), call.in_specs[0].as_rows().1);
        let rows = y.chunks_exact(n).zip(dy.chunks_exact(n)).zip(call.out_real(0).chunks_exact_mut(n));
        rows.for_each(|((y, dy), dx)| row(y, dy, dx));
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (y, dy, n) = (call.real(0), call.real(1), call.in_specs[0].as_rows().1);
        rows::each2(y, dy, call.out_real(0), n, row);
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        Ok(rows::launch(&shaders::LOG_SOFTMAX_GRAD, &inputs[0]).bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]).into())
    }

    // With upstream u: by y, −u ⊙ exp(y) · Σ dy; by dy, u − ⟨u, exp(y)⟩.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (p, u) = (cx.input(0).exp()?, cx.upstream()?);
        let weighted = u.mul(&p)?;
        let by_y = weighted.mul(&cx.input(1).sum_keep(&[-1])?)?.neg()?;
        Ok(vec![Some(by_y), Some(u.sub(&weighted.sum_keep(&[-1])?)?)])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?, &cx.leading(1)?])?])
    }

    // The last axis is what is normalized.
    fn rows(&self, inputs: &[Spec]) -> Rows {
        if inputs[0].shape.rank() < 2 { Rows::Mixed } else { Rows::each(&[(0, 0), (1, 0)], 0, Some(1)) }
    }
}

fn row<R: Real>(y: &[R], dy: &[R], dx: &mut [R]) {
    let total: R = dy.iter().copied().sum();
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = dy - y.exp() * total;
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Scale, Tolerance};
    let op = |x: &[Tensor]| Ok(vec![record_one(LogSoftmaxGrad, &[&x[0], &x[1]])?]);
    let mut cases = Vec::new();
    for dims in [&[1][..], &[2, 3], &[3, 2, 7], &[2, 257], &[1, 1025]] {
        let n = dims[dims.len() - 1];
        // With one term the difference cancels: what counts is then the size of dy.
        let scale = if n == 1 { Scale::Fixed(4.0) } else { Scale::Largest };
        // A sum of n terms, an exponential (3 + 2·4 ulp on a GPU), a product and a difference.
        let tolerance = Tolerance { k: 1.0, depth: n as f64 + 32.0, scale };
        let y = Input::uniform(dims, -4.0, 0.0);
        cases.push(Case::new(format!("{dims:?}"), [y, Input::normal(dims)], op).tolerance(tolerance));
    }
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("shapes differ", &["log_softmax_grad", "[2, 3]", "[3, 2]"], |d| {
            record_one(LogSoftmaxGrad, &[&Tensor::zeros(d, &[2, 3])?, &Tensor::zeros(d, &[3, 2])?])
        }),
        Reject::new("words", &["log_softmax_grad", "f32", "u32"], |d| {
            record_one(LogSoftmaxGrad, &[&Tensor::full_u32(d, &[2], 1)?, &Tensor::zeros(d, &[2])?])
        }),
    ]
}
