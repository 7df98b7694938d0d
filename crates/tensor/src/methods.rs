//! The tensor's methods of the primitives: element-wise functions, views, reductions, constants.

use std::panic::Location;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::core_op::CoreOp;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::expr::Func;
use crate::op::{Core, Reduction, View};
use crate::shape::{Shape, Spec};
use crate::tensor::Tensor;

#[track_caller]
fn nullary(device: &Device, core: Core, spec: Spec) -> Tensor {
    let specs = vec![spec.clone()];
    Tensor::from_op(Arc::new(CoreOp::nullary(core, spec)), Vec::new(), specs, device, Location::caller()).swap_remove(0)
}

#[track_caller]
fn one(core: Core, inputs: &[&Tensor]) -> Result<Tensor> {
    Ok(Tensor::record(Arc::new(CoreOp::new(core)), inputs)?.swap_remove(0))
}

/// Constants.
impl Tensor {
    /// One f32 everywhere. The value is a parameter of plans, not part of them.
    #[track_caller]
    pub fn full(device: &Device, dims: &[usize], value: f32) -> Result<Tensor> {
        Ok(nullary(device, Core::Constant(value.to_bits()), Spec::f32(dims)?))
    }

    /// One u32 everywhere.
    #[track_caller]
    pub fn full_u32(device: &Device, dims: &[usize], value: u32) -> Result<Tensor> {
        Ok(nullary(device, Core::Constant(value), Spec::new(Shape::new(dims)?, DType::U32)))
    }

    /// Zeros (f32).
    #[track_caller]
    pub fn zeros(device: &Device, dims: &[usize]) -> Result<Tensor> {
        Tensor::full(device, dims, 0.0)
    }

    /// Ones (f32).
    #[track_caller]
    pub fn ones(device: &Device, dims: &[usize]) -> Result<Tensor> {
        Tensor::full(device, dims, 1.0)
    }

    /// 0, 1, 2, .. along `axis`, the same along the others; u32.
    #[track_caller]
    pub fn iota(device: &Device, dims: &[usize], axis: isize) -> Result<Tensor> {
        let shape = Shape::new(dims)?;
        let axis = shape.axis("iota", axis)?;
        Ok(nullary(device, Core::Iota(axis), Spec::new(shape, DType::U32)))
    }

    /// A value (as bits, of an f32 for halves) everywhere, with the shape and dtype of this tensor.
    #[track_caller]
    fn fill_like(&self, bits: u32) -> Tensor {
        nullary(self.device(), Core::Constant(bits), self.spec().clone())
    }

    /// Zeros of the same shape and dtype.
    #[track_caller]
    pub fn zeros_like(&self) -> Result<Tensor> {
        Ok(self.fill_like(0))
    }

    /// Ones of the same shape and dtype.
    #[track_caller]
    pub fn ones_like(&self) -> Result<Tensor> {
        Ok(self.fill_like(if self.dtype().is_float() { 1.0f32.to_bits() } else { 1 }))
    }

    /// `value` with this tensor's shape (f32).
    #[track_caller]
    pub fn full_like(&self, value: f32) -> Result<Tensor> {
        self.spec().require_dtype("full_like", DType::F32)?;
        Ok(self.fill_like(value.to_bits()))
    }
}

macro_rules! unary {
    ($($name:ident $func:ident $doc:literal;)*) => { $(
        #[doc = $doc]
        #[track_caller]
        pub fn $name(&self) -> Result<Tensor> { Tensor::map(Func::$func, &[self]) }
    )* };
}

macro_rules! binary {
    ($($name:ident $func:ident $doc:literal;)*) => { $(
        #[doc = $doc]
        #[track_caller]
        pub fn $name(&self, other: &Tensor) -> Result<Tensor> { Tensor::map(Func::$func, &[self, other]) }
    )* };
}

/// Element-wise functions. Shapes broadcast by the rules of NumPy; dtypes must agree.
impl Tensor {
    /// An element-wise function of tensors that broadcast against each other.
    #[track_caller]
    pub fn map(func: Func, inputs: &[&Tensor]) -> Result<Tensor> {
        let Some((first, rest)) = inputs.split_first() else {
            return Err(Error::shape(func.name(), "at least one input", "none"));
        };
        if rest.iter().all(|t| t.shape() == first.shape()) {
            return one(Core::Map(func), inputs);
        }
        let mut shape = first.shape().clone();
        for t in rest {
            shape = Shape::broadcast(func.name(), &shape, t.shape())?;
        }
        let inputs = inputs.iter().map(|t| t.broadcast_to(&shape)).collect::<Result<SmallVec<[Tensor; 4]>>>()?;
        one(Core::Map(func), &inputs.iter().collect::<SmallVec<[&Tensor; 4]>>())
    }

