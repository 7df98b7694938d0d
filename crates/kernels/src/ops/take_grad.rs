//! Gradient of `take` by its table.
//!
//! dtable[b, r, :] = Σⱼ dy[b, j, :] over the j with index[b, j] = r, in order of j. Other indices add to nothing.
//! Shapes: dy [m, w] or [b, m, w], index `[m]` or [b, m] (u32) → [r, w] or [b, r, w] as dy is.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, Rows, arity};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Shape, Spec, Tensor, record_one};

use crate::ops::take::{Take, whole};

/// Gradient of `take` by its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TakeGrad {
    /// Rows of the table.
    pub n_rows: usize,
}

/// batch, m, w and the index's stride from one entry to the next.
fn sizes(dy: &[usize], index: &[usize]) -> Result<[usize; 4]> {
    match (dy, index) {
        (&[m, w], &[n]) if m == n => Ok([1, m, w, 0]),
        (&[b, m, w], &[n]) if m == n => Ok([b, m, w, 0]),
        (&[b, m, w], &[c, n]) if m == n && b == c => Ok([b, m, w, m]),
        _ => {
            let expected = "dy [m, w] or [b, m, w] and an index [m] or [b, m]";
            Err(Error::shape(TakeGrad::NAME, expected, format!("{dy:?} and {index:?}")))
        }
    }
}

impl Kernel for TakeGrad {
    const NAME: &'static str = "take_grad";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [dy, index] = arity(Self::NAME, inputs)?;
        dy.require_dtype(Self::NAME, DType::F32)?;
        index.require_dtype(Self::NAME, DType::U32)?;
        sizes(&dy.shape, &index.shape)?;
        let mut dims = dy.shape.to_vec();
        let rank = dims.len();
        dims[rank - 2] = self.n_rows;
        Ok(vec![Spec::new(Shape::new(&dims)?, DType::F32)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let Ok([batch, m, w, stride]) = sizes(call.dims(0), call.dims(1)) else { return };
        let (dy, index, n_rows) = (call.real(0), call.word(1), self.n_rows);
        let out = call.out_real(0);
        out.fill(R::ZERO);
        for b in 0..batch {
            for j in 0..m {
                let at = index[b * stride + j] as usize;
                if at < n_rows {
                    let (from, to) = ((b * m + j) * w, (b * n_rows + at) * w);
                    for (sum, &x) in out[to..to + w].iter_mut().zip(&dy[from..from + w]) {
                        *sum += x;
                    }
                }
            }
        }
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let [batch, m, w, stride] = sizes(&inputs[0].shape, &inputs[1].shape)?;
        let workgroups = batch * self.n_rows * w.div_ceil(256);
        let launch = Launch::new(&shaders::TAKE_GRAD, workgroups).u32s(&[batch, m, self.n_rows, w, stride]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]).into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let index = cx.input(1);
        let ddy = record_one(Take, &[&cx.upstream()?, index])?;
        // An index out of range added to nothing; taking there gives NaN.
        let n_rows = Tensor::full_u32(index.device(), index.dims(), u32::try_from(self.n_rows).unwrap_or(u32::MAX))?;
        let inside = index.lt(&n_rows)?.unsqueeze(index.rank())?;
        Ok(vec![Some(inside.select(&ddy, &ddy.zeros_like()?)?), None])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let dy = cx.leading(0)?;
        if let &[_, inner, _, _] = dy.dims() {
            let (dy, index) = (whole(cx, 0, 2, inner)?, whole(cx, 1, 1, inner)?);
            return Ok(vec![cx.split(&record_one(*self, &[&dy, &index])?)?]);
        }
        Ok(vec![record_one(*self, &[&dy, cx.raw(1)])?])
    }

    // Rows are added to those of the table.
    fn rows(&self, inputs: &[Spec]) -> Rows {
        match (inputs[0].shape.rank(), inputs[1].shape.rank()) {
            (2, 1) => Rows::sum(&[(0, 0), (1, 0)]),
            _ => Rows::Mixed,
        }
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Tolerance};
    let op = |n_rows: usize| move |t: &[Tensor]| Ok(vec![record_one(TakeGrad { n_rows }, &[&t[0], &t[1]])?]);
    let mut cases = Vec::new();
    for (m, w, n_rows) in [(1, 1, 1), (7, 3, 5), (257, 2, 3), (3, 257, 2), (300, 1, 31)] {
        for (beyond, what) in [(0, ""), (3, ", some beyond")] {
            if m == 1 && beyond > 0 {
                continue; // All of it beyond has no gradient.
            }
            let inputs = [Input::normal(&[m, w]), Input::index(&[m], n_rows as u32 + beyond)];
            let case = Case::new(format!("{m} rows of {w} into {n_rows}{what}"), inputs, op(n_rows));
            cases.push(case.tolerance(Tolerance::sum(m)));
        }
    }
    for index in [&[7][..], &[2, 7]] {
        let inputs = [Input::normal(&[2, 7, 3]), Input::index(index, 5)];
        cases.push(Case::new(format!("a batch, index {index:?}"), inputs, op(5)).tolerance(Tolerance::sum(7)));
    }
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("sizes differ", &["take_grad", "[4, 3]", "[5]"], |d| {
            record_one(TakeGrad { n_rows: 2 }, &[&Tensor::zeros(d, &[4, 3])?, &Tensor::full_u32(d, &[5], 0)?])
        }),
        Reject::new("indices that are no integers", &["take_grad", "u32", "f32"], |d| {
            record_one(TakeGrad { n_rows: 2 }, &[&Tensor::zeros(d, &[4, 3])?, &Tensor::zeros(d, &[4])?])
        }),
    ]
}
