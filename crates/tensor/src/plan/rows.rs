//! Rows that nobody reads: the pass behind [`Tensor::live_rows`](crate::Tensor::live_rows).
//!
//! `select(row < count, x, y)` does not read the rows of x from `count` on, so whatever makes them need not; and if y is
//! zero, a sum over the rows of the result may stop at `count`. Both facts travel through the graph: the first from
//! readers to what they read, the second from operands to results. What is left out is never computed, and never read.
//!
//! Rows lie along the first axis that is not 1, so that the first rows are the first bytes.

use crate::device::Caps;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::Func;
use crate::op::{Core, Launches, Op, Reduction, Rows, View};
use crate::plan::Scope;
use crate::plan::graph::{GNode, Graph, Kind, Ref};
use crate::shape::{Shape, Spec};

/// The first rows: as many as `count` says, of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub count: Ref,
    pub of: usize,
}

/// How much of a value its readers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Rows(First),
    All,
}

impl Need {
    fn and(self, other: Need) -> Need {
        match (self, other) {
            (Need::Nothing, x) | (x, Need::Nothing) => x,
            (Need::Rows(a), Need::Rows(b)) if a == b => self,
            _ => Need::All,
        }
    }
}

/// For each node, the rows its own step may stop after.
pub(crate) struct LiveRows(Vec<Option<(First, Scope)>>);

impl LiveRows {
    /// No node leaves out anything.
    pub fn none(graph: &Graph) -> Self {
        LiveRows(vec![None; graph.nodes.len()])
    }

    /// What the step of a node may leave out.
    pub fn of(&self, node: usize) -> Option<&(First, Scope)> {
        self.0[node].as_ref()
    }

    /// Follows both facts through the graph. `tables`: the device chooses an op's launches from a table.
    pub fn find(graph: &Graph, caps: &Caps, tables: bool) -> Result<Self> {
        let masks: Vec<Option<First>> = (0..graph.nodes.len()).map(|i| mask(graph, i)).collect();
        if masks.iter().all(Option::is_none) {
            return Ok(LiveRows::none(graph));
        }
        let ends = zero_rows(graph, &masks);
        let mut live = vec![None; graph.nodes.len()];
        let mut need = vec![Need::Nothing; graph.nodes.len()];
        graph.outputs.iter().for_each(|r| need[r.0] = Need::All);
        for i in (0..graph.nodes.len()).rev() {
            let node = &graph.nodes[i];
            let mine = need[i];
            let rows = match mine {
                Need::Rows(first) => Some(first),
                _ => None,
            };
            let step = match (&node.kind, node.core()) {
                (Kind::Op(_), Some(Core::Reduce(kind, axes))) => {
                    let input = graph.spec(node.inputs[0]);
                    let over_rows = lead(&input.shape).is_some_and(|(axis, _)| axes.contains(&axis));
                    if over_rows {
                        let sum = *kind == Reduction::Sum;
                        ends[node.inputs[0].0].filter(|_| sum).map(|first| (first, Scope::Reduced))
                    } else {
                        rows.map(|first| (first, Scope::Space))
                    }
                }
                (Kind::Op(_), Some(Core::Map(_) | Core::Pad { .. } | Core::View(_))) => rows.map(|f| (f, Scope::Space)),
                (Kind::Op(op), None) => {
                    let ins = specs(graph, node);
                    match op_rows(graph, node, op.rows(&ins), rows, &ends) {
                        Some((f, s)) if tables && launches(&**op, &ins, &node.specs, (f.of, &s), caps)?.is_none() => {
                            None
                        }
                        step => step,
                    }
                }
                _ => None,
            };
            for (k, &r) in node.inputs.iter().enumerate() {
                let wants = wanted(graph, i, k, mine, masks[i], step.as_ref());
                need[r.0] = need[r.0].and(wants);
            }
            live[i] = step;
        }
        Ok(LiveRows(live))
    }
}

fn specs(graph: &Graph, node: &GNode) -> Vec<Spec> {
    node.inputs.iter().map(|&r| graph.spec(r).clone()).collect()
}

/// The first axis that is not 1, and its size.
pub(crate) fn lead(shape: &Shape) -> Option<(usize, usize)> {
    shape.iter().position(|&n| n != 1).map(|axis| (axis, shape[axis]))
}

/// Whether a graph has live rows at all.
pub(crate) fn has_live_rows(graph: &Graph) -> bool {
    (0..graph.nodes.len()).any(|i| mask(graph, i).is_some())
}

