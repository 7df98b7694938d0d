//! What an op is: [`Kernel`] for authors, [`Op`] as the object the graph holds.
//!
//! A rule (gradient, batching) returns more graph. The reference is the textbook formula, generic over f32 and f64: in
//! f64 it is the oracle, in f32 it is the CPU engine's kernel until `cpu` replaces it with a faster one.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::device::Caps;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::expr::Func;
use crate::real::Real;
use crate::shape::{Shape, Spec};
use crate::tensor::Tensor;

mod launch;

pub use launch::{Bind, Launch, Launches};

/// One input of a reference or CPU kernel.
#[derive(Clone, Copy, Debug)]
pub enum In<'a, R> {
    /// Real numbers (f32 tensors).
    Real(&'a [R]),
    /// Words (u32, i32 as their bits, bool as 0 or 1).
    Word(&'a [u32]),
    /// Packed halves.
    Half(&'a [half::f16]),
    /// The op updates output `.0` in place and finds this input's values there.
    InPlace(usize),
}

/// One output of a reference or CPU kernel.
#[derive(Debug)]
pub enum Out<'a, R> {
    /// Real numbers (f32 tensors).
    Real(&'a mut [R]),
    /// Words.
    Word(&'a mut [u32]),
    /// Packed halves.
    Half(&'a mut [half::f16]),
}

/// A call of a reference or CPU kernel: contiguous row-major inputs and outputs with their specs.
///
/// The accessors return an empty slice where the kind of data is another one; shape rules have checked dtypes before.
#[derive(Debug)]
pub struct Call<'a, R> {
    /// Inputs.
    pub ins: SmallVec<[In<'a, R>; 8]>,
    /// Outputs; those of [`Kernel::in_place`] hold the input's values, the others hold anything.
    pub outs: SmallVec<[Out<'a, R>; 4]>,
    /// Specs of the inputs.
    pub in_specs: &'a [Spec],
    /// Specs of the outputs.
    pub out_specs: &'a [Spec],
}

impl<'a, R> Call<'a, R> {
    /// Input `i` as real numbers.
    pub fn real(&self, i: usize) -> &'a [R] {
        match self.ins.get(i) {
            Some(In::Real(x)) => x,
            _ => &[],
        }
    }

    /// Input `i` as words.
    pub fn word(&self, i: usize) -> &'a [u32] {
        match self.ins.get(i) {
            Some(In::Word(x)) => x,
            _ => &[],
        }
    }

    /// Input `i` as halves.
    pub fn half(&self, i: usize) -> &'a [half::f16] {
        match self.ins.get(i) {
            Some(In::Half(x)) => x,
            _ => &[],
        }
    }

    /// Input `i` as real numbers, halves widened (exactly).
    pub fn numbers(&self, i: usize) -> Cow<'a, [R]>
    where
        R: Real,
    {
        match self.ins.get(i) {
            Some(In::Half(x)) => Cow::Owned(R::of_halves(x)),
            _ => Cow::Borrowed(self.real(i)),
        }
    }

    /// Output `i` as real numbers.
    pub fn out_real(&mut self, i: usize) -> &mut [R] {
        match self.outs.get_mut(i) {
            Some(Out::Real(x)) => x,
            _ => &mut [],
        }
    }

    /// Output `i` as words.
    pub fn out_word(&mut self, i: usize) -> &mut [u32] {
        match self.outs.get_mut(i) {
            Some(Out::Word(x)) => x,
            _ => &mut [],
        }
    }

    /// Output `i` as halves.
    pub fn out_half(&mut self, i: usize) -> &mut [half::f16] {
        match self.outs.get_mut(i) {
            Some(Out::Half(x)) => x,
            _ => &mut [],
        }
    }

    /// The first `N` outputs as real numbers, at once.
    pub fn outs_real<const N: usize>(&mut self) -> [&mut [R]; N] {
        let mut outs = self.outs.iter_mut();
        std::array::from_fn(|_| match outs.next() {
            Some(Out::Real(x)) => &mut **x,
            _ => &mut [],
        })
    }

    /// Sizes of input `i`.
    pub fn dims(&self, i: usize) -> &'a [usize] {
        self.in_specs.get(i).map_or(&[], |s| s.shape.dims())
    }

    /// Sizes of output `i`.
    pub fn out_dims(&self, i: usize) -> &'a [usize] {
        self.out_specs.get(i).map_or(&[], |s| s.shape.dims())
    }
}