    unary! {
        neg Neg "−x.";
        abs Abs "|x|.";
        sign Sign "−1, 0 or 1.";
        relu Relu "max(x, 0); NaN stays.";
        exp Exp "e^x.";
        expm1 Expm1 "e^x − 1, accurate near 0.";
        ln Ln "Natural logarithm.";
        log1p Log1p "ln(1 + x), accurate near 0.";
        sqrt Sqrt "Square root.";
        rsqrt Rsqrt "1 / √x.";
        recip Recip "1 / x.";
        sin Sin "Sine.";
        cos Cos "Cosine.";
        tanh Tanh "Hyperbolic tangent.";
        sigmoid Sigmoid "1 / (1 + e^−x).";
        erf Erf "Error function.";
        floor Floor "Largest integer not above.";
        ceil Ceil "Smallest integer not below.";
        round Round "Nearest integer, ties to even.";
        is_nan IsNan "Whether not a number.";
        is_finite IsFinite "Whether neither infinite nor NaN.";
        detach Detach "The same value, through which no gradient flows.";
    }

    binary! {
        add Add "x + y.";
        sub Sub "x − y.";
        mul Mul "x · y.";
        div Div "x / y.";
        pow Pow "x^y.";
        maximum Max "The larger; NaN if either is.";
        minimum Min "The smaller; NaN if either is.";
        eq Eq "x = y.";
        ne Ne "x ≠ y.";
        lt Lt "x < y.";
        le Le "x ≤ y.";
        gt Gt "x > y.";
        ge Ge "x ≥ y.";
        and And "Bits (or truth) of both.";
        or Or "Bits (or truth) of either.";
        xor Xor "Bits (or truth) of exactly one.";
        shl Shl "Bits shifted up (u32).";
        shr Shr "Bits shifted down (u32).";
        div_u32 DivU "Integer quotient (u32); 0 where y = 0.";
        rem_u32 RemU "Integer remainder (u32); 0 where y = 0.";
    }

    /// `yes` where this (bool) is true, else `no`.
    #[track_caller]
    pub fn select(&self, yes: &Tensor, no: &Tensor) -> Result<Tensor> {
        Tensor::map(Func::Select, &[self, yes, no])
    }

    /// Rows 0, 1, .. `count` as they are, zeros from there on. `count`: one u32, on the device; rows lie along axis 0.
    ///
    /// What makes the other rows is not computed, and they are never read: an op that works row by row does the first
    /// `count` rows, a sum over the rows stops there, and so do their gradients. The planner finds out which steps that
    /// is true of; nobody reads the count back. Mark the rows where they enter and where they end: what is planned apart
    /// then meets zeros, which no gradient turns into NaN.
    ///
    /// ```
    /// use acclimate_tensor::{Device, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = Tensor::from_slice(&device, &[1.0, 2.0, f32::NAN], &[3])?;
    /// let count = Tensor::from_slice(&device, &[2u32], &[1])?;
    /// assert_eq!(x.exp()?.live_rows(&count)?.sum(&[])?.item()?, 1f32.exp() + 2f32.exp());
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    pub fn live_rows(&self, count: &Tensor) -> Result<Tensor> {
        let op = "live_rows";
        let Some(&n) = self.dims().first() else { return Err(Error::shape(op, "rows", "a scalar")) };
        count.spec().require_dtype(op, DType::U32)?;
        if count.numel() != 1 {
            return Err(Error::shape(op, "a count of one element", format!("shape {}", count.shape())));
        }
        let rows = Shape::new(&[n])?;
        let live = Tensor::iota(self.device(), &[n], 0)?.lt(&count.reshape(&[1])?.broadcast_to(&rows)?)?;
        let mut dims = vec![1; self.rank()];
        dims[0] = n;
        live.reshape(&dims)?.broadcast_to(self.shape())?.select(self, &self.zeros_like()?)
    }

    /// Not (bool).
    #[track_caller]
    pub fn not(&self) -> Result<Tensor> {
        self.spec().require_dtype("not", DType::Bool)?;
        self.xor(&self.ones_like()?)
    }

