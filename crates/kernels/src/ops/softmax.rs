//! Softmax over the last axis.
//!
//! yᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m), with m = maxⱼ xⱼ.
//! Shapes: [.., n] → [.., n], n ≥ 1. Rows are independent: what a NaN or an infinity does stays in its row.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches};
use acclimate_tensor::{Caps, Error, Kernel, Real, Result, Spec, Tensor, record_one};

use crate::ops::softmax_grad::SoftmaxGrad;
use crate::rows;

/// Softmax over the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Softmax;

/// Specs of a function of rows: f32, and the last axis has an element.
pub(crate) fn row_spec(op: &'static str, x: &Spec) -> Result<Spec> {
    x.require_dtype(op, acclimate_tensor::DType::F32)?;
    match x.shape.last() {
        Some(n) if *n > 0 => Ok(x.clone()),
        _ => Err(Error::shape(op, "a last axis of at least 1", format!("shape {}", x.shape))),
    }
}

impl Kernel for Softmax {
    const NAME: &'static str = "softmax";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = acclimate_tensor::op::arity(Self::NAME, inputs)?;
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
        let launch = Launch::new(&shaders::SOFTMAX, n_rows).u32s(&[n_rows, n]);
        Ok(launch.bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    // dx = y ⊙ (dy − ⟨dy, y⟩), row by row.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(SoftmaxGrad, &[cx.output(), &cx.upstream()?])?)])
    }

    // Only the last axis matters: a leading one is more rows.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?])?])
    }
}

fn row<R: Real>(x: &[R], y: &mut [R]) {
    let peak = x.iter().copied().fold(R::NEG_INFINITY, R::max_nan);
    let mut total = R::ZERO;
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - peak).exp();
        total += *y;
    }
    y.iter_mut().for_each(|y| *y /= total);
}