/// What a gradient rule sees.
pub struct GradCx<'a> {
    /// Inputs of the op.
    pub inputs: &'a [Tensor],
    /// Outputs of the op.
    pub outputs: &'a [Tensor],
    /// Gradients of the outputs; `None` where the loss does not depend on that output.
    pub upstream: &'a [Option<Tensor>],
}

impl GradCx<'_> {
    /// Input `i`.
    pub fn input(&self, i: usize) -> &Tensor {
        &self.inputs[i]
    }

    /// The first output.
    pub fn output(&self) -> &Tensor {
        &self.outputs[0]
    }

    /// The gradient of the first output, zeros if the loss does not depend on it.
    pub fn upstream(&self) -> Result<Tensor> {
        match &self.upstream[0] {
            Some(dy) => Ok(dy.clone()),
            None => self.outputs[0].zeros_like(),
        }
    }
}

/// An input of a batching rule.
#[derive(Clone, Debug)]
pub enum Batched {
    /// With a leading axis of the map's size in front of the per-input shape.
    Each(Tensor),
    /// The same for each input.
    Shared(Tensor),
}

/// What a batching rule sees. At least one input is [`Batched::Each`].
pub struct BatchCx<'a> {
    /// Inputs.
    pub inputs: &'a [Batched],
    /// Size of the mapped axis.
    pub n: usize,
}

impl BatchCx<'_> {
    /// Input `i` with the leading axis, repeated if it is shared.
    pub fn leading(&self, i: usize) -> Result<Tensor> {
        match &self.inputs[i] {
            Batched::Each(t) => Ok(t.clone()),
            Batched::Shared(t) => t.repeat_leading(self.n),
        }
    }

    /// Whether input `i` differs from input to input.
    pub fn is_each(&self, i: usize) -> bool {
        matches!(self.inputs[i], Batched::Each(_))
    }

    /// Input `i` as it is.
    pub fn raw(&self, i: usize) -> &Tensor {
        match &self.inputs[i] {
            Batched::Each(t) | Batched::Shared(t) => t,
        }
    }

    /// Merges the mapped axis into axis 0 of input `i`: [s, n, ..] to [s·n, ..]; shared inputs are repeated.
    pub fn merged(&self, i: usize) -> Result<Tensor> {
        self.leading(i)?.merge_leading()
    }

    /// Splits axis 0 of a result again: [s·n, ..] to [s, n, ..].
    pub fn split(&self, y: &Tensor) -> Result<Tensor> {
        y.split_leading(self.n)
    }
}

/// An op, as its author writes it. Equal ops of equal inputs are equal nodes, and plans are cached by `Hash`:
/// everything that decides what is computed must be in it.
pub trait Kernel: Debug + Clone + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// The op's name: that of the literature.
    const NAME: &'static str;

    /// Specs of the outputs, or why the inputs do not fit.
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>>;

    /// The textbook formula.
    fn reference<R: Real>(&self, call: &mut Call<'_, R>);

    /// The CPU engine's kernel.
    fn cpu(&self, call: &mut Call<'_, f32>) {
        self.reference(call);
    }

    /// The dispatches of the GPU engine. If each that writes the first output stores through the shader's `finish`, element-wise
    /// functions of that output are computed there too ([`Launches::can_finish`]).
    fn launch(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Launches>;

    /// Other ways to launch the op than `launch`, for a device that was asked to time them ([`DeviceOptions::autotune`]).
    /// They must give the same bits on small integers, as sums of products do whatever their order.
    ///
    /// [`DeviceOptions::autotune`]: crate::DeviceOptions::autotune
    fn alternatives(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        let _ = (inputs, outputs, caps);
        Ok(Vec::new())
    }

    /// Gradients of the inputs, as graph.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let _ = cx;
        Err(Error::NotDifferentiable { op: Self::NAME })
    }

    /// The op on each input of a batch: outputs with a leading axis.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let _ = cx;
        Err(Error::NotBatchable { op: Self::NAME })
    }

    /// Multiplications and additions of one call, by the formula; 0 where nobody counts them.
    fn flop(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let _ = (inputs, outputs);
        0
    }

    /// Pairs (input, output) that share memory: the op reads and writes the output, which holds the input's values
    /// before. The planner gives it the input's own memory if nobody else needs it, else a copy.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// How rows belong together. An op that says more than [`Rows::Mixed`] must work with any number of rows from 0 on.
    fn rows(&self, inputs: &[Spec]) -> Rows {
        let _ = inputs;
        Rows::Mixed
    }
}

