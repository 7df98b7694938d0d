//! From the numbered graph to steps: which nodes get memory, and which are computed inside others.
//!
//! Element-wise nodes and views are fused into whoever reads them, unless that would compute something dear twice (a
//! value with several readers, or one that is broadcast), or make a program too long for one dispatch.

use std::collections::{HashMap, HashSet};

use crate::device::Caps;
use crate::dtype::DType;
use crate::engine::written;
use crate::error::{Error, Result};
use crate::expr::Func;
use crate::op::{Core, View};
use crate::plan::graph::{GNode, Graph, Kind, Ref};
use crate::plan::layout::{Axis, Guard, Layout, collapse};
use crate::plan::rows::LiveRows;
use crate::plan::{Action, Live, MapStep, OpStep, Program, ReduceStep, Scope, Source, Step, Term, ValueId};
use crate::plan::{finish, memory};
use crate::shape::{Shape, Spec};

/// A program longer than this is cut in two.
pub(super) const MAX_TERMS: usize = 96;
/// Fused nodes on a path from a group's result to a load.
const MAX_DEPTH: u32 = 40;
/// Cost up to which a value with several readers is computed by each of them rather than stored. (With 4 a step of TENT on a
/// mobile network took 2.2 times as long on the CPU engine; with 14 a little longer than with 8.)
const CHEAP: u32 = 8;
/// Words that are set to zero in the time of one gap between pieces of an assembled value, which is a launch of its own.
const WORDS_OF_A_GAP: usize = 1 << 12;

/// A value before memory is laid out.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub spec: Spec,
    /// It is part of another value, from this byte on.
    pub alias: Option<(ValueId, usize)>,
    /// It is a plan input.
    pub leaf: Option<usize>,
}

/// Steps and values without places.
#[derive(Debug, Default)]
pub(crate) struct Drafted {
    pub values: Vec<Draft>,
    pub steps: Vec<Step>,
    /// The value of each graph output.
    pub outputs: Vec<ValueId>,
    /// Assembled values and their pieces.
    pub assembled: Vec<Assembled>,
}

/// An `assemble` whose pieces may be computed in place.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub out: ValueId,
    pub pieces: Vec<(ValueId, usize)>,
}

/// Why an expression cannot be built as it is.
enum Stop {
    /// This node must have memory of its own first.
    Materialize(usize),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Failed(e)
    }
}

/// Steps for a graph. `finish`: ops will compute groups where they store.
pub(crate) fn draft(graph: &Graph, caps: &Caps, fusion: bool, finish: bool, live: LiveRows) -> Result<Drafted> {
    let mut f = Fuser {
        graph,
        live,
        stored: stored_nodes(graph, caps, fusion, finish),
        max_loads: (caps.max_storage_buffers as usize).saturating_sub(1).clamp(1, 16),
        value: HashMap::new(),
        out: Drafted::default(),
        alignment: caps.offset_alignment.max(4),
    };
    for i in 0..graph.nodes.len() {
        if f.stored[i] {
            f.emit(i)?;
        }
    }
    f.outputs()?;
    Ok(f.out)
}