    /// First word of Philox4x32-10 under key (`k0`, `k1`) at counter (`c0`, `c1`, 0, 0); all u32.
    #[track_caller]
    pub fn philox(k0: &Tensor, k1: &Tensor, c0: &Tensor, c1: &Tensor) -> Result<Tensor> {
        Tensor::map(Func::Philox, &[k0, k1, c0, c1])
    }

    /// Another dtype: floats to integers truncate towards zero; to bool: whether not zero; to f16: the nearest half, ties to
    /// even, ±∞ beyond ±65504. Halves are storage: other dtypes come from them, and they from others, by way of f32. The
    /// gradient of a half is a half.
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let by_f32 = |a: DType, b: DType| a == DType::F16 && b != DType::F32;
        if by_f32(dtype, self.dtype()) || by_f32(self.dtype(), dtype) {
            return self.cast(DType::F32)?.cast(dtype);
        }
        // There and back: what was half a moment ago is half still.
        if dtype == DType::F16
            && let Some((op, inputs)) = self.recipe()
            && matches!(op.core(), Some(Core::Map(Func::ToF32)))
            && inputs[0].dtype() == DType::F16
        {
            return Ok(inputs[0].clone());
        }
        let func = match dtype {
            DType::F32 => Func::ToF32,
            DType::I32 => Func::ToI32,
            DType::U32 => Func::ToU32,
            DType::Bool => Func::ToBool,
            DType::F16 => Func::ToF16,
        };
        Tensor::map(func, &[self])
    }

    /// x + c.
    #[track_caller]
    pub fn add_scalar(&self, c: f32) -> Result<Tensor> {
        self.add(&self.full_like(c)?)
    }

    /// x · c.
    #[track_caller]
    pub fn mul_scalar(&self, c: f32) -> Result<Tensor> {
        self.mul(&self.full_like(c)?)
    }

    /// x².
    #[track_caller]
    pub fn square(&self) -> Result<Tensor> {
        self.mul(self)
    }
}

/// Views: the same elements in another arrangement. They cost nothing where the planner can read through them.
impl Tensor {
    /// Another shape with as many elements.
    #[track_caller]
    pub fn reshape(&self, dims: &[usize]) -> Result<Tensor> {
        let shape = Shape::new(dims)?;
        if &shape == self.shape() { Ok(self.clone()) } else { one(Core::View(View::Reshape(shape)), &[self]) }
    }