/// How the rows of an op's inputs and outputs belong together, so that the planner can leave out rows that nobody reads
/// (see [`Tensor::live_rows`]). Rows lie along an axis that has only axes of 1 before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Any output may need any row.
    Mixed,
    /// A row of every output needs the same row of these inputs, and the other inputs whole.
    Each {
        /// Inputs, each with the axis of its rows.
        inputs: SmallVec<[(usize, usize); 2]>,
        /// The axis of the rows of the outputs.
        axis: usize,
        /// Rows of zeros in this input give rows of zeros.
        linear: Option<usize>,
    },
    /// A sum over the rows of these inputs, each with the axis of its rows; where one has zeros, the row adds nothing.
    Sum(SmallVec<[(usize, usize); 2]>),
}

impl Rows {
    /// One row of input 0 for each row of the output, along axis 0 of both; `linear`: zeros give zeros.
    pub fn of_first(linear: bool) -> Self {
        Rows::each(&[(0, 0)], 0, linear.then_some(0))
    }

    /// See [`Rows::Each`].
    pub fn each(inputs: &[(usize, usize)], axis: usize, linear: Option<usize>) -> Self {
        Rows::Each { inputs: SmallVec::from_slice(inputs), axis, linear }
    }

    /// See [`Rows::Sum`].
    pub fn sum(inputs: &[(usize, usize)]) -> Self {
        Rows::Sum(SmallVec::from_slice(inputs))
    }
}

/// The few primitives that transforms and planner know by kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Core {
    /// An element-wise function of equal shapes.
    Map(Func),
    /// One value everywhere; the value (bits) is a parameter of the plan, not part of its key.
    Constant(u32),
    /// 0, 1, 2, .. along an axis, as u32.
    Iota(usize),
    /// A view.
    View(View),
    /// Zeros around (and between) the input's elements. `low[d] + i·step[d]` is where element `i` lands.
    Pad {
        /// Zeros before each axis.
        low: Vec<usize>,
        /// Distance of neighbors.
        step: Vec<usize>,
        /// Sizes of the result.
        to: Shape,
    },
    /// A reduction over axes, which stay with size 1.
    Reduce(Reduction, Vec<usize>),
    /// Flat pieces written at their offsets into `len` elements, zeros elsewhere.
    Assemble {
        /// Offset of each input, in elements; ascending, not overlapping.
        offsets: Vec<usize>,
        /// Elements of the result.
        len: usize,
    },
}

/// A view: the same elements in another arrangement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// Another shape with as many elements, row-major.
    Reshape(Shape),
    /// Axis `d` of the result is axis `.0[d]` of the input.
    Permute(Vec<usize>),
    /// Axes of size 1 repeated to this shape, of the same rank.
    Expand(Shape),
    /// `start + i·step` along each axis, `len` elements; negative steps run backwards.
    Slice {
        /// First element of each axis.
        start: Vec<usize>,
        /// Step of each axis.
        step: Vec<isize>,
        /// Sizes of the result.
        len: Vec<usize>,
    },
}

/// How a reduction combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Sum.
    Sum,
    /// Maximum; NaN if any is.
    Max,
    /// Minimum; NaN if any is.
    Min,
    /// Product.
    Prod,
}

