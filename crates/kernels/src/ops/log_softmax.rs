//! Logarithm of softmax over the last axis.
//!
//! yᵢ = xᵢ − m − ln Σⱼ exp(xⱼ − m), with m = maxⱼ xⱼ.
//! Shapes: [.., n] → [.., n], n ≥ 1. Rows are independent: what a NaN or an infinity does stays in its row.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launches, Rows, arity};
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
        Ok(rows::launch(&shaders::LOG_SOFTMAX, &inputs[0]).bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    // dx = dy − exp(y) · Σ dy, row by row.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(LogSoftmaxGrad, &[cx.output(), &cx.upstream()?])?)])
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
    let total: R = x.iter().map(|&x| (x - peak).exp()).sum();
    let shift = total.ln();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x - peak - shift;
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Tolerance, Values};
    let op = |x: &[Tensor]| Ok(vec![record_one(LogSoftmax, &[&x[0]])?]);
    let mut cases = Vec::new();
    for dims in [&[1][..], &[2, 3], &[3, 2, 7], &[2, 255], &[3, 257], &[1, 1025]] {
        let n = dims[dims.len() - 1];
        // Two subtractions of numbers up to twice the largest, and a logarithm of a sum with n roundings.
        let tolerance = |far: f64| Tolerance { k: 1.0, depth: n as f64 + far, scale: crate::testkit::Scale::Largest };
        let case = Case::new(format!("normal {dims:?}"), [Input::normal(dims)], op);
        let case = if n == 1 { case.order(crate::testkit::Order::None) } else { case };
        cases.push(case.tolerance(tolerance(16.0)).gpu_tolerance(tolerance(64.0)));
        let wide = Case::new(format!("wide {dims:?}"), [Input::uniform(dims, -40.0, 40.0)], op);
        // Most of it is flat there: nothing to differentiate.
        let wide = wide.order(crate::testkit::Order::None);
        cases.push(wide.tolerance(tolerance(16.0)).gpu_tolerance(tolerance(64.0)));
    }
    let flat = Case::new("constant", [Input::new(&[3, 5], Values::Constant(3.0))], op);
    cases.push(flat.tolerance(Tolerance { k: 1.0, depth: 8.0, scale: crate::testkit::Scale::Largest }));
    let list = vec![f32::NEG_INFINITY, 0.0, 1.0, 2.0, f32::NAN, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
    let edges = Case::new("infinite and NaN rows", [Input::new(&[4, 2], Values::List(list))], op).cpu_only();
    cases.push(edges.order(crate::testkit::Order::None).tolerance(Tolerance {
        k: 1.0,
        depth: 16.0,
        scale: crate::testkit::Scale::Largest,
    }));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("a scalar", &["log_softmax", "last axis"], |d| record_one(LogSoftmax, &[&Tensor::zeros(d, &[])?])),
        Reject::new("an empty row", &["log_softmax", "[2, 0]"], |d| {
            record_one(LogSoftmax, &[&Tensor::zeros(d, &[2, 0])?])
        }),
        Reject::new("words", &["log_softmax", "f32", "u32"], |d| {
            record_one(LogSoftmax, &[&Tensor::full_u32(d, &[2], 1)?])
        }),
    ]
}
