//! Gradient of softmax over the last axis.
//!
//! dxᵢ = yᵢ · (dyᵢ − Σⱼ dyⱼ·yⱼ), y being what softmax gave.
//! Shapes: y [.., n], dy [.., n] → [.., n], n ≥ 1.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launches, Rows, arity};
use acclimate_tensor::{Caps, Error, Kernel, Real, Result, Spec, Tensor, record_one};

use crate::ops::softmax::row_spec;
use crate::rows;

/// Gradient of softmax: inputs y (softmax's output) and dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftmaxGrad;

/// Specs of two inputs of equal rows.
pub(crate) fn two_rows(op: &'static str, inputs: &[Spec]) -> Result<Vec<Spec>> {
    let [y, dy] = arity(op, inputs)?;
    if row_spec(op, y)? != row_spec(op, dy)? {
        let expected = format!("an upstream of shape {}", y.shape);
        return Err(Error::shape(op, expected, format!("shape {}", dy.shape)));
    }
    Ok(vec![y.clone()])
}

impl Kernel for SoftmaxGrad {
    const NAME: &'static str = "softmax_grad";

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
        Ok(rows::launch(&shaders::SOFTMAX_GRAD, &inputs[0]).bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]).into())
    }

    // With upstream u: by y, u ⊙ (dy − ⟨dy, y⟩) − dy·⟨u, y⟩; by dy, the map is its own adjoint.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (y, dy, u) = (cx.input(0), cx.input(1), cx.upstream()?);
        let inner = dy.mul(y)?.sum_keep(&[-1])?;
        let outer = u.mul(y)?.sum_keep(&[-1])?;
        let by_y = u.mul(&dy.sub(&inner)?)?.sub(&dy.mul(&outer)?)?;
        Ok(vec![Some(by_y), Some(record_one(SoftmaxGrad, &[y, &u])?)])
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
    let inner: R = y.iter().zip(dy).map(|(&y, &dy)| dy * y).sum();
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = y * (dy - inner);
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Scale, Tolerance};
    let op = |x: &[Tensor]| Ok(vec![record_one(SoftmaxGrad, &[&x[0], &x[1]])?]);
    let mut cases = Vec::new();
    for dims in [&[1][..], &[2, 3], &[3, 2, 7], &[2, 257], &[1, 1025]] {
        let n = dims[dims.len() - 1];
        // With one term the difference cancels: what counts is then the size of dy.
        let scale = if n == 1 { Scale::Fixed(4.0) } else { Scale::Largest };
        // A sum of n terms, a difference and a product.
        let tolerance = Tolerance { k: 1.0, depth: n as f64 + 4.0, scale };
        let y = Input::uniform(dims, 0.1, 1.0);
        cases.push(Case::new(format!("{dims:?}"), [y, Input::normal(dims)], op).tolerance(tolerance));
    }
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("shapes differ", &["softmax_grad", "[2, 3]", "[3, 2]"], |d| {
            record_one(SoftmaxGrad, &[&Tensor::zeros(d, &[2, 3])?, &Tensor::zeros(d, &[3, 2])?])
        }),
        Reject::new("words", &["softmax_grad", "f32", "u32"], |d| {
            record_one(SoftmaxGrad, &[&Tensor::full_u32(d, &[2], 1)?, &Tensor::zeros(d, &[2])?])
        }),
    ]
}