/// Which nodes get memory from the start.
fn stored_nodes(graph: &Graph, caps: &Caps, fusion: bool, finish: bool) -> Vec<bool> {
    let n = graph.nodes.len();
    let mut stored = vec![false; n];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (i, node) in graph.nodes.iter().enumerate() {
        for &(k, _) in &node.inputs {
            if readers[k].last() != Some(&i) {
                readers[k].push(i);
            }
        }
        stored[i] = match (&node.kind, node.core()) {
            (Kind::Leaf(_), _) => true,
            (Kind::Scalar(_), _) => false,
            (_, None | Some(Core::Reduce(..) | Core::Assemble { .. })) => true,
            // Who asks for halves wants them in memory, in place of what they are rounded from.
            (_, Some(Core::Map(Func::ToF16))) => true,
            (_, Some(Core::Map(_) | Core::Pad { .. })) => !fusion,
            _ => false,
        };
    }
    for &(i, _) in &graph.outputs {
        // A view that is an output is copied; its base needs no memory for that.
        stored[i] |= !matches!(graph.nodes[i].kind, Kind::Leaf(_));
    }
    // What an op reads has memory for the op's sake, so nobody computes it again.
    for node in graph.nodes.iter().filter(|n| matches!(n.kind, Kind::Op(_)) && n.core().is_none()) {
        for &(mut k, _) in &node.inputs {
            while let Some(Core::View(View::Reshape(_))) = graph.nodes[k].core() {
                k = graph.nodes[k].inputs[0].0;
            }
            stored[k] |= matches!(graph.nodes[k].core(), Some(Core::Map(_) | Core::Pad { .. }));
        }
    }
    if finish {
        finish::ends_of_chains(graph, &readers, caps).into_iter().for_each(|i| stored[i] = true);
    }
    // Rough cost of a node computed in its readers, and length of the path to a stored value.
    let (mut cost, mut depth) = (vec![0u32; n], vec![0u32; n]);
    // Its cost without what is broadcast, which is stored further down.
    let mut own_cost = vec![0u32; n];
    for (i, node) in graph.nodes.iter().enumerate() {
        if stored[i] {
            continue;
        }
        let own = match node.core() {
            // A load of another kind.
            Some(Core::Map(Func::ToF32)) if graph.spec(node.inputs[0]).dtype == DType::F16 => 0,
            Some(Core::Map(f)) => f.cost(),
            Some(Core::Pad { .. }) => 2,
            _ => 0,
        };
        let inputs = node.inputs.iter().filter(|r| !stored[r.0]);
        cost[i] = own + inputs.clone().map(|r| cost[r.0]).sum::<u32>();
        let is_broadcast = readers[i].iter().any(|&r| repeats(graph, &readers, r, node.specs[0].numel(), &stored));
        own_cost[i] = if is_broadcast { 0 } else { own + inputs.clone().map(|r| own_cost[r.0]).sum::<u32>() };
        depth[i] = 1 + inputs.map(|r| depth[r.0]).max().unwrap_or(0);
        stored[i] |= depth[i] > MAX_DEPTH || cost[i] > 400;
    }
    // The groups that would compute a node: its own, if it is stored, else those of its readers.
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); n];
    for i in (0..n).rev() {
        if !stored[i] && matches!(graph.nodes[i].core(), Some(Core::Map(_) | Core::Pad { .. })) {
            let numel = graph.nodes[i].specs[0].numel();
            let spread = readers[i].iter().any(|&r| repeats(graph, &readers, r, numel, &stored));
            stored[i] |= (groups[i].len() > 1 && own_cost[i] > CHEAP) || (spread && cost[i] > 0);
        }
        let mine = if stored[i] { vec![i] } else { groups[i].clone() };
        for &(k, _) in &graph.nodes[i].inputs {
            for &g in &mine {
                // Two are as many as it takes to know.
                if groups[k].len() < 2 && !groups[k].contains(&g) {
                    groups[k].push(g);
                }
            }
        }
    }
    stored
}

/// Whether reader `r` (through views) repeats a value of `numel` elements more often than it has elements.
fn repeats(graph: &Graph, readers: &[Vec<usize>], r: usize, numel: usize, stored: &[bool]) -> bool {
    let mut at = r;
    for _ in 0..8 {
        let node = &graph.nodes[at];
        match node.core() {
            Some(Core::View(View::Expand(to))) => return to.numel() > numel,
            Some(Core::View(_)) if !stored[at] && readers[at].len() == 1 => at = readers[at][0],
            _ => return false,
        }
    }
    false
}

struct Fuser<'g> {
    graph: &'g Graph,
    live: LiveRows,
    stored: Vec<bool>,
    max_loads: usize,
    value: HashMap<Ref, ValueId>,
    out: Drafted,
    alignment: usize,
}

/// Terms of the group being built. A node read through different views is a term for each.
struct Group {
    program: Program,
    memo: HashMap<(Ref, Vec<usize>), usize>,
    values: HashSet<ValueId>,
}

