//! The core primitives as ops: shape rules, references, gradients and batching rules. The planner lowers them itself,
//! so they have no kernel of their own.

use std::hash::{Hash, Hasher};

use smallvec::SmallVec;

use crate::device::Caps;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::expr::Func;
use crate::op::{BatchCx, Batched, Call, Core, GradCx, In, Launches, Op, Out, Reduction, Rows, View};
use crate::plan::layout::{Axis, Guard, Layout};
use crate::real::Real;
use crate::shape::{Shape, Spec};
use crate::tensor::Tensor;

/// A primitive of [`Core`] in the graph.
#[derive(Clone, Debug)]
pub struct CoreOp {
    core: Core,
    /// Spec of the result of primitives without inputs.
    spec: Option<Spec>,
}

impl CoreOp {
    pub(crate) fn new(core: Core) -> Self {
        CoreOp { core, spec: None }
    }

    pub(crate) fn nullary(core: Core, spec: Spec) -> Self {
        CoreOp { core, spec: Some(spec) }
    }
}

fn check(ok: bool, op: &'static str, expected: impl FnOnce() -> String, x: &Spec) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::shape(op, expected(), format!("input of shape {}", x.shape))) }
}

fn view_shape(view: &View, x: &Spec) -> Result<Shape> {
    let rank = x.shape.rank();
    match view {
        View::Reshape(to) => {
            check(to.numel() == x.numel(), "reshape", || format!("{} elements for shape {to}", to.numel()), x)?;
            Ok(to.clone())
        }
        View::Permute(order) => {
            let mut seen = vec![false; rank];
            let valid =
                order.len() == rank && order.iter().all(|&d| d < rank && !std::mem::replace(&mut seen[d], true));
            check(valid, "permute", || format!("each axis once, got {order:?},"), x)?;
            Ok(Shape::raw(order.iter().map(|&d| x.shape[d])))
        }
        View::Expand(to) => {
            let valid = to.rank() == rank && x.shape.iter().zip(to.iter()).all(|(&a, &b)| a == b || a == 1);
            check(valid, "expand", || format!("sizes of 1 or those of {to}"), x)?;
            Ok(to.clone())
        }
        View::Slice { start, step, len } => {
            let valid = start.len() == rank && step.len() == rank && len.len() == rank;
            check(valid, "slice", || format!("rank {}", start.len()), x)?;
            for d in 0..rank {
                if len[d] == 0 {
                    continue;
                }
                let last = isize::try_from(len[d] - 1).ok().and_then(|n| n.checked_mul(step[d]));
                let last = last.and_then(|n| n.checked_add(start[d].try_into().ok()?));
                let inside =
                    step[d] != 0 && start[d] < x.shape[d] && last.is_some_and(|l| l >= 0 && (l as usize) < x.shape[d]);
                let range =
                    || format!("a range within axis {d} (start {}, step {}, length {})", start[d], step[d], len[d]);
                check(inside, "slice", range, x)?;
            }
            Shape::new(len)
        }
    }
}