    /// Axis `d` of the result is axis `order[d]` of this.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Result<Tensor> {
        if order.iter().enumerate().all(|(i, &d)| i == d) && order.len() == self.rank() {
            return Ok(self.clone());
        }
        one(Core::View(View::Permute(order.to_vec())), &[self])
    }

    /// Two axes swapped.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Result<Tensor> {
        let (a, b) = (self.shape().axis("transpose", a)?, self.shape().axis("transpose", b)?);
        let mut order: Vec<usize> = (0..self.rank()).collect();
        order.swap(a, b);
        self.permute(&order)
    }

    /// Repeated along axes of size 1, new axes in front: by the rules of NumPy.
    #[track_caller]
    pub fn broadcast_to(&self, shape: &Shape) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        if &Shape::broadcast("broadcast_to", self.shape(), shape)? != shape {
            return Err(Error::Broadcast {
                op: "broadcast_to",
                left: self.shape().to_string(),
                right: shape.to_string(),
            });
        }
        let mut dims: SmallVec<[usize; 6]> = SmallVec::from_elem(1, shape.rank() - self.rank());
        dims.extend_from_slice(self.dims());
        let same_rank = self.reshape(&dims)?;
        if same_rank.shape() == shape {
            Ok(same_rank)
        } else {
            one(Core::View(View::Expand(shape.clone())), &[&same_rank])
        }
    }

    /// [`Tensor::broadcast_to`] with sizes.
    #[track_caller]
    pub fn expand(&self, dims: &[usize]) -> Result<Tensor> {
        self.broadcast_to(&Shape::new(dims)?)
    }

    /// A new axis of size 1 in front of axis `axis` (`rank` for the end).
    #[track_caller]
    pub fn unsqueeze(&self, axis: usize) -> Result<Tensor> {
        if axis > self.rank() {
            return Err(Error::Axis { op: "unsqueeze", axis: axis as isize, rank: self.rank() });
        }
        let mut dims = self.dims().to_vec();
        dims.insert(axis, 1);
        self.reshape(&dims)
    }

    /// Without axis `axis`, which must have size 1.
    #[track_caller]
    pub fn squeeze(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis("squeeze", axis)?;
        if self.dims()[axis] != 1 {
            let found = format!("size {} of shape {}", self.dims()[axis], self.shape());
            return Err(Error::shape("squeeze", format!("size 1 at axis {axis}"), found));
        }
        let mut dims = self.dims().to_vec();
        dims.remove(axis);
        self.reshape(&dims)
    }

    /// Elements `start[d] + i·step[d]`, `len[d]` of them, along each axis; negative steps run backwards.
    #[track_caller]
    pub fn strided_slice(&self, start: &[usize], step: &[isize], len: &[usize]) -> Result<Tensor> {
        let view = View::Slice { start: start.to_vec(), step: step.to_vec(), len: len.to_vec() };
        one(Core::View(view), &[self])
    }

    /// Elements `start .. start + len` along one axis.
    #[track_caller]
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Result<Tensor> {
        let axis = self.shape().axis("narrow", axis)?;
        if start == 0 && len == self.dims()[axis] {
            return Ok(self.clone());
        }
        let mut starts = vec![0; self.rank()];
        let mut lens = self.dims().to_vec();
        (starts[axis], lens[axis]) = (start, len);
        self.strided_slice(&starts, &vec![1; self.rank()], &lens)
    }

    /// Reversed along an axis.
    #[track_caller]
    pub fn flip(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis("flip", axis)?;
        let mut start = vec![0; self.rank()];
        let mut step = vec![1; self.rank()];
        (start[axis], step[axis]) = (self.dims()[axis].saturating_sub(1), -1);
        self.strided_slice(&start, &step, self.dims())
    }

    /// Zeros around each axis: (before, after).
    #[track_caller]
    pub fn pad(&self, around: &[(usize, usize)]) -> Result<Tensor> {
        if around.len() != self.rank() {
            let found = format!("{} pairs", around.len());
            return Err(Error::shape("pad", format!("{} pairs, one per axis", self.rank()), found));
        }
        if around.iter().all(|&(a, b)| a == 0 && b == 0) {
            return Ok(self.clone());
        }
        let sizes: Vec<usize> =
            self.dims().iter().zip(around).map(|(&n, &(a, b))| n.saturating_add(a).saturating_add(b)).collect();
        let low = around.iter().map(|p| p.0).collect();
        one(Core::Pad { low, step: vec![1; self.rank()], to: Shape::new(&sizes)? }, &[self])
    }

    /// Element `i` of each axis lands at `low + i·step` of a tensor of `to`, zeros elsewhere: the adjoint of a slice.
    #[track_caller]
    pub fn pad_strided(&self, low: &[usize], step: &[usize], to: &[usize]) -> Result<Tensor> {
        one(Core::Pad { low: low.to_vec(), step: step.to_vec(), to: Shape::new(to)? }, &[self])
    }

    /// [n, ..] to [s·n, ..]: merges the two leading axes.
    pub(crate) fn merge_leading(&self) -> Result<Tensor> {
        let d = self.dims();
        if d.len() < 2 {
            return Err(Error::shape("merge_leading", "rank of at least 2", format!("shape {}", self.shape())));
        }
        let mut dims = vec![d[0] * d[1]];
        dims.extend_from_slice(&d[2..]);
        self.reshape(&dims)
    }

    /// [s·n, ..] to [s, n, ..].
    pub(crate) fn split_leading(&self, s: usize) -> Result<Tensor> {
        let d = self.dims();
        if d.is_empty() || s == 0 || !d[0].is_multiple_of(s) {
            return Err(Error::shape(
                "split_leading",
                format!("a leading axis divisible by {s}"),
                format!("{}", self.shape()),
            ));
        }
        let mut dims = vec![s, d[0] / s];
        dims.extend_from_slice(&d[1..]);
        self.reshape(&dims)
    }

    /// [..] to [n, ..], repeated.
    pub fn repeat_leading(&self, n: usize) -> Result<Tensor> {
        self.broadcast_to(&self.shape().with_leading(n)?)
    }

    /// Flat pieces (rank 1) at their offsets in `len` elements, zeros elsewhere. Offsets ascend and do not overlap.
    #[track_caller]
    pub fn assemble(pieces: &[&Tensor], offsets: &[usize], len: usize) -> Result<Tensor> {
        one(Core::Assemble { offsets: offsets.to_vec(), len }, pieces)
    }
}