impl<'g> Fuser<'g> {
    fn new_value(&mut self, spec: Spec, alias: Option<(ValueId, usize)>, leaf: Option<usize>) -> ValueId {
        self.out.values.push(Draft { spec, alias, leaf });
        self.out.values.len() - 1
    }

    fn step(&mut self, action: Action, label: String, node: &GNode) {
        self.out.steps.push(Step { action, live: None, label, at: node.at });
    }

    /// A step that fills the memory of node `i`, for the rows that are needed.
    fn step_of(&mut self, i: usize, action: Action, label: String) {
        let live = self.live.of(i).and_then(|(first, scope)| {
            let fits = matches!(
                (&action, scope),
                (Action::Map(_) | Action::Reduce(_), Scope::Space)
                    | (Action::Reduce(_), Scope::Reduced)
                    | (Action::Op(_), Scope::Op { .. })
            );
            let count = self.value.get(&first.count).copied();
            // A row of halves may end within a word, so all of them are written.
            let words = self.graph.nodes[i].specs[0].dtype != DType::F16;
            count.filter(|_| fits && words).map(|count| Live { count, of: first.of, scope: scope.clone() })
        });
        self.out.steps.push(Step { action, live, label, at: self.graph.nodes[i].at });
    }

    /// Gives node `i` memory and the step that fills it.
    fn emit(&mut self, i: usize) -> Result<()> {
        if self.value.contains_key(&(i, 0)) {
            return Ok(());
        }
        self.stored[i] = true;
        // The count comes before the rows. (It does not depend on them: then they would all be needed.)
        if let Some(count) = self.live.of(i).map(|(first, _)| first.count) {
            self.emit(count.0)?;
        }
        let node = &self.graph.nodes[i];
        if let Kind::Leaf(leaf) = node.kind {
            let v = self.new_value(node.specs[0].clone(), None, Some(leaf));
            self.value.insert((i, 0), v);
            return Ok(());
        }
        match node.core() {
            None if matches!(node.kind, Kind::Op(_)) => self.emit_op(i),
            Some(Core::Assemble { offsets, len }) => self.emit_assemble(i, offsets, *len),
            Some(Core::Reduce(kind, axes)) => {
                let dims = self.graph.spec(node.inputs[0]).shape.clone();
                let reduced: Vec<bool> = (0..dims.rank()).map(|d| axes.contains(&d)).collect();
                let (program, label) = self.program(node.inputs[0], node.name())?;
                let out = self.new_value(node.specs[0].clone(), None, None);
                let (dims, reduced, program) = collapsed(&dims, &reduced, program);
                self.step_of(
                    i,
                    Action::Reduce(ReduceStep { dims, reduced, kind: *kind, program, finish: None, outs: vec![out] }),
                    label,
                );
                self.value.insert((i, 0), out);
                Ok(())
            }
            _ => self.emit_map((i, 0)).map(drop),
        }
    }

    /// A group that stores `r`.
    fn emit_map(&mut self, r: Ref) -> Result<ValueId> {
        let node = &self.graph.nodes[r.0];
        let spec = node.specs[r.1].clone();
        let (program, mut label) = self.program(r, "")?;
        if label.is_empty() {
            // Values that move, and no work on them.
            label = "move".into();
        }
        let out = self.new_value(spec.clone(), None, None);
        let (dims, _, program) = collapsed(&spec.shape, &vec![false; spec.shape.rank()], program);
        self.step_of(r.0, Action::Map(MapStep { dims, program, outs: vec![out] }), label);
        self.value.insert(r, out);
        Ok(out)
    }

    fn emit_op(&mut self, i: usize) -> Result<()> {
        let node = &self.graph.nodes[i];
        let Kind::Op(op) = &node.kind else { return Ok(()) };
        let ins = node.inputs.iter().map(|&r| self.contiguous(r)).collect::<Result<Vec<_>>>()?;
        let outs: Vec<ValueId> = node.specs.iter().map(|s| self.new_value(s.clone(), None, None)).collect();
        let in_specs = node.inputs.iter().map(|&r| self.graph.spec(r).clone()).collect();
        for (o, &v) in outs.iter().enumerate() {
            self.value.insert((i, o), v);
        }
        let step = OpStep { op: op.clone(), ins, finish: None, outs, in_specs, out_specs: node.specs.clone() };
        self.step_of(i, Action::Op(step), node.name().to_owned());
        Ok(())
    }