/// Whether the node is `select(row < count, x, y)` along its rows.
fn mask(graph: &Graph, i: usize) -> Option<First> {
    let node = &graph.nodes[i];
    if !matches!(node.core(), Some(Core::Map(Func::Select))) {
        return None;
    }
    let (_, of) = lead(&node.specs[0].shape)?;
    let mut at = node.inputs[0].0;
    while let Some(Core::View(_)) = graph.nodes[at].core() {
        if !keeps_rows(graph, at, of) {
            return None;
        }
        at = graph.nodes[at].inputs[0].0;
    }
    let less = &graph.nodes[at];
    if !matches!(less.core(), Some(Core::Map(Func::Lt))) {
        return None;
    }
    let row = &graph.nodes[less.inputs[0].0];
    let is_row = matches!(row.core(), Some(Core::Iota(axis)) if lead(&row.specs[0].shape) == Some((*axis, of)));
    let mut count = less.inputs[1];
    while let Some(Core::View(View::Reshape(_) | View::Expand(_))) = graph.nodes[count.0].core() {
        count = graph.nodes[count.0].inputs[0];
    }
    let spec = graph.spec(count);
    (is_row && spec.numel() == 1 && spec.dtype == DType::U32 && !matches!(graph.nodes[count.0].kind, Kind::Scalar(_)))
        .then_some(First { count, of })
}

/// Whether row i of a view or pad is row i of what it views.
fn keeps_rows(graph: &Graph, i: usize, of: usize) -> bool {
    let node = &graph.nodes[i];
    let from = &graph.spec(node.inputs[0]).shape;
    let (Some((a, n)), Some((b, m))) = (lead(from), lead(&node.specs[0].shape)) else { return false };
    if n != of || m != of {
        return false;
    }
    match node.core() {
        Some(Core::View(View::Reshape(_))) => true,
        Some(Core::View(View::Permute(order))) => order[b] == a,
        Some(Core::View(View::Expand(_))) => a == b,
        Some(Core::View(View::Slice { start, step, len })) => a == b && start[a] == 0 && step[a] == 1 && len[a] == of,
        Some(Core::Pad { low, step, .. }) => a == b && low[a] == 0 && step[a] == 1,
        _ => false,
    }
}

/// Which values have rows of zeros from a count on.
fn zero_rows(graph: &Graph, masks: &[Option<First>]) -> Vec<Option<First>> {
    let mut ends: Vec<Option<First>> = vec![None; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let input = |k: usize| ends[node.inputs[k].0];
        let is_zero = |k: usize| matches!(graph.nodes[node.inputs[k].0].kind, Kind::Scalar(s) if graph.zeros[s]);
        let both = |a: usize, b: usize| match (input(a), input(b)) {
            (Some(x), Some(y)) if x == y => Some(x),
            (Some(x), None) if is_zero(b) => Some(x),
            (None, Some(y)) if is_zero(a) => Some(y),
            _ => None,
        };
        ends[i] = match (&node.kind, node.core()) {
            (_, Some(Core::Map(Func::Select))) if masks[i].is_some() && is_zero(2) => masks[i],
            (_, Some(Core::Map(Func::Select))) => both(1, 2),
            (_, Some(Core::Map(Func::Mul))) => input(0).or(input(1)),
            (_, Some(Core::Map(Func::Add | Func::Sub))) => both(0, 1),
            (
                _,
                Some(Core::Map(
                    Func::Neg
                    | Func::Div
                    | Func::Identity
                    | Func::Detach
                    | Func::Relu
                    | Func::Abs
                    | Func::ToF16
                    | Func::ToF32,
                )),
            ) => input(0),
            (_, Some(Core::View(_) | Core::Pad { .. })) => input(0).filter(|f| keeps_rows(graph, i, f.of)),
            (_, Some(Core::Reduce(Reduction::Sum, _))) => {
                let from = lead(&graph.spec(node.inputs[0]).shape);
                input(0).filter(|f| lead(&node.specs[0].shape) == from && from.is_some_and(|(_, n)| n == f.of))
            }
            (Kind::Op(op), None) => match op.rows(&specs(graph, node)) {
                Rows::Each { linear: Some(k), axis, inputs } => input(k).filter(|f| {
                    fits(graph, node, &inputs, f.of) && node.specs.iter().all(|s| lead(&s.shape) == Some((axis, f.of)))
                }),
                _ => None,
            },
            _ => None,
        };
    }
    ends
}

/// Whether the rows of these inputs are `of` rows along these axes.
fn fits(graph: &Graph, node: &GNode, inputs: &[(usize, usize)], of: usize) -> bool {
    inputs.iter().all(|&(k, axis)| lead(&graph.spec(node.inputs[k]).shape) == Some((axis, of)))
}