/// An op as the graph holds it. Made from a [`Kernel`]; the core primitives are made by `Tensor`'s methods.
pub trait Op: Debug + Send + Sync {
    /// The op's name.
    fn name(&self) -> &'static str;
    /// The primitive, if it is one that transforms and planner know.
    fn core(&self) -> Option<&Core> {
        None
    }
    /// The kernel it was made from, for what must know its settings; none for primitives.
    fn kernel(&self) -> Option<&dyn Any> {
        None
    }
    /// Feeds everything structural to a hasher that keeps the bytes.
    fn key(&self, hasher: &mut dyn Hasher);
    /// Specs of the outputs.
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>>;
    /// The reference in f64: the oracle.
    fn reference64(&self, call: &mut Call<'_, f64>);
    /// The reference in f32.
    fn reference32(&self, call: &mut Call<'_, f32>);
    /// The CPU engine's kernel.
    fn cpu(&self, call: &mut Call<'_, f32>);
    /// The GPU engine's dispatches.
    fn launch(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Launches>;
    /// Other ways to launch it.
    fn alternatives(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        let _ = (inputs, outputs, caps);
        Ok(Vec::new())
    }
    /// Gradient rule.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>>;
    /// Batching rule.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>>;
    /// Multiplications and additions of one call.
    fn flop(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let _ = (inputs, outputs);
        0
    }
    /// Inputs and outputs that share memory.
    fn in_place(&self) -> &'static [(usize, usize)];
    /// How rows belong together.
    fn rows(&self, inputs: &[Spec]) -> Rows;
}

impl<K: Kernel> Op for K {
    fn name(&self) -> &'static str {
        K::NAME
    }
    fn kernel(&self) -> Option<&dyn Any> {
        Some(self)
    }
    fn key(&self, mut hasher: &mut dyn Hasher) {
        K::NAME.hash(&mut hasher);
        self.hash(&mut hasher);
    }
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Kernel::shape(self, inputs)
    }
    fn reference64(&self, call: &mut Call<'_, f64>) {
        self.reference(call);
    }
    fn reference32(&self, call: &mut Call<'_, f32>) {
        self.reference(call);
    }
    fn cpu(&self, call: &mut Call<'_, f32>) {
        Kernel::cpu(self, call);
    }
    fn launch(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Launches> {
        Kernel::launch(self, inputs, outputs, caps)
    }
    fn alternatives(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        Kernel::alternatives(self, inputs, outputs, caps)
    }
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Kernel::grad(self, cx)
    }
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Kernel::batch(self, cx)
    }
    fn flop(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        Kernel::flop(self, inputs, outputs)
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        Kernel::in_place(self)
    }
    fn rows(&self, inputs: &[Spec]) -> Rows {
        Kernel::rows(self, inputs)
    }
}

/// Records an op: checks shapes at once, computes nothing. One tensor per output.
#[track_caller]
pub fn record<K: Kernel>(kernel: K, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    Tensor::record(Arc::new(kernel), inputs)
}

/// Records an op with one output.
#[track_caller]
pub fn record_one<K: Kernel>(kernel: K, inputs: &[&Tensor]) -> Result<Tensor> {
    let mut outputs = Tensor::record(Arc::new(kernel), inputs)?;
    outputs.truncate(1);
    outputs.pop().ok_or_else(|| Error::internal(K::NAME, "no output"))
}

/// The inputs as an array of `N`, or an error that counts them.
pub fn arity<'a, const N: usize>(op: &'static str, inputs: &'a [Spec]) -> Result<&'a [Spec; N]> {
    inputs.try_into().map_err(|_| Error::shape(op, format!("{N} inputs"), inputs.len().to_string()))
}

/// Fails unless all inputs are f32, or all are halves.
pub fn require_floats(op: &'static str, inputs: &[Spec]) -> Result<()> {
    match inputs.first().map(|s| s.dtype) {
        Some(DType::F16) => match inputs.iter().find(|s| s.dtype != DType::F16) {
            Some(s) => Err(Error::DType { op, expected: "f16 beside f16 (cast one of them)".into(), found: s.dtype }),
            None => Ok(()),
        },
        _ => require_all(op, inputs, DType::F32),
    }
}

/// Fails unless every input has the dtype.
pub fn require_all(op: &'static str, inputs: &[Spec], dtype: DType) -> Result<()> {
    inputs.iter().try_for_each(|s| s.require_dtype(op, dtype).map(drop))
}
