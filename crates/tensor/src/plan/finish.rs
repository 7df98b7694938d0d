//! Element-wise groups over the results of a reduction or an op, computed where those are stored: the rest of a mean and a
//! variance, a layer's bias and rectifier. It saves a launch, and results that only the group reads need no memory.
//!
//! For engines on which a launch and a pass over memory cost more than the arithmetic: not the CPU engine; of software adapters
//! reductions alone.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::device::Caps;
use crate::dtype::DType;
use crate::engine::written;
use crate::op::{Core, Op, View};
use crate::plan::fuse::{Draft, Drafted, MAX_TERMS};
use crate::plan::graph::{GNode, Graph, Kind, Ref};
use crate::plan::layout::Layout;
use crate::plan::memory::{root, touched};
use crate::plan::order::Order;
use crate::plan::together::{MAX_RESULTS, append};
use crate::plan::{Action, Finish, MapStep, OpStep, Program, ReduceStep, Source, Step, Term, ValueId};
use crate::shape::Spec;

/// How many steps further the group may stand.
const WINDOW: usize = 64;

/// Nodes of a graph that are looked at for one group.
const LONGEST: usize = 32;

/// Who reads a value, by the number of the step.
type Readers = HashMap<ValueId, HashSet<usize>>;

/// Puts groups into the steps whose results they read.
pub(crate) fn absorb(drafted: &mut Drafted, caps: &Caps) {
    let mut order = Order::of(drafted);
    let values = &drafted.values;
    let of = |v: ValueId| root(values, v).0;
    let mut readers = Readers::new();
    for (s, step) in drafted.steps.iter().enumerate() {
        // A count of rows is read by who leaves rows out.
        for v in touched(&step.action).0.into_iter().chain(step.live.as_ref().map(|l| l.count)) {
            readers.entry(of(v)).or_default().insert(s);
        }
    }
    let outputs: HashSet<ValueId> = drafted.outputs.iter().map(|&v| of(v)).collect();
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut drafted.steps).into_iter().map(Some).collect();
    for i in 0..steps.len() {
        let Some(mut first) = steps[i].take_if(|s| is_finished_by_groups(s, caps)) else { continue };
        for (j, place) in steps.iter_mut().enumerate().skip(i + 1).take(WINDOW) {
            let Some(Step { action: action @ Action::Map(map), live: None, label, .. }) = &*place else { continue };
            let is_needed = |v: &ValueId| {
                outputs.contains(v) || readers.get(v).is_some_and(|by| by.iter().any(|&s| s != j && s != i))
            };
            let Some(finished) = with_group(&first.action, map, &is_needed, values, caps) else { continue };
            if !order.can_be_at(action, i, values, written(&first.action)) {
                continue;
            }
            order.moved(action, i, values);
            for v in touched(action).0 {
                let by = readers.entry(of(v)).or_default();
                by.remove(&j);
                by.insert(i);
            }
            first = Step { action: finished, label: format!("{}+{label}", first.label), ..first };
            *place = None;
        }
        steps[i] = Some(first);
    }
    drafted.steps = steps.into_iter().flatten().collect();
}

/// Whether a group may be computed where the step stores.
fn is_finished_by_groups(step: &Step, caps: &Caps) -> bool {
    step.live.is_none()
        && match &step.action {
            Action::Reduce(_) => true,
            Action::Op(o) => op_finishes(&*o.op, &o.in_specs, &o.out_specs, caps),
            _ => false,
        }
}

/// Not where shaders run on the host's processor: there it gains nothing, and to compile a product once more for each group
/// behind it takes seconds.
fn op_finishes(op: &dyn Op, ins: &[Spec], outs: &[Spec], caps: &Caps) -> bool {
    !caps.software
        && op.in_place().is_empty()
        && matches!(outs, [out] if out.dtype == DType::F32)
        && op.launch(ins, outs, caps).is_ok_and(|l| l.can_finish())
}

