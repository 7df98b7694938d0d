//! From half to single precision, exact.
//!
//! Shapes: any (f16) → the same (f32).

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, arity};
use acclimate_tensor::{Caps, DType, Kernel, Real, Result, Spec, Tensor, record_one};

use crate::ops::to_f16::ToF16;

/// From half to single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct F16ToF32;

impl Kernel for F16ToF32 {
    const NAME: &'static str = "f16_to_f32";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        Ok(vec![x.require_dtype(Self::NAME, DType::F16)?.with_dtype(DType::F32)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let x = call.half(0);
        for (y, x) in call.out_real(0).iter_mut().zip(x) {
            *y = R::of(x.to_f64());
        }
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].numel();
        Ok(Launch::threads(&shaders::F16_TO_F32, n).u32(n).bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    // The gradient of halves is kept as halves: scale the loss where it could underflow.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(ToF16, &[&cx.upstream()?])?)])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?])?])
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order};
    let build = |x: &[Tensor]| Ok(vec![record_one(F16ToF32, &[&record_one(ToF16, &[&x[0]])?])?]);
    let sizes = [&[1][..], &[2], &[3, 5], &[2, 257], &[1025]];
    // There and back is a staircase: no difference quotient to compare a gradient with.
    let case = |dims: &[usize]| Case::new(format!("{dims:?}"), [Input::normal(dims)], build).order(Order::None);
    sizes.map(case).into()
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![Reject::new("single precision", &["f16_to_f32", "f16", "f32"], |d| {
        record_one(F16ToF32, &[&Tensor::zeros(d, &[2])?])
    })]
}
