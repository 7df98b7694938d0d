//! Running sum along the last axis.
//!
//! yᵢ = Σ_{j ≤ i} xⱼ, or from the other end Σ_{j ≥ i} xⱼ. Each is the gradient of the other.
//! Shapes: [.., n] → [.., n].

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, arity};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Spec, Tensor, record_one};

use crate::rows;

/// Running sum along the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cumsum {
    /// From the last element to the first.
    pub reverse: bool,
}

impl Cumsum {
    fn row<R: Real>(&self, x: &[R], y: &mut [R]) {
        let mut sum = R::ZERO;
        let mut step = |(y, &x): (&mut R, &R)| {
            sum += x;
            *y = sum;
        };
        if self.reverse {
            y.iter_mut().zip(x).rev().for_each(&mut step);
        } else {
            y.iter_mut().zip(x).for_each(&mut step);
        }
    }
}

impl Kernel for Cumsum {
    const NAME: &'static str = "cumsum";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        x.require_dtype(Self::NAME, DType::F32)?;
        if x.shape.rank() == 0 {
            return Err(Error::shape(Self::NAME, "an axis to sum along", "a scalar"));
        }
        Ok(vec![x.clone()])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (x, n) = (call.real(0), call.in_specs[0].as_rows().1.max(1));
        for (x, y) in x.chunks_exact(n).zip(call.out_real(0).chunks_exact_mut(n)) {
            self.row(x, y);
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (x, n) = (call.real(0), call.in_specs[0].as_rows().1);
        rows::each(x, n, call.out_real(0), n, |x, y| self.row(x, y));
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let (n_rows, n) = inputs[0].as_rows();
        let launch = Launch::new(&shaders::CUMSUM, n_rows).u32s(&[n_rows, n, usize::from(self.reverse)]);
        Ok(launch.bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(Cumsum { reverse: !self.reverse }, &[&cx.upstream()?])?)])
    }

    // Only the last axis matters: a leading one is more rows.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?])?])
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Tolerance};
    let mut cases = Vec::new();
    for reverse in [false, true] {
        for dims in [&[1][..], &[2, 3], &[3, 2, 7], &[2, 255], &[3, 257], &[1, 1025]] {
            let build = move |x: &[Tensor]| Ok(vec![record_one(Cumsum { reverse }, &[&x[0]])?]);
            let name = format!("{dims:?}{}", if reverse { ", reverse" } else { "" });
            let tolerance = Tolerance::sum(dims[dims.len() - 1]);
            cases.push(Case::new(name, [Input::normal(dims)], build).tolerance(tolerance));
        }
    }
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("a scalar", &["cumsum", "axis"], |d| {
            record_one(Cumsum { reverse: false }, &[&Tensor::zeros(d, &[])?])
        }),
        Reject::new("words", &["cumsum", "f32", "u32"], |d| {
            record_one(Cumsum { reverse: false }, &[&Tensor::full_u32(d, &[2], 0)?])
        }),
    ]
}