    fn emit_assemble(&mut self, i: usize, offsets: &[usize], len: usize) -> Result<()> {
        let node = &self.graph.nodes[i];
        let mut pieces = Vec::new();
        let mut gaps = Vec::new();
        let mut end = 0;
        for (&r, &offset) in node.inputs.iter().zip(offsets) {
            let n = self.graph.spec(r).numel();
            gaps.push((end, offset - end));
            end = offset + n;
            if n > 0 {
                pieces.push((self.contiguous(r)?, offset * 4));
            }
        }
        gaps.push((end, len - end));
        let out = self.new_value(node.specs[0].clone(), None, None);
        self.value.insert((i, 0), out);
        gaps.retain(|gap| gap.1 > 0);
        if len <= gaps.len() * WORDS_OF_A_GAP {
            // Zeros everywhere, before any piece is there.
            let piece = |step: &Step| written(&step.action).iter().any(|&v| pieces.iter().any(|p| self.root(p.0) == v));
            let at = self.out.steps.iter().position(piece).unwrap_or(self.out.steps.len());
            let action = Action::Zero { to: out, offset: 0, bytes: len * 4 };
            self.out.steps.insert(at, Step { action, live: None, label: "assemble".into(), at: node.at });
        } else {
            for (offset, n) in gaps {
                self.step(Action::Zero { to: out, offset: offset * 4, bytes: n * 4 }, "assemble".into(), node);
            }
        }
        // Memory planning drops the copies of pieces that are computed in place.
        for &(from, offset) in &pieces {
            self.step(Action::Copy { from, to: out, offset }, "assemble".into(), node);
        }
        self.out.assembled.push(Assembled { out, pieces });
        Ok(())
    }

    /// The value that `v` is a part of.
    fn root(&self, v: ValueId) -> ValueId {
        memory::root(&self.out.values, v).0
    }

    /// The value of `r`, contiguous: its own, a part of another, or a copy.
    fn contiguous(&mut self, r: Ref) -> Result<ValueId> {
        if let Some(&v) = self.value.get(&r) {
            return Ok(v);
        }
        let mut path = Vec::new();
        let mut base = r;
        while let (None, Some(Core::View(view))) = (self.value.get(&base), self.graph.nodes[base.0].core()) {
            path.push(view);
            base = self.graph.nodes[base.0].inputs[0];
        }
        if let Some(&v) = self.value.get(&base) {
            let mut layout = Some(Layout::contiguous(&self.graph.spec(base).shape));
            for view in path.iter().rev() {
                layout = layout.and_then(|l| l.view(view));
            }
            let spec = self.graph.spec(r).clone();
            if let Some(layout) = layout.filter(Layout::is_contiguous) {
                let bytes = usize::try_from(layout.offset).unwrap_or(0) * 4;
                if spec.dtype != DType::F16 && bytes % self.alignment == 0 || bytes == 0 {
                    let v = self.new_value(spec, Some((v, bytes)), None);
                    self.value.insert(r, v);
                    return Ok(v);
                }
            }
        }
        self.emit_map(r)
    }

    fn outputs(&mut self) -> Result<()> {
        let mut seen = HashSet::new();
        for &r in &self.graph.outputs {
            let is_leaf = matches!(self.graph.nodes[r.0].kind, Kind::Leaf(_));
            let v = match self.value.get(&r) {
                // An output has memory of its own: not an input's, not another's, not another output's.
                Some(&v) if !is_leaf && self.out.values[v].alias.is_none() && seen.insert(v) => v,
                _ => {
                    let v = self.copy_of(r)?;
                    seen.insert(v);
                    v
                }
            };
            self.out.outputs.push(v);
        }
        Ok(())
    }

