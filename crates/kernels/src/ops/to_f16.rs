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

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order, Values};
    let build = |x: &[Tensor]| Ok(vec![record_one(ToF16, &[&x[0]])?]);
    let mut cases = Vec::new();
    for dims in [&[1][..], &[2], &[3, 5], &[2, 257], &[1025]] {
        // A staircase has no difference quotient to compare a gradient with: see the test below.
        cases.push(Case::new(format!("{dims:?}"), [Input::normal(dims)], build).order(Order::None));
    }
    let ties = vec![65504.0, 65519.0, 65520.0, -1e9, 2049.0, 2051.0, 6e-8, 3e-8, 2.98e-8, 1e-5, 0.1, -0.0, 6.1e-5];
    let ties = Input::new(&[13], Values::List(ties));
    cases.push(Case::new("ties, the smallest and the largest", [ties], build).order(Order::None));
    let odd = Input::new(&[3], Values::List(vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN]));
    cases.push(Case::new("infinities and NaN", [odd], build).order(Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![Reject::new("words", &["to_f16", "f32", "u32"], |d| record_one(ToF16, &[&Tensor::full_u32(d, &[2], 0)?]))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use acclimate_tensor::{Device, grad};

    #[test]
    fn gradients_pass_as_halves() -> Result<()> {
        let d = Device::cpu();
        let x = Tensor::from_slice(&d, &[0.3f32, -2.0], &[2])?;
        let y = record_one(F16ToF32, &[&record_one(ToF16, &[&x])?])?;
        let weights = Tensor::from_slice(&d, &[0.1f32, 3.0], &[2])?;
        let dx = grad(&y.mul(&weights)?.sum(&[])?, x)?;
        assert_eq!(dx.to_vec::<f32>()?, [f16::from_f32(0.1).to_f32(), 3.0]);
        Ok(())
    }
}