/// What the step of an op may leave out.
fn op_rows(
    graph: &Graph,
    node: &GNode,
    rule: Rows,
    rows: Option<First>,
    ends: &[Option<First>],
) -> Option<(First, Scope)> {
    match rule {
        Rows::Mixed => None,
        Rows::Each { inputs, axis, .. } => {
            let first = rows?;
            let whole = fits(graph, node, &inputs, first.of)
                && node.specs.iter().all(|s| lead(&s.shape) == Some((axis, first.of)));
            whole.then_some((first, Scope::Op { inputs, output: Some(axis) }))
        }
        Rows::Sum(inputs) => {
            let first = inputs.iter().find_map(|&(k, _)| ends[node.inputs[k].0])?;
            fits(graph, node, &inputs, first.of).then_some((first, Scope::Op { inputs, output: None }))
        }
    }
}

/// What node `i` needs of its input `k`.
fn wanted(graph: &Graph, i: usize, k: usize, mine: Need, mask: Option<First>, step: Option<&(First, Scope)>) -> Need {
    let node = &graph.nodes[i];
    if mine == Need::Nothing {
        return Need::Nothing;
    }
    match (node.core(), mine, mask, step) {
        (Some(Core::Map(Func::Select)), _, Some(first), _) if k == 1 => Need::Rows(first),
        (Some(Core::Map(_)), ..) => mine,
        (Some(Core::View(_) | Core::Pad { .. }), Need::Rows(first), ..) if keeps_rows(graph, i, first.of) => mine,
        (Some(Core::Reduce(..)), _, _, Some((first, _))) => Need::Rows(*first),
        (None, _, _, Some((first, Scope::Op { inputs, .. }))) if inputs.iter().any(|&(input, _)| input == k) => {
            Need::Rows(*first)
        }
        _ => Need::All,
    }
}

/// An index space of `rows` of `of` rows.
pub(crate) fn shortened(dims: &[usize], of: usize, rows: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(first) = dims.iter_mut().find(|n| **n != 1) {
        *first = *first / of.max(1) * rows;
    }
    dims
}

/// Specs of an op's inputs and outputs for so many rows.
pub(crate) fn op_specs(ins: &[Spec], outs: &[Spec], scope: &Scope, rows: usize) -> (Vec<Spec>, Vec<Spec>) {
    let Scope::Op { inputs, output } = scope else { return (ins.to_vec(), outs.to_vec()) };
    let cut = |spec: &Spec, axis: Option<usize>| {
        let dims = spec.shape.iter().enumerate().map(|(d, &n)| if Some(d) == axis { rows } else { n });
        Spec { shape: Shape::raw(dims), dtype: spec.dtype }
    };
    let axis_of = |i: usize| inputs.iter().find(|&&(k, _)| k == i).map(|&(_, axis)| axis);
    let ins = ins.iter().enumerate().map(|(i, s)| cut(s, axis_of(i))).collect();
    (ins, outs.iter().map(|s| cut(s, *output)).collect())
}

/// Most rows of a table of launches.
const MOST_ROWS: usize = 4096;

/// The launches of an op for 0, 1, .. `of` rows, all of the same shaders, bindings and scratch slots; `None` if a device
/// that chooses among them by a count cannot be given such. An op whose outputs have rows may do a few more than it must.
pub(crate) fn launches(
    op: &dyn Op,
    ins: &[Spec],
    outs: &[Spec],
    first: (usize, &Scope),
    caps: &Caps,
) -> Result<Option<Vec<Launches>>> {
    let (of, scope) = first;
    if of > MOST_ROWS {
        return Ok(None);
    }
    let may_do_more = matches!(scope, Scope::Op { output: Some(_), .. });
    let same = |a: &Launches, b: &Launches| {
        a.scratch.len() == b.scratch.len()
            && a.list.len() == b.list.len()
            && a.list.iter().zip(&b.list).all(|(x, y)| {
                std::ptr::eq(x.shader, y.shader) && x.binds == y.binds && x.params.len() == y.params.len()
            })
    };
    let mut table = vec![op.launch(ins, outs, caps)?];
    for rows in (0..of).rev() {
        let (ins, outs) = op_specs(ins, outs, scope, rows);
        let fewer = op.launch(&ins, &outs, caps)?;
        let last = &table[table.len() - 1];
        match same(&fewer, last) {
            true => table.push(fewer),
            false if may_do_more => table.push(last.clone()),
            false => return Ok(None),
        }
    }
    table.reverse();
    Ok(Some(table))
}
