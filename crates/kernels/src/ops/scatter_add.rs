//! Sums at an index along an axis: the adjoint of `gather`.
//!
//! out[o, s, i] = Σⱼ x[o, j, i] over the j with index[o, j, i] = s, in order of j. Other indices add to nothing.
//! Shapes: x [.., m, ..], index of the same shape (u32) → [.., n, ..].

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, Rows, arity};
use acclimate_tensor::{Caps, DType, Kernel, Real, Result, Shape, Spec, Tensor, record_one};

use crate::ops::gather::{Gather, around, as_index, require_beside};

/// Sums at an index along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScatterAdd {
    /// The axis.
    pub axis: usize,
    /// Its size in the result.
    pub n: usize,
}

/// `to` plus `x` at `index` (u32 or i32) along `axis`.
#[track_caller]
pub(crate) fn scatter_add(to: &Tensor, axis: isize, index: &Tensor, x: &Tensor) -> Result<Tensor> {
    let axis = to.shape().axis(ScatterAdd::NAME, axis)?;
    let index = as_index(ScatterAdd::NAME, index)?;
    require_beside(ScatterAdd::NAME, to.spec(), index.spec(), axis)?;
    to.add(&record_one(ScatterAdd { axis, n: to.dims()[axis] }, &[x, &index])?)
}

impl Kernel for ScatterAdd {
    const NAME: &'static str = "scatter_add";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, index] = arity(Self::NAME, inputs)?;
        x.require_dtype(Self::NAME, DType::F32)?;
        require_beside(Self::NAME, x, index, self.axis)?;
        if x.shape != index.shape {
            let expected = format!("values of the index's shape {}", index.shape);
            return Err(acclimate_tensor::Error::shape(Self::NAME, expected, format!("shape {}", x.shape)));
        }
        let mut dims = x.shape.to_vec();
        dims[self.axis] = self.n;
        Ok(vec![Spec::new(Shape::new(&dims)?, DType::F32)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (_, m, inner) = around(call.dims(0), self.axis);
        let (x, index) = (call.real(0), call.word(1));
        let out = call.out_real(0);
        out.fill(R::ZERO);
        let per_outer = (m * inner).max(1);
        let rows = x.chunks_exact(per_outer).zip(index.chunks_exact(per_outer));
        for (o, (x, index)) in rows.enumerate() {
            for (i, (&x, &at)) in x.iter().zip(index).enumerate() {
                let at = at as usize;
                if at < self.n {
                    out[(o * self.n + at) * inner + i % inner] += x;
                }
            }
        }
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let (outer, n_idx, inner) = around(&inputs[0].shape, self.axis);
        let launch = Launch::threads(&shaders::SCATTER_ADD, outputs[0].numel()).u32s(&[outer, self.n, n_idx, inner]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]).into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (dy, index) = (cx.upstream()?, cx.input(1));
        let dx = record_one(Gather { axis: self.axis }, &[&dy, index])?;
        // An index out of range added to nothing; gathering there gives NaN.
        let inside =
            index.lt(&Tensor::full_u32(index.device(), index.dims(), u32::try_from(self.n).unwrap_or(u32::MAX))?)?;
        Ok(vec![Some(inside.select(&dx, &dx.zeros_like()?)?), None])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let op = ScatterAdd { axis: self.axis + 1, n: self.n };
        Ok(vec![record_one(op, &[&cx.leading(0)?, &cx.leading(1)?])?])
    }

    // Along the axis sums mix.
    fn rows(&self, _: &[Spec]) -> Rows {
        if self.axis == 0 { Rows::Mixed } else { Rows::each(&[(0, 0), (1, 0)], 0, Some(0)) }
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Tolerance};
    let mut cases = Vec::new();
    let rows = [(&[7][..], &[5][..], 0), (&[3, 5], &[3, 7], 1), (&[5, 3], &[31, 3], 0), (&[2, 5, 3], &[2, 7, 3], 1)];
    for (to, index, axis) in rows.into_iter().chain([(&[3, 2][..], &[3, 257][..], 1), (&[257], &[2], 0)]) {
        for (beyond, what) in [(0, ""), (3, ", some beyond it")] {
            let build = move |t: &[Tensor]| Ok(vec![scatter_add(&t[0], axis as isize, &t[1], &t[2])?]);
            let below = to[axis] as u32 + beyond;
            let inputs = [Input::normal(to), Input::index(index, below), Input::normal(index)];
            let case = Case::new(format!("{index:?} into {to:?} along {axis}{what}"), inputs, build);
            cases.push(case.tolerance(Tolerance::sum(index[axis] + 1)));
        }
    }
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("values unlike the index", &["scatter_add", "[2]", "[3]"], |d| {
            let index = Tensor::full_u32(d, &[2], 0)?;
            scatter_add(&Tensor::zeros(d, &[4])?, 0, &index, &Tensor::zeros(d, &[3])?)
        }),
        Reject::new("other sizes", &["scatter_add", "[2, 3]", "[1, 3]"], |d| {
            let index = Tensor::full_u32(d, &[1, 3], 0)?;
            scatter_add(&Tensor::zeros(d, &[2, 3])?, 1, &index, &Tensor::zeros(d, &[1, 3])?)
        }),
        Reject::new("words", &["scatter_add", "f32", "u32"], |d| {
            let words = Tensor::full_u32(d, &[2], 0)?;
            scatter_add(&Tensor::zeros(d, &[4])?, 0, &words, &words)
        }),
    ]
}
