//! To half precision, for storage.
//!
//! y = x rounded to the nearest half, ties to even; beyond ±65504 (after rounding) ±∞.
//! Shapes: any (f32) → the same (f16).

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, arity};
use acclimate_tensor::{Caps, DType, Kernel, Real, Result, Spec, Tensor, f16, record_one};

use crate::ops::f16_to_f32::F16ToF32;

/// To half precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToF16;

impl Kernel for ToF16 {
    const NAME: &'static str = "to_f16";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        Ok(vec![x.require_dtype(Self::NAME, DType::F32)?.with_dtype(DType::F16)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let x = call.real(0);
        for (y, x) in call.out_half(0).iter_mut().zip(x) {
            *y = f16::from_f64(x.f64());
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let x = call.real(0);
        for (y, x) in call.out_half(0).iter_mut().zip(x) {
            *y = f16::from_f32(*x);
        }
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].numel();
        let launch = Launch::threads(&shaders::F32_TO_F16, n.div_ceil(2)).u32(n);
        Ok(launch.bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    // Rounding counts as the identity; the gradient comes as halves.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(F16ToF32, &[&cx.upstream()?])?)])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?])?])
    }
}