/// The step with a group in it, if the group's elements are its results; of these, those that are needed are stored as well.
fn with_group(
    action: &Action,
    map: &MapStep,
    is_needed: &dyn Fn(&ValueId) -> bool,
    values: &[Draft],
    caps: &Caps,
) -> Option<Action> {
    let (before, outs) = match action {
        Action::Reduce(r) => (&r.finish, &r.outs),
        Action::Op(o) => (&o.finish, &o.outs),
        _ => return None,
    };
    let n: usize = map.dims.iter().product();
    let same = values[outs[0]].spec.numel() == n && before.as_ref().is_none_or(|f| f.dims == map.dims);
    let result = |t: &Term| match t {
        Term::Load { source: Source::Value(v), .. } => outs.iter().position(|o| o == v),
        _ => None,
    };
    let in_order = |t: &Term| match t {
        Term::Load { layout, .. } => layout.offset == 0 && layout.is_contiguous(),
        _ => false,
    };
    let mut reads = map.program.terms.iter().filter(|t| result(t).is_some()).peekable();
    let halves = map.program.terms.iter().any(|t| t.dtype() == DType::F16);
    if !same || halves || reads.peek().is_none() || !reads.all(in_order) {
        return None;
    }
    let mut program = match before {
        Some(f) => f.program.clone(),
        None => as_made(outs, values, &map.dims),
    };
    let made = program.results.clone();
    let needed = outs.iter().copied().zip(made.iter().copied()).filter(|(v, _)| is_needed(v));
    let mut stored: Vec<ValueId>;
    (stored, program.results) = needed.unzip();
    append(&mut program, &map.program, |t| result(t).map(|k| made[k]));
    stored.extend(&map.outs);
    let outs = stored;
    if program.terms.len() > MAX_TERMS || outs.len() > MAX_RESULTS {
        return None;
    }
    let finish = Some(Finish { dims: map.dims.clone(), program });
    let action = match action {
        Action::Reduce(r) => Action::Reduce(ReduceStep { finish, outs, ..r.clone() }),
        // A shader of an op stores one number.
        Action::Op(o) if outs.len() == 1 && values[outs[0]].spec.dtype == DType::F32 => {
            Action::Op(OpStep { finish, outs, ..o.clone() })
        }
        _ => return None,
    };
    fits(&action, caps).then_some(action)
}

/// The program that stores what a step made as it is.
fn as_made(outs: &[ValueId], values: &[Draft], dims: &[usize]) -> Program {
    let load = |(k, &v): (usize, &ValueId)| Term::Load {
        source: Source::Made(k),
        dtype: values[v].spec.dtype,
        layout: Layout::contiguous(dims),
    };
    Program { terms: outs.iter().enumerate().map(load).collect(), results: (0..outs.len()).collect() }
}

/// Whether a launch can bind all that the step touches.
fn fits(action: &Action, caps: &Caps) -> bool {
    let (mut reads, writes) = touched(action);
    let mut n = writes.len();
    if let Action::Op(o) = action {
        // What an op's shader binds comes first, and what the group reads beside that.
        let launches = o.op.launch(&o.in_specs, &o.out_specs, caps).map(|l| l.list).unwrap_or_default();
        n = launches.iter().map(|l| l.binds.len()).max().unwrap_or(0);
        reads.drain(..o.ins.len());
    }
    n + reads.into_iter().collect::<HashSet<_>>().len() <= caps.max_storage_buffers as usize
}

/// Nodes to store because an op computes them where it stores: the last element-wise node through which all goes that is made of
/// the op's result, if it has several readers. Else each of them would compute it.
pub(super) fn ends_of_chains(graph: &Graph, readers: &[Vec<usize>], caps: &Caps) -> Vec<usize> {
    let can_finish = |node: &GNode| match &node.kind {
        Kind::Op(op) if node.core().is_none() => {
            let specs: Vec<Spec> = node.inputs.iter().map(|&r| graph.spec(r).clone()).collect();
            op_finishes(&**op, &specs, &node.specs, caps)
        }
        _ => false,
    };
    let outputs: HashSet<usize> = graph.outputs.iter().map(|r| r.0).collect();
    let ops = graph.nodes.iter().enumerate().filter(|(_, n)| can_finish(n)).map(|(i, _)| i);
    ops.filter_map(|i| end_of_chain(graph, readers, &outputs, i)).collect()
}

fn end_of_chain(graph: &Graph, readers: &[Vec<usize>], outputs: &HashSet<usize>, i: usize) -> Option<usize> {
    let (mut inside, mut end) = (BTreeSet::from([i]), None);
    // In the order of numbers, so that what a node reads is there before it.
    while inside.len() < LONGEST {
        let next = inside.iter().flat_map(|&n| &readers[n]).filter(|r| !inside.contains(r)).min();
        let Some(&next) = next else { break };
        let node = &graph.nodes[next];
        let is_group = match node.core() {
            Some(Core::Map(_)) => node.inputs.iter().all(|&r| inside.contains(&r.0) || is_there(graph, r, i, 0)),
            Some(Core::View(View::Reshape(_))) => true,
            _ => false,
        };
        if !is_group || inside.iter().any(|n| outputs.contains(n)) {
            break;
        }
        inside.insert(next);
        // Open is what somebody reads who is not inside.
        let is_open = |n: &&usize| readers[**n].iter().any(|r| !inside.contains(r));
        if inside.iter().filter(is_open).eq([&next]) {
            end = Some(next).filter(|_| matches!(node.core(), Some(Core::Map(_)))).or(end);
        }
    }
    end.filter(|&e| readers[e].len() > 1)
}

/// Whether a value can be there when node `i` runs: it is older, or made by small groups of what is.
fn is_there(graph: &Graph, r: Ref, i: usize, depth: usize) -> bool {
    let node = &graph.nodes[r.0];
    match (&node.kind, node.core()) {
        _ if r.0 < i => true,
        (Kind::Leaf(_) | Kind::Scalar(_), _) => true,
        (_, Some(Core::Map(_) | Core::View(_))) => {
            depth < 16 && node.inputs.iter().all(|&input| is_there(graph, input, i, depth + 1))
        }
        _ => false,
    }
}
