//! Rows of a table: an embedding.
//!
//! out[b, j, :] = table[b, index[b, j], :].
//! Shapes: table [r, w] or [b, r, w], index `[m]` or [b, m] (u32) → [m, w], or [b, m, w] if either has the axis b. An index
//! that is not below r gives NaN (f32), false (bool) or the largest word (u32, i32).

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, In, Launch, Launches, Out, Rows, arity};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Shape, Spec, Tensor, record_one};

use crate::ops::gather::{as_index, invalid_word};
use crate::ops::take_grad::TakeGrad;

/// Rows of a table; the ranks of the inputs say which of them have the axis b.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Take;

/// Sizes of a call.
pub(crate) struct Sizes {
    pub batch: usize,
    pub n_idx: usize,
    pub n_rows: usize,
    pub width: usize,
    /// Elements from one entry of the batch to the next; 0 = shared.
    pub table_stride: usize,
    pub index_stride: usize,
}

/// `x` [r, ..] at `index` of any shape (u32 or i32): the index's sizes, then those of a row.
#[track_caller]
pub(crate) fn take(x: &Tensor, index: &Tensor) -> Result<Tensor> {
    let Some((&n_rows, row)) = x.dims().split_first() else {
        return Err(Error::shape(Take::NAME, "a table of rows", "a scalar"));
    };
    let width: usize = row.iter().product();
    let flat = as_index(Take::NAME, index)?.reshape(&[index.numel()])?;
    let dims: Vec<usize> = index.dims().iter().chain(row).copied().collect();
    record_one(Take, &[&x.reshape(&[n_rows, width])?, &flat])?.reshape(&dims)
}

impl Take {
    pub(crate) fn sizes(op: &'static str, table: &[usize], index: &[usize]) -> Result<Sizes> {
        let fail = || {
            let expected = "a table [r, w] or [b, r, w] and an index [m] or [b, m]";
            Error::shape(op, expected, format!("{table:?} and {index:?}"))
        };
        let (table_batch, [n_rows, width]) = match *table {
            [r, w] => (None, [r, w]),
            [b, r, w] => (Some(b), [r, w]),
            _ => return Err(fail()),
        };
        let (index_batch, n_idx) = match *index {
            [m] => (None, m),
            [b, m] => (Some(b), m),
            _ => return Err(fail()),
        };
        let batch = match (table_batch, index_batch) {
            (Some(a), Some(b)) if a != b => return Err(fail()),
            (a, b) => a.or(b).unwrap_or(1),
        };
        let table_stride = table_batch.map_or(0, |_| n_rows * width);
        Ok(Sizes { batch, n_idx, n_rows, width, table_stride, index_stride: index_batch.map_or(0, |_| n_idx) })
    }
}

fn rows<T: Copy>(table: &[T], index: &[u32], out: &mut [T], s: &Sizes, invalid: T) {
    for (i, row) in out.chunks_exact_mut(s.width.max(1)).enumerate() {
        let (b, j) = (i / s.n_idx, i % s.n_idx);
        let at = index[b * s.index_stride + j] as usize;
        if at < s.n_rows {
            let start = b * s.table_stride + at * s.width;
            row.copy_from_slice(&table[start..start + s.width]);
        } else {
            row.fill(invalid);
        }
    }
}

