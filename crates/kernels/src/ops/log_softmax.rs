//! Logarithm of softmax over the last axis.
//!
//! yᵢ = xᵢ − m − ln Σⱼ exp(xⱼ − m), with m = maxⱼ xⱼ.
//! Shapes: [.., n] → [.., n], n ≥ 1. Rows are independent: what a NaN or an infinity does stays in its row.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, arity};
use acclimate_tensor::{Caps, Kernel, Real, Result, Spec, Tensor, record_one};

use crate::ops::log_softmax_grad::LogSoftmaxGrad;
use crate::ops::softmax::row_spec;
use crate::rows;

/// Logarithm of softmax over the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogSoftmax;

impl Kernel for LogSoftmax {
    const NAME: &'static str = "log_softmax";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        Ok(vec![row_spec(Self::NAME, x)?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (x, n) = (call.real(0), call.in_specs[0].as_rows().1);
        for (x, y) in x.chunks_exact(n).zip(call.out_real(0).chunks_exact_mut(n)) {
            row(x, y);
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (x, n) = (call.real(0), call.in_specs[0].as_rows().1);
        rows::each(x, n, call.out_real(0), n, row);
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let (n_rows, n) = inputs[0].as_rows();
        let launch = Launch::new(&shaders::LOG_SOFTMAX, n_rows).u32s(&[n_rows, n]);
        Ok(launch.bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    // dx = dy − exp(y) · Σ dy, row by row.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(LogSoftmaxGrad, &[cx.output(), &cx.upstream()?])?)])
    }

    // Only the last axis matters: a leading one is more rows.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?])?])
    }
}

fn row<R: Real>(x: &[R], y: &mut [R]) {
    let peak = x.iter().copied().fold(R::NEG_INFINITY, R::max_nan);
    let total: R = x.iter().map(|&x| (x - peak).exp()).sum();
    let shift = total.ln();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x - peak - shift;
    }
}
