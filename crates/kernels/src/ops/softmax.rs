//! Softmax over the last axis.
//!
//! yᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m), with m = maxⱼ xⱼ.
//! Shapes: [.., n] → [.., n], n ≥ 1. Rows are independent: what a NaN or an infinity does stays in its row.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launches, Rows};
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
        Ok(rows::launch(&shaders::SOFTMAX, &inputs[0]).bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    // dx = y ⊙ (dy − ⟨dy, y⟩), row by row.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(SoftmaxGrad, &[cx.output(), &cx.upstream()?])?)])
    }

    // Only the last axis matters: a leading one is more rows.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?])?])
    }

    // The last axis is what is normalized.
    fn rows(&self, inputs: &[Spec]) -> Rows {
        if inputs[0].shape.rank() < 2 { Rows::Mixed } else { Rows::of_first(false) }
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

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Tolerance, Values};
    let op = |x: &[Tensor]| Ok(vec![record_one(Softmax, &[&x[0]])?]);
    let mut cases = Vec::new();
    for dims in [&[1][..], &[2, 3], &[3, 2, 7], &[2, 255], &[3, 257], &[1, 1025]] {
        let n = dims[dims.len() - 1];
        // x − m is rounded, which moves exp by |x − m| units (8 here, 80 where wide), twice; the sum has n roundings. WGSL
        // grants exp 3 + 2·|x − m| ulp.
        let tolerance = |far: f64| Tolerance { k: 1.0, depth: n as f64 + far, scale: crate::testkit::Scale::Output };
        let case = Case::new(format!("normal {dims:?}"), [Input::normal(dims)], op);
        let case = if n == 1 { case.order(crate::testkit::Order::None) } else { case };
        cases.push(case.tolerance(tolerance(24.0)).gpu_tolerance(tolerance(128.0)));
        let wide = Case::new(format!("wide {dims:?}"), [Input::uniform(dims, -40.0, 40.0)], op);
        // Most of it is flat there: nothing to differentiate.
        let wide = wide.order(crate::testkit::Order::None);
        cases.push(wide.tolerance(tolerance(180.0)).gpu_tolerance(tolerance(800.0)));
    }
    let flat = Case::new("constant", [Input::new(&[3, 5], Values::Constant(3.0))], op);
    cases.push(flat.tolerance(Tolerance { k: 1.0, depth: 8.0, scale: crate::testkit::Scale::Output }));
    let list = vec![f32::NEG_INFINITY, 0.0, 1.0, 2.0, f32::NAN, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
    let edges = Case::new("infinite and NaN rows", [Input::new(&[4, 2], Values::List(list))], op).cpu_only();
    cases.push(edges.order(crate::testkit::Order::None).tolerance(Tolerance {
        k: 1.0,
        depth: 16.0,
        scale: crate::testkit::Scale::Output,
    }));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("a scalar", &["softmax", "last axis"], |d| record_one(Softmax, &[&Tensor::zeros(d, &[])?])),
        Reject::new("an empty row", &["softmax", "[2, 0]"], |d| record_one(Softmax, &[&Tensor::zeros(d, &[2, 0])?])),
        Reject::new("words", &["softmax", "f32", "u32"], |d| record_one(Softmax, &[&Tensor::full_u32(d, &[2], 1)?])),
    ]
}