impl Kernel for Take {
    const NAME: &'static str = "take";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [table, index] = arity(Self::NAME, inputs)?;
        index.require_dtype(Self::NAME, DType::U32)?;
        if table.dtype == DType::F16 {
            let expected = "a 32-bit dtype (f16 is storage only)".into();
            return Err(Error::DType { op: Self::NAME, expected, found: table.dtype });
        }
        let s = Take::sizes(Self::NAME, &table.shape, &index.shape)?;
        let both = [s.batch, s.n_idx, s.width];
        let plain = table.shape.rank() == 2 && index.shape.rank() == 1;
        Ok(vec![Spec::new(Shape::new(if plain { &both[1..] } else { &both })?, table.dtype)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let Ok(s) = Take::sizes(Self::NAME, call.dims(0), call.dims(1)) else { return };
        let (index, dtype) = (call.word(1), call.in_specs[0].dtype);
        match (call.ins[0], &mut call.outs[0]) {
            (In::Real(x), Out::Real(out)) => rows(x, index, out, &s, R::NAN),
            (In::Word(x), Out::Word(out)) => rows(x, index, out, &s, invalid_word(dtype)),
            _ => {}
        }
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let s = Take::sizes(Self::NAME, &inputs[0].shape, &inputs[1].shape)?;
        let launch = Launch::threads(&shaders::TAKE, outputs[0].numel());
        let sizes = [s.batch, s.n_idx, s.n_rows, s.width, s.table_stride, s.index_stride];
        let mut launch = launch.u32s(&sizes).bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]);
        launch.params.push(invalid_word(inputs[0].dtype));
        Ok(launch.into())
    }

    // A row that was taken often gets the sum; a table that a batch shares gets that of the batch.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (table, index) = (cx.input(0), cx.input(1));
        if table.dtype() != DType::F32 {
            return Ok(vec![None, None]);
        }
        let mut dy = cx.upstream()?;
        let mut index = index.clone();
        let (rank, n_rows) = (table.rank(), table.dims()[table.rank() - 2]);
        if let (2, &[b, m, w]) = (rank, dy.dims()) {
            dy = dy.reshape(&[b * m, w])?;
            index = index.reshape(&[b * m])?;
        }
        Ok(vec![Some(record_one(TakeGrad { n_rows }, &[&dy, &index])?), None])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let (table, index) = (cx.raw(0), cx.raw(1));
        let mapped = |i: usize| usize::from(cx.is_each(i));
        // A batch inside: both get both axes, merged into one.
        if table.rank() - mapped(0) == 3 || index.rank() - mapped(1) == 2 {
            let inner = if table.rank() - mapped(0) == 3 { table.dims()[mapped(0)] } else { index.dims()[mapped(1)] };
            let (table, index) = (whole(cx, 0, 2, inner)?, whole(cx, 1, 1, inner)?);
            return Ok(vec![cx.split(&record_one(Take, &[&table, &index])?)?]);
        }
        Ok(vec![record_one(Take, &[table, index])?])
    }

    // A row for each index; any of them may be any row of the table.
    fn rows(&self, inputs: &[Spec]) -> Rows {
        match (inputs[0].shape.rank(), inputs[1].shape.rank()) {
            (2, 1) => Rows::each(&[(1, 0)], 0, None),
            _ => Rows::Mixed,
        }
    }
}

/// Input `i` with the mapped axis and an inner batch of `inner` merged: [s·inner, ..], whatever of them it lacks.
/// `rank` is that of one entry.
pub(crate) fn whole(cx: &BatchCx<'_>, i: usize, rank: usize, inner: usize) -> Result<Tensor> {
    let x = cx.leading(i)?;
    let x = if x.rank() == rank + 2 { x } else { x.unsqueeze(1)? };
    let entry = &x.dims()[2..];
    let wide: Vec<usize> = [cx.n, inner].iter().chain(entry).copied().collect();
    let merged: Vec<usize> = std::iter::once(cx.n * inner).chain(entry.iter().copied()).collect();
    x.expand(&wide)?.reshape(&merged)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order};
    let mut cases = Vec::new();
    for (table, index) in [(&[1, 1][..], &[1][..]), (&[5, 3], &[7]), (&[7, 2, 3], &[2, 5]), (&[33, 257], &[3])] {
        let (below, name) = (table[0] as u32, format!("{table:?} at {index:?}"));
        let build = |t: &[Tensor]| Ok(vec![take(&t[0], &t[1])?]);
        // What is taken keeps its bits.
        cases.push(Case::new(name.clone(), [Input::normal(table), Input::index(index, below)], build));
        let inputs = [Input::normal(table), Input::index(index, below + 2)];
        cases.push(Case::new(format!("{name}, some beyond"), inputs, build).order(Order::None));
    }
    // A map inside: either input has an axis of its own before the harness adds one.
    let build = |t: &[Tensor]| {
        let (table, index) = (t[0].clone(), t[1].clone());
        let by_index = acclimate_tensor::vmap(|i: Tensor| take(&table, &i), index.clone())?;
        let first = index.narrow(0, 0, 1)?.squeeze(0)?;
        let by_table = acclimate_tensor::vmap(|w: Tensor| take(&w, &first), t[2].clone())?;
        let by_both = acclimate_tensor::vmap(|(w, i): (Tensor, Tensor)| take(&w, &i), (t[2].clone(), index))?;
        Ok(vec![by_index, by_table, by_both])
    };
    let inputs = [Input::normal(&[5, 3]), Input::index(&[2, 7], 5), Input::normal(&[2, 5, 3])];
    cases.push(Case::new("a map inside", inputs, build));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("no rows", &["take", "table"], |d| take(&Tensor::zeros(d, &[])?, &Tensor::full_u32(d, &[2], 0)?)),
        Reject::new("indices that are no integers", &["take", "u32 or i32", "f32"], |d| {
            take(&Tensor::zeros(d, &[2, 2])?, &Tensor::zeros(d, &[2])?)
        }),
        Reject::new("batches differ", &["take", "[2, 4, 3]", "[3, 5]"], |d| {
            record_one(Take, &[&Tensor::zeros(d, &[2, 4, 3])?, &Tensor::full_u32(d, &[3, 5], 0)?])
        }),
    ]
}