    /// A fresh copy of a value.
    fn copy_of(&mut self, r: Ref) -> Result<ValueId> {
        self.emit(r.0)?;
        let node = &self.graph.nodes[r.0];
        let from = self.contiguous(r)?;
        let out = self.new_value(self.graph.spec(r).clone(), None, None);
        self.step(Action::Copy { from, to: out, offset: 0 }, "copy".into(), node);
        Ok(out)
    }

    /// The program that computes `r` at each of its indices, and a label. Gives memory to what it cannot fuse.
    fn program(&mut self, r: Ref, root: &str) -> Result<(Program, String)> {
        let stored = self.value.contains_key(&r);
        loop {
            let mut group = Group { program: Program::default(), memo: HashMap::new(), values: HashSet::new() };
            let mut names = Vec::new();
            let result = if stored {
                self.load(&mut group, r, &[])
            } else {
                self.term(&mut group, r, &mut Vec::new(), true, &mut names)
            };
            match result {
                Ok(t) if group.values.len() <= self.max_loads && group.program.terms.len() <= MAX_TERMS => {
                    group.program.results.push(t);
                    if !root.is_empty() {
                        names.push(root);
                    }
                    return Ok((group.program, names.join("+")));
                }
                Ok(_) => {
                    let cut = self.widest(r);
                    let cut = cut.ok_or_else(|| Error::internal("plan", "a group too large to cut"))?;
                    self.emit(cut)?;
                }
                Err(Stop::Materialize(i)) => self.emit(i)?,
                Err(Stop::Failed(e)) => return Err(e),
            }
        }
    }

    /// The fused node under `r` whose removal helps most: the one nearest to the result with the most fused below it.
    fn widest(&self, r: Ref) -> Option<usize> {
        let size = |i: usize| {
            let (mut seen, mut stack) = (HashSet::new(), vec![i]);
            while let Some(k) = stack.pop() {
                if seen.insert(k) && !self.value.contains_key(&(k, 0)) {
                    stack.extend(self.graph.nodes[k].inputs.iter().map(|r| r.0));
                }
            }
            seen.len()
        };
        let total = size(r.0);
        let (mut stack, mut seen, mut best) = (vec![r.0], HashSet::new(), None::<(usize, usize)>);
        while let Some(k) = stack.pop() {
            if !seen.insert(k) || self.value.contains_key(&(k, 0)) {
                continue;
            }
            let fusable = matches!(self.graph.nodes[k].core(), Some(Core::Map(_) | Core::Pad { .. }));
            let n = size(k);
            // Half of the whole is the best cut.
            let score = n.min(total - n);
            if k != r.0 && fusable && best.is_none_or(|(s, _)| score > s) {
                best = Some((score, k));
            }
            stack.extend(self.graph.nodes[k].inputs.iter().map(|r| r.0));
        }
        best.map(|b| b.1)
    }

    /// The term of `r` read through the views of `path` (nearest to the result first). `top`: `r` is what the group
    /// stores, so it is computed even if it is marked as stored.
    fn term(
        &self,
        g: &mut Group,
        r: Ref,
        path: &mut Vec<usize>,
        top: bool,
        names: &mut Vec<&'g str>,
    ) -> std::result::Result<usize, Stop> {
        if let Some(&t) = g.memo.get(&(r, path.clone())) {
            return Ok(t);
        }
        if self.value.contains_key(&r) {
            return self.load(g, r, path);
        }
        let node = &self.graph.nodes[r.0];
        if self.stored[r.0] && !top {
            return Err(Stop::Materialize(r.0));
        }
        let spec = &node.specs[r.1];
        let t = match (&node.kind, node.core()) {
            (Kind::Scalar(index), _) => push(g, Term::Scalar { index: *index, dtype: spec.dtype }),
            (_, Some(Core::Map(func))) => {
                let mut args = Vec::with_capacity(node.inputs.len());
                for &input in &node.inputs {
                    args.push(self.term(g, input, path, false, names)?);
                }
                let dtype = node.inputs.last().map_or(DType::F32, |&r| self.graph.spec(r).dtype);
                names.push(func.name());
                push(g, Term::Apply { func: *func, dtype, out: spec.dtype, args })
            }
            (_, Some(Core::View(_))) => {
                path.push(r.0);
                let t = self.term(g, node.inputs[0], path, false, names);
                path.pop();
                t?
            }
            (_, Some(Core::Iota(axis))) => {
                let mut layout = Layout::contiguous(&spec.shape);
                for (d, a) in layout.axes.iter_mut().enumerate() {
                    a.stride = isize::from(d == *axis);
                }
                let layout = self.through(layout, path)?;
                push(g, Term::Load { source: Source::Position, dtype: DType::U32, layout })
            }
            (_, Some(Core::Pad { low, step, .. })) => {
                if !path.is_empty() && !top {
                    return Err(Stop::Materialize(r.0));
                }
                let input = node.inputs[0];
                let (v, from) = self.base(input)?;
                let axes = from.axes.iter().enumerate().map(|(d, a)| Axis {
                    size: spec.shape[d],
                    stride: a.stride,
                    guard: (low[d] > 0 || step[d] > 1 || spec.shape[d] != a.size).then_some(Guard {
                        low: low[d],
                        step: step[d],
                        len: a.size,
                    }),
                });
                let layout = Layout { offset: from.offset, axes: axes.collect() };
                names.push("pad");
                g.values.insert(v);
                push(g, Term::Load { source: Source::Value(v), dtype: spec.dtype, layout })
            }
            _ => return Err(Stop::Materialize(r.0)),
        };
        g.memo.insert((r, path.clone()), t);
        Ok(t)
    }