impl Op for CoreOp {
    fn name(&self) -> &'static str {
        match &self.core {
            Core::Map(f) => f.name(),
            Core::Constant(_) => "constant",
            Core::Iota(_) => "iota",
            Core::View(View::Reshape(_)) => "reshape",
            Core::View(View::Permute(_)) => "permute",
            Core::View(View::Expand(_)) => "expand",
            Core::View(View::Slice { .. }) => "slice",
            Core::Pad { .. } => "pad",
            Core::Reduce(Reduction::Sum, _) => "sum",
            Core::Reduce(Reduction::Max, _) => "max",
            Core::Reduce(Reduction::Min, _) => "min",
            Core::Reduce(Reduction::Prod, _) => "prod",
            Core::Assemble { .. } => "assemble",
        }
    }

    fn core(&self) -> Option<&Core> {
        Some(&self.core)
    }

    fn key(&self, mut hasher: &mut dyn Hasher) {
        match &self.core {
            Core::Constant(_) => 0xC0_u8.hash(&mut hasher), // the value is a parameter
            core => core.hash(&mut hasher),
        }
        self.spec.hash(&mut hasher);
    }

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        if let Some(spec) = &self.spec {
            return Ok(vec![spec.clone()]);
        }
        let op = self.name();
        let x = inputs.first().ok_or_else(|| Error::shape(op, "an input", "none"))?;
        Ok(vec![match &self.core {
            Core::Map(f) => {
                let dtypes: SmallVec<[DType; 4]> = inputs.iter().map(|s| s.dtype).collect();
                let dtype = f.dtype(&dtypes)?;
                if let Some(other) = inputs.iter().find(|s| s.shape != x.shape) {
                    return Err(Error::Broadcast { op, left: x.shape.to_string(), right: other.shape.to_string() });
                }
                x.with_dtype(dtype)
            }
            Core::Constant(_) | Core::Iota(_) => return Err(Error::internal(op, "no spec")),
            Core::View(view) => Spec::new(view_shape(view, x)?, x.dtype),
            Core::Pad { low, step, to } => {
                let rank = x.shape.rank();
                let fits = |d: usize| {
                    let n = x.shape[d];
                    n == 0
                        || (step[d] > 0
                            && (n - 1)
                                .checked_mul(step[d])
                                .and_then(|s| s.checked_add(low[d]))
                                .is_some_and(|l| l < to[d]))
                };
                let valid = low.len() == rank && step.len() == rank && to.rank() == rank && (0..rank).all(fits);
                check(valid, op, || format!("an input that fits into {to} from {low:?} with steps {step:?}"), x)?;
                Spec::new(to.clone(), x.dtype)
            }
            Core::Reduce(_, axes) => {
                if !matches!(x.dtype, DType::F32 | DType::U32 | DType::I32) {
                    return Err(Error::DType { op, expected: "f32, u32 or i32".into(), found: x.dtype });
                }
                check(axes.iter().all(|&d| d < x.shape.rank()), op, || format!("axes {axes:?}"), x)?;
                let dims = x.shape.iter().enumerate().map(|(d, &n)| if axes.contains(&d) { 1 } else { n });
                Spec::new(Shape::raw(dims), x.dtype)
            }
            Core::Assemble { offsets, len } => {
                if x.dtype == DType::F16 {
                    // Pieces are written word by word, and a half is not a word.
                    return Err(Error::DType { op, expected: "a 32-bit dtype; cast first".into(), found: x.dtype });
                }
                let mut end = 0;
                for (piece, &offset) in inputs.iter().zip(offsets) {
                    piece.require_dtype(op, x.dtype)?.require_rank(op, 1, "[n]")?;
                    check(
                        offset >= end && offset <= *len && piece.numel() <= len - offset,
                        op,
                        || format!("a piece that fits at {offset} of {len}"),
                        piece,
                    )?;
                    end = offset + piece.numel();
                }
                check(offsets.len() == inputs.len(), op, || format!("{} pieces", offsets.len()), x)?;
                Spec::new(Shape::new(&[*len])?, x.dtype)
            }
        }])
    }

    fn reference64(&self, call: &mut Call<'_, f64>) {
        self.reference(call);
    }

    fn reference32(&self, call: &mut Call<'_, f32>) {
        self.reference(call);
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        self.reference(call);
    }

    fn launch(&self, _: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        Err(Error::internal("launch", format!("{} is lowered by the planner", self.name())))
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.upstream()?;
        if let Core::Map(f) = &self.core {
            return f.grad(cx.inputs, cx.output(), &dy);
        }
        let x = match cx.inputs.first() {
            Some(x) if x.dtype().is_float() => x,
            _ => return Ok(vec![None; cx.inputs.len()]),
        };
        Ok(match &self.core {
            Core::Map(_) | Core::Constant(_) | Core::Iota(_) => Vec::new(),
            Core::View(view) => vec![Some(view_adjoint(view, x, &dy)?)],
            Core::Pad { low, step, .. } => {
                let steps: Vec<isize> = step.iter().map(|&s| s as isize).collect();
                vec![Some(if x.numel() == 0 { x.zeros_like()? } else { dy.strided_slice(low, &steps, x.dims())? })]
            }
            Core::Reduce(kind, _) => vec![Some(reduce_grad(*kind, x, cx.output(), &dy)?)],
            Core::Assemble { offsets, .. } => {
                let piece = |(x, &o): (&Tensor, &usize)| dy.narrow(0, o, x.numel()).map(Some);
                cx.inputs.iter().zip(offsets).map(piece).collect::<Result<_>>()?
            }
        })
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let all = |cx: &BatchCx<'_>| (0..cx.inputs.len()).map(|i| leading_view(cx, i)).collect::<Result<Vec<_>>>();
        let core = match &self.core {
            Core::Map(f) => {
                let inputs = all(cx)?;
                return Ok(vec![Tensor::map(*f, &inputs.iter().collect::<SmallVec<[&Tensor; 4]>>())?]);
            }
            Core::Constant(_) | Core::Iota(_) => return Err(Error::NotBatchable { op: self.name() }),
            Core::View(View::Reshape(to)) => Core::View(View::Reshape(to.with_leading(cx.n)?)),
            Core::View(View::Permute(order)) => {
                Core::View(View::Permute(std::iter::once(0).chain(order.iter().map(|d| d + 1)).collect()))
            }
            Core::View(View::Expand(to)) => Core::View(View::Expand(to.with_leading(cx.n)?)),
            Core::View(View::Slice { start, step, len }) => {
                Core::View(View::Slice { start: prepend(0, start), step: prepend(1, step), len: prepend(cx.n, len) })
            }
            Core::Pad { low, step, to } => {
                Core::Pad { low: prepend(0, low), step: prepend(1, step), to: to.with_leading(cx.n)? }
            }
            Core::Reduce(kind, axes) => Core::Reduce(*kind, axes.iter().map(|d| d + 1).collect()),
            Core::Assemble { offsets, len } => {
                // With the mapped axis innermost, pieces of all inputs are flat pieces again.
                let columns = |x: &Tensor| x.permute(&[1, 0])?.reshape(&[x.numel()]);
                let pieces = all(cx)?.iter().map(columns).collect::<Result<Vec<_>>>()?;
                let offsets: Vec<usize> = offsets.iter().map(|o| o * cx.n).collect();
                let flat = Tensor::assemble(&pieces.iter().collect::<Vec<_>>(), &offsets, len * cx.n)?;
                return Ok(vec![flat.reshape(&[*len, cx.n])?.permute(&[1, 0])?]);
            }
        };
        Tensor::record(std::sync::Arc::new(CoreOp::new(core)), &[&cx.leading(0)?])
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    // The planner knows primitives by kind.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::Mixed
    }
}