/// Reductions. `axes` may be negative; an empty list means all axes. `_keep` keeps the reduced axes with size 1.
impl Tensor {
    #[track_caller]
    fn reduce(&self, kind: Reduction, op: &'static str, axes: &[isize]) -> Result<(Tensor, Vec<usize>)> {
        let mut axes = match axes {
            [] => (0..self.rank()).collect(),
            _ => axes.iter().map(|&a| self.shape().axis(op, a)).collect::<Result<Vec<_>>>()?,
        };
        axes.sort_unstable();
        axes.dedup();
        if axes.is_empty() || axes.iter().all(|&d| self.dims()[d] == 1) {
            return Ok((self.clone(), axes));
        }
        Ok((one(Core::Reduce(kind, axes.clone()), &[self])?, axes))
    }

    #[track_caller]
    fn reduce_drop(&self, kind: Reduction, op: &'static str, axes: &[isize]) -> Result<Tensor> {
        let (kept, axes) = self.reduce(kind, op, axes)?;
        let dims: Vec<usize> = (0..self.rank()).filter(|d| !axes.contains(d)).map(|d| kept.dims()[d]).collect();
        kept.reshape(&dims)
    }

    /// Sum over axes, which go away.
    #[track_caller]
    pub fn sum(&self, axes: &[isize]) -> Result<Tensor> {
        self.reduce_drop(Reduction::Sum, "sum", axes)
    }

    /// Sum over axes, which stay with size 1.
    #[track_caller]
    pub fn sum_keep(&self, axes: &[isize]) -> Result<Tensor> {
        Ok(self.reduce(Reduction::Sum, "sum", axes)?.0)
    }

    /// Largest over axes; NaN if any is. −∞ of none.
    #[track_caller]
    pub fn max(&self, axes: &[isize]) -> Result<Tensor> {
        self.reduce_drop(Reduction::Max, "max", axes)
    }

    /// As [`Tensor::max`]; the axes stay with size 1.
    #[track_caller]
    pub fn max_keep(&self, axes: &[isize]) -> Result<Tensor> {
        Ok(self.reduce(Reduction::Max, "max", axes)?.0)
    }

    /// Smallest over axes; NaN if any is. ∞ of none.
    #[track_caller]
    pub fn min(&self, axes: &[isize]) -> Result<Tensor> {
        self.reduce_drop(Reduction::Min, "min", axes)
    }

    /// As [`Tensor::min`]; the axes stay with size 1.
    #[track_caller]
    pub fn min_keep(&self, axes: &[isize]) -> Result<Tensor> {
        Ok(self.reduce(Reduction::Min, "min", axes)?.0)
    }

    /// Product over axes, which go away.
    #[track_caller]
    pub fn prod(&self, axes: &[isize]) -> Result<Tensor> {
        self.reduce_drop(Reduction::Prod, "prod", axes)
    }
}

macro_rules! operator {
    ($($op:ident $method:ident($x:ident, $c:ident) = $func:expr, $flip:expr;)*) => { $(
        impl std::ops::$op<f32> for &Tensor {
            type Output = Tensor;
            /// With a number; cannot fail on f32 tensors, and leaves others unchanged in shape (cast to f32 first).
            #[track_caller]
            fn $method(self, c: f32) -> Tensor {
                let c = nullary(self.device(), Core::Constant(c.to_bits()), self.spec().with_dtype(DType::F32));
                infallible($func, self, &c)
            }
        }
        impl std::ops::$op<&Tensor> for f32 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, x: &Tensor) -> Tensor {
                let c = nullary(x.device(), Core::Constant(self.to_bits()), x.spec().with_dtype(DType::F32));
                if $flip { infallible($func, &c, x) } else { infallible($func, x, &c) }
            }
        }
    )* };
}

/// `func` of two tensors of one shape and device; integers are cast to f32 first.
#[track_caller]
fn infallible(func: Func, a: &Tensor, b: &Tensor) -> Tensor {
    let at = Location::caller();
    let spec = a.spec().with_dtype(DType::F32);
    let real = |t: &Tensor| match t.dtype() {
        DType::F32 => t.clone(),
        _ => {
            let op = Arc::new(CoreOp::new(Core::Map(Func::ToF32)));
            Tensor::from_op(op, vec![t.clone()], vec![spec.clone()], t.device(), at).swap_remove(0)
        }
    };
    let op = Arc::new(CoreOp::new(Core::Map(func)));
    Tensor::from_op(op, vec![real(a), real(b)], vec![spec.clone()], a.device(), at).swap_remove(0)
}

operator! {
    Add add(x, c) = Func::Add, false;
    Sub sub(x, c) = Func::Sub, true;
    Mul mul(x, c) = Func::Mul, false;
    Div div(x, c) = Func::Div, true;
}