    /// The stored value under the views of `r`, and the layout by which `r` reads it.
    fn base(&self, r: Ref) -> std::result::Result<(ValueId, Layout), Stop> {
        let (mut at, mut path) = (r, Vec::new());
        loop {
            if let Some(&v) = self.value.get(&at) {
                return Ok((v, self.through(Layout::contiguous(&self.graph.spec(at).shape), &path)?));
            }
            if !matches!(self.graph.nodes[at.0].core(), Some(Core::View(_))) {
                return Err(Stop::Materialize(at.0));
            }
            path.push(at.0);
            at = self.graph.nodes[at.0].inputs[0];
        }
    }

    fn load(&self, g: &mut Group, r: Ref, path: &[usize]) -> std::result::Result<usize, Stop> {
        let v = *self.value.get(&r).ok_or(Stop::Materialize(r.0))?;
        let spec = self.graph.spec(r);
        let layout = self.through(Layout::contiguous(&spec.shape), path)?;
        let t = push(g, Term::Load { source: Source::Value(v), dtype: spec.dtype, layout });
        g.values.insert(v);
        g.memo.insert((r, path.to_vec()), t);
        Ok(t)
    }

    /// The layout seen through the views of `path`, innermost last. Where a reshape breaks it, the reshaped node must
    /// be stored.
    fn through(&self, mut layout: Layout, path: &[usize]) -> std::result::Result<Layout, Stop> {
        for &i in path.iter().rev() {
            let node = &self.graph.nodes[i];
            let Some(Core::View(view)) = node.core() else { continue };
            layout = layout.view(view).ok_or(Stop::Materialize(node.inputs[0].0))?;
        }
        Ok(layout)
    }
}

fn push(g: &mut Group, term: Term) -> usize {
    match g.program.terms.iter().position(|t| t == &term) {
        Some(t) => t,
        None => {
            g.program.terms.push(term);
            g.program.terms.len() - 1
        }
    }
}

/// Merges axes of the index space where all loads allow it.
fn collapsed(dims: &Shape, flags: &[bool], mut program: Program) -> (Vec<usize>, Vec<bool>, Program) {
    let mut layouts: Vec<&mut Layout> = program
        .terms
        .iter_mut()
        .filter_map(|t| match t {
            Term::Load { layout, .. } => Some(layout),
            _ => None,
        })
        .collect();
    // A result is written row-major: for a map that is a layout like any other.
    let (dims, flags) = if flags.contains(&true) {
        collapse(dims, flags, &mut layouts)
    } else {
        let mut out = Layout::contiguous(dims);
        layouts.push(&mut out);
        collapse(dims, flags, &mut layouts)
    };
    (dims, flags, program)
}