/// Input `i` with a leading axis; a shared one gets a leading 1, which broadcasts.
fn leading_view(cx: &BatchCx<'_>, i: usize) -> Result<Tensor> {
    match &cx.inputs[i] {
        Batched::Each(t) => Ok(t.clone()),
        Batched::Shared(t) => t.repeat_leading(cx.n),
    }
}

fn prepend<T: Copy>(first: T, rest: &[T]) -> Vec<T> {
    std::iter::once(first).chain(rest.iter().copied()).collect()
}

fn view_adjoint(view: &View, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    match view {
        View::Reshape(_) => dy.reshape(x.dims()),
        View::Permute(order) => {
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(i, &d)| inverse[d] = i);
            dy.permute(&inverse)
        }
        View::Expand(to) => {
            let axes: Vec<isize> = (0..to.rank()).filter(|&d| x.dims()[d] != to[d]).map(|d| d as isize).collect();
            match (axes.is_empty(), dy.dtype()) {
                (true, _) => Ok(dy.clone()),
                // Halves are summed as f32 and rounded once.
                (_, dtype) => dy.cast(DType::F32)?.sum_keep(&axes)?.cast(dtype),
            }
        }
        View::Slice { start, step, len } => {
            if len.contains(&0) {
                return x.zeros_like();
            }
            // A backwards slice is a forwards one of the flipped gradient.
            let mut dy = dy.clone();
            let mut low = start.clone();
            for d in 0..len.len() {
                if step[d] < 0 {
                    dy = dy.flip(d as isize)?;
                    low[d] = start[d] - (len[d] - 1) * step[d].unsigned_abs();
                }
            }
            let steps: Vec<usize> = step.iter().map(|s| s.unsigned_abs()).collect();
            dy.pad_strided(&low, &steps, x.dims())
        }
    }
}

