//! Pick along an axis.
//!
//! out[o, j, i] = x[o, index[o, j, i], i], where j runs along the axis.
//! Shapes: x [.., n, ..], index [.., m, ..] (u32), equal but for the axis → that of index. An index that is not below n
//! gives NaN (f32), false (bool) or the largest word (u32, i32), which is no valid index either.

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, In, Launch, Launches, Out, Rows, arity};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Spec, Tensor, record_one};

use crate::ops::scatter_add::ScatterAdd;

/// Pick along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
}

/// `x` gathered along `axis` by `index` (u32 or i32).
#[track_caller]
pub(crate) fn gather(x: &Tensor, axis: isize, index: &Tensor) -> Result<Tensor> {
    let axis = x.shape().axis(Gather::NAME, axis)?;
    record_one(Gather { axis }, &[x, &as_index(Gather::NAME, index)?])
}

/// An index tensor as u32; i32 is taken too, negative ones are beyond any axis.
pub(crate) fn as_index(op: &'static str, index: &Tensor) -> Result<Tensor> {
    match index.dtype() {
        DType::U32 | DType::I32 => index.cast(DType::U32),
        found => Err(Error::DType { op, expected: "u32 or i32 indices".into(), found }),
    }
}

/// The word that an index out of range gives.
pub(crate) fn invalid_word(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => f32::NAN.to_bits(),
        DType::Bool => 0,
        _ => u32::MAX,
    }
}

/// Sizes before, along and after an axis.
pub(crate) fn around(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

/// Fails unless the shapes are equal but for the axis and neither is f16.
pub(crate) fn require_beside(op: &'static str, x: &Spec, index: &Spec, axis: usize) -> Result<()> {
    index.require_dtype(op, DType::U32)?;
    if x.dtype == DType::F16 {
        return Err(Error::DType { op, expected: "a 32-bit dtype (f16 is storage only)".into(), found: x.dtype });
    }
    let rank = x.shape.rank();
    let equal = index.shape.rank() == rank && (0..rank).all(|d| d == axis || x.shape[d] == index.shape[d]);
    if axis >= rank || !equal {
        let expected = format!("an index of the shape {} but for axis {axis}", x.shape);
        return Err(Error::shape(op, expected, format!("index of shape {}", index.shape)));
    }
    Ok(())
}

/// out[o, j, i] = x[o, index[o, j, i], i] for x [.., n, inner] and m picks.
fn pick<T: Copy>(x: &[T], index: &[u32], out: &mut [T], [n, m, inner]: [usize; 3], invalid: T) {
    let per_outer = (m * inner).max(1);
    let rows = out.chunks_exact_mut(per_outer).zip(index.chunks_exact(per_outer));
    for (o, (out, index)) in rows.enumerate() {
        for (i, (out, &at)) in out.iter_mut().zip(index).enumerate() {
            let at = at as usize;
            *out = if at < n { x[(o * n + at) * inner + i % inner] } else { invalid };
        }
    }
}

impl Kernel for Gather {
    const NAME: &'static str = "gather";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, index] = arity(Self::NAME, inputs)?;
        require_beside(Self::NAME, x, index, self.axis)?;
        Ok(vec![Spec::new(index.shape.clone(), x.dtype)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (_, n, inner) = around(call.dims(0), self.axis);
        let sizes = [n, call.dims(1)[self.axis], inner];
        let (index, dtype) = (call.word(1), call.in_specs[0].dtype);
        match (call.ins[0], &mut call.outs[0]) {
            (In::Real(x), Out::Real(out)) => pick(x, index, out, sizes, R::NAN),
            (In::Word(x), Out::Word(out)) => pick(x, index, out, sizes, invalid_word(dtype)),
            _ => {}
        }
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let (outer, n_src, inner) = around(&inputs[0].shape, self.axis);
        let n_idx = inputs[1].shape[self.axis];
        let launch = Launch::threads(&shaders::GATHER, outputs[0].numel()).u32s(&[outer, n_src, n_idx, inner]);
        let mut launch = launch.bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]);
        launch.params.push(invalid_word(inputs[0].dtype));
        Ok(launch.into())
    }

    // What was picked often gets the sum.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (x, index) = (cx.input(0), cx.input(1));
        if x.dtype() != DType::F32 {
            return Ok(vec![None, None]);
        }
        let back = ScatterAdd { axis: self.axis, n: x.dims()[self.axis] };
        Ok(vec![Some(record_one(back, &[&cx.upstream()?, index])?), None])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(Gather { axis: self.axis + 1 }, &[&cx.leading(0)?, &cx.leading(1)?])?])
    }

    // Along the axis picks mix.
    fn rows(&self, _: &[Spec]) -> Rows {
        if self.axis == 0 { Rows::Mixed } else { Rows::each(&[(0, 0), (1, 0)], 0, None) }
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order};
    let mut cases = Vec::new();
    let rows = [(&[7][..], &[5][..], 0), (&[3, 5], &[3, 7], 1), (&[5, 3], &[2, 3], 0), (&[2, 5, 3], &[2, 7, 3], 1)];
    for (x, index, axis) in rows.into_iter().chain([(&[3, 257][..], &[3, 31][..], 1), (&[1025], &[1], 0)]) {
        let below = x[axis] as u32;
        let build = move |t: &[Tensor]| Ok(vec![gather(&t[0], axis as isize, &t[1])?]);
        let name = format!("{x:?} at {index:?} along {axis}");
        // What is picked keeps its bits.
        cases.push(Case::new(name, [Input::normal(x), Input::index(index, below)], build));
        let name = format!("{x:?} at {index:?} along {axis}, beyond it and of words");
        let inputs = [Input::normal(x), Input::index(x, 1 << 30), Input::index(index, below + 2)];
        let build =
            move |t: &[Tensor]| Ok(vec![gather(&t[0], axis as isize, &t[2])?, gather(&t[1], axis as isize, &t[2])?]);
        cases.push(Case::new(name, inputs, build).order(Order::None));
    }
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("axis", &["gather", "axis 2", "rank 2"], |d| {
            gather(&Tensor::zeros(d, &[2, 3])?, 2, &Tensor::full_u32(d, &[2, 1], 0)?)
        }),
        Reject::new("other sizes", &["gather", "[2, 3]", "[3, 1]"], |d| {
            gather(&Tensor::zeros(d, &[2, 3])?, 1, &Tensor::full_u32(d, &[3, 1], 0)?)
        }),
        Reject::new("indices that are no integers", &["gather", "u32 or i32", "f32"], |d| {
            gather(&Tensor::zeros(d, &[2])?, 0, &Tensor::zeros(d, &[2])?)
        }),
    ]
}
