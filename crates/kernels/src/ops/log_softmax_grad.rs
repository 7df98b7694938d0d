//! Gradient of log-softmax over the last axis.
//!
//! dxᵢ = dyᵢ − exp(yᵢ) · Σⱼ dyⱼ, y being what log-softmax gave.
//! Shapes: y [.., n], dy [.., n] → [.., n], n ≥ 1.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches};
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
        let (n_rows, n) = inputs[0].as_rows();
        let launch = Launch::new(&shaders::LOG_SOFTMAX_GRAD, n_rows).u32s(&[n_rows, n]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]).into())
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
}

fn row<R: Real>(y: &[R], dy: &[R], dx: &mut [R]) {
    let total: R = dy.iter().copied().sum();
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = dy - y.exp() * total;
    }
}