fn reduce_grad(kind: Reduction, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let zero = x.zeros_like()?;
    match kind {
        Reduction::Sum => dy.broadcast_to(x.shape()),
        Reduction::Max | Reduction::Min => {
            // Ties share the gradient evenly, as in PyTorch's amax.
            let hit = x.eq(y)?;
            let axes: Vec<isize> = (0..x.rank()).filter(|&d| x.dims()[d] != y.dims()[d]).map(|d| d as isize).collect();
            let count = hit.cast(DType::F32)?.sum_keep(&axes)?;
            hit.select(&dy.div(&count)?.broadcast_to(x.shape())?, &zero)
        }
        Reduction::Prod => {
            // The product of the others: y / x without zeros; with one zero only that element has any.
            let axes: Vec<isize> = (0..x.rank()).filter(|&d| x.dims()[d] != y.dims()[d]).map(|d| d as isize).collect();
            let is_zero = x.eq(&zero)?;
            let n_zeros = is_zero.cast(DType::F32)?.sum_keep(&axes)?;
            let filled = is_zero.select(&x.ones_like()?, x)?;
            let rest = Tensor::record(
                std::sync::Arc::new(CoreOp::new(Core::Reduce(
                    Reduction::Prod,
                    axes.iter().map(|&d| d as usize).collect(),
                ))),
                &[&filled],
            )?
            .swap_remove(0);
            let none = n_zeros.eq(&n_zeros.zeros_like()?)?.broadcast_to(x.shape())?;
            let single = n_zeros.eq(&n_zeros.ones_like()?)?.broadcast_to(x.shape())?;
            let rest = rest.broadcast_to(x.shape())?;
            let others = is_zero.select(&single.select(&rest, &zero)?, &none.select(&rest.div(&filled)?, &zero)?)?;
            dy.mul(&others)
        }
    }
}

impl CoreOp {
    /// The layout by which output index reads input 0, for primitives that only move data.
    fn movement(&self, x: &Spec, y: &Spec) -> Option<Layout> {
        let from = Layout::contiguous(&x.shape);
        match &self.core {
            Core::View(view) => from.view(view),
            Core::Pad { low, step, .. } => {
                let axes = from.axes.iter().enumerate().map(|(d, a)| Axis {
                    size: y.shape[d],
                    stride: a.stride,
                    guard: Some(Guard { low: low[d], step: step[d], len: a.size }),
                });
                Some(Layout { offset: 0, axes: axes.collect() })
            }
            _ => None,
        }
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let y = call.out_specs[0].clone();
        match &self.core {
            Core::Constant(bits) => match &mut call.outs[0] {
                Out::Real(o) => o.fill(R::of(f64::from(f32::from_bits(*bits)))),
                Out::Word(o) => o.fill(*bits),
                Out::Half(o) => o.fill(half::f16::from_f32(f32::from_bits(*bits))),
            },
            Core::Iota(axis) => {
                let inner: usize = y.shape[axis + 1..].iter().product();
                let n = y.shape[*axis];
                call.out_word(0).iter_mut().enumerate().for_each(|(i, o)| *o = (i / inner.max(1) % n) as u32);
            }
            Core::Map(f) => map_reference(*f, call),
            Core::View(_) | Core::Pad { .. } => {
                let Some(layout) = self.movement(&call.in_specs[0], &y) else { return };
                let (ins, outs) = (call.ins[0], &mut call.outs[0]);
                for i in 0..y.numel() {
                    let at = layout.at(i);
                    match (ins, &mut *outs) {
                        (In::Real(x), Out::Real(o)) => o[i] = at.map_or(R::ZERO, |a| x[a]),
                        (In::Word(x), Out::Word(o)) => o[i] = at.map_or(0, |a| x[a]),
                        (In::Half(x), Out::Half(o)) => o[i] = at.map_or(half::f16::ZERO, |a| x[a]),
                        _ => {}
                    }
                }
            }
            Core::Reduce(kind, axes) => reduce_reference(*kind, axes, call),
            Core::Assemble { offsets, .. } => {
                for (i, &offset) in offsets.iter().enumerate() {
                    let n = call.in_specs[i].numel();
                    let x = call.ins[i];
                    match (x, &mut call.outs[0]) {
                        (In::Real(x), Out::Real(o)) => {
                            if i == 0 {
                                o.fill(R::ZERO);
                            }
                            o[offset..offset + n].copy_from_slice(x);
                        }
                        (In::Word(x), Out::Word(o)) => {
                            if i == 0 {
                                o.fill(0);
                            }
                            o[offset..offset + n].copy_from_slice(x);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn map_reference<R: Real>(f: Func, call: &mut Call<'_, R>) {
    let dtype = call.in_specs.last().map_or(DType::F32, |s| s.dtype);
    let arity = call.ins.len();
    for i in 0..call.out_specs[0].numel() {
        let real = |k: usize| match call.ins.get(k) {
            Some(In::Half(x)) => x.get(i).map_or(R::ZERO, |x| R::of(x.to_f64())),
            _ => call.real(k).get(i).copied().unwrap_or(R::ZERO),
        };
        let reals: SmallVec<[R; 4]> = (0..arity).map(real).collect();
        let words: SmallVec<[u32; 4]> = (0..arity).map(|k| call.word(k).get(i).copied().unwrap_or(0)).collect();
        let cast = |x: R| x.f64();
        match &mut call.outs[0] {
            Out::Real(o) => {
                o[i] = match (f, dtype) {
                    (Func::Select, _) => {
                        if words[0] != 0 {
                            reals[1]
                        } else {
                            reals[2]
                        }
                    }
                    (Func::ToF32, DType::I32) => R::of(f64::from(words[0] as i32)),
                    (Func::ToF32, DType::U32 | DType::Bool) => R::of(f64::from(words[0])),
                    (Func::ToF32 | Func::Identity | Func::Detach, _) => reals[0],
                    _ => f.real(&reals).unwrap_or(R::NAN),
                }
            }
            Out::Word(o) => {
                o[i] = match (f, dtype) {
                    (Func::Select, _) => {
                        if words[0] != 0 {
                            words[1]
                        } else {
                            words[2]
                        }
                    }
                    (Func::ToI32, DType::F32) => cast(reals[0]) as i32 as u32,
                    (Func::ToU32, DType::F32) => cast(reals[0]) as u32,
                    (Func::ToBool, DType::F32) => u32::from(cast(reals[0]) != 0.0),
                    (_, DType::F32) => u32::from(f.test(&reals).unwrap_or(false)),
                    _ => f.word(dtype, &words).unwrap_or(0),
                }
            }
            Out::Half(o) => o[i] = half::f16::from_f64(cast(reals[0])),
        }
    }
}

fn reduce_reference<R: Real>(kind: Reduction, axes: &[usize], call: &mut Call<'_, R>) {
    let (x, y) = (call.in_specs[0].clone(), call.out_specs[0].clone());
    let mut to = Layout::contiguous(&y.shape);
    for (d, axis) in to.axes.iter_mut().enumerate() {
        axis.size = x.shape[d];
        if axes.contains(&d) {
            axis.stride = 0;
        }
    }
    let dtype = x.dtype;
    let (first_r, first_w) = identity::<R>(kind, dtype);
    let ins = call.ins[0];
    match &mut call.outs[0] {
        Out::Real(o) => o.fill(first_r),
        Out::Word(o) => o.fill(first_w),
        Out::Half(_) => {}
    }
    let f = combine(kind);
    for i in 0..x.numel() {
        let Some(at) = to.at(i) else { continue };
        match (ins, &mut call.outs[0]) {
            (In::Real(x), Out::Real(o)) => o[at] = f.real(&[o[at], x[i]]).unwrap_or(R::NAN),
            (In::Word(x), Out::Word(o)) => o[at] = f.word(dtype, &[o[at], x[i]]).unwrap_or(0),
            _ => {}
        }
    }
}

/// The function that a reduction folds with.
pub(crate) fn combine(kind: Reduction) -> Func {
    match kind {
        Reduction::Sum => Func::Add,
        Reduction::Max => Func::Max,
        Reduction::Min => Func::Min,
        Reduction::Prod => Func::Mul,
    }
}

/// The value of a reduction of nothing: as a real number and as a word of `dtype`.
pub(crate) fn identity<R: Real>(kind: Reduction, dtype: DType) -> (R, u32) {
    let signed = dtype == DType::I32;
    match kind {
        Reduction::Sum => (R::ZERO, 0),
        Reduction::Prod => (R::ONE, 1),
        Reduction::Max => (R::NEG_INFINITY, if signed { i32::MIN as u32 } else { 0 }),
        Reduction::Min => (R::INFINITY, if signed { i32::MAX as u32 } else { u32::MAX }),
    }
}

impl Layout {
    /// Position of linear index `i` (row-major over the layout's sizes); `None` outside a guard.
    pub(crate) fn at(&self, mut i: usize) -> Option<usize> {
        let mut at = self.offset;
        for axis in self.axes.iter().rev() {
            let mut idx = i % axis.size.max(1);
            i /= axis.size.max(1);
            if let Some(g) = axis.guard {
                let from = idx.checked_sub(g.low)?;
                if from % g.step != 0 || from / g.step >= g.len {
                    return None;
                }
                idx = from / g.step;
            }
            at += idx as isize * axis.stride;
        }
        usize::try_from(at).ok()
    }
}
