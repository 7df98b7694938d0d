//! Asking for values: the needed part of the graph becomes a plan, which runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::device::{Counters, Device};
use crate::engine::{Buffer, Readback, Run};
use crate::error::{Error, Result};
use crate::op::Core;
use crate::plan::cache::Executable;
use crate::plan::graph::{self, Ref, Walk};
use crate::tensor::{Node, State, Tensor};

/// The bytes of one tensor, on their way.
pub(crate) fn read(t: &Tensor) -> Result<Box<dyn Readback>> {
    let device = t.device();
    Counters::add(&device.0.counters.read_backs, 1);
    if let Some(buffer) = t.buffer() {
        return device.0.engine.read(&buffer, t.spec().bytes());
    }
    evaluate(&[t], Some(t))
}

/// Computes tensors.
pub(crate) fn realize(tensors: &[&Tensor]) -> Result<()> {
    let mut by_device: Vec<(Device, Vec<&Tensor>)> = Vec::new();
    for &t in tensors.iter().filter(|t| !t.is_ready()) {
        match by_device.iter_mut().find(|(d, _)| d.same(t.device())) {
            Some((_, list)) => list.push(t),
            None => by_device.push((t.device().clone(), vec![t])),
        }
    }
    by_device.iter().try_for_each(|(_, list)| evaluate(list, None).map(drop))
}

/// Whether a node is worth no memory: it costs nothing to have it again.
fn is_free(t: &State) -> bool {
    match t {
        State::Pending { op, .. } => matches!(op.core(), Some(Core::Constant(_) | Core::Iota(_))),
        _ => true,
    }
}

fn evaluate(targets: &[&Tensor], read: Option<&Tensor>) -> Result<Box<dyn Readback>> {
    let device = targets[0].device().clone();
    let mut walk = graph::walk(targets, false)?;
    let along = along(&walk);
    if !along.is_empty() {
        walk = graph::walk(&targets.iter().copied().chain(&along).collect::<Vec<_>>(), false)?;
    }
    // The walk holds them now; another handle would count as somebody who wants them.
    drop(along);
    // Kept are the targets and what somebody outside the walk still holds: a handle, or a node not needed now.
    let kept: Vec<usize> = (0..walk.met.len())
        .filter(|&m| {
            let met = &walk.met[m];
            let is_target = targets.iter().any(|t| Arc::ptr_eq(&t.node, &met.node));
            let pending = matches!(&*met.node.state(), State::Pending { .. });
            pending && (is_target || (Arc::strong_count(&met.node) > met.refs + 1 && !is_free(&met.node.state())))
        })
        .collect();
    let mut outputs: Vec<Ref> = Vec::new();
    let mut position: HashMap<Ref, usize> = HashMap::new();
    for &m in &kept {
        for out in 0..walk.met[m].node.specs.len() {
            let r = (walk.met[m].idx, out);
            position.entry(r).or_insert_with(|| {
                outputs.push(r);
                outputs.len() - 1
            });
        }
    }
    // A value that only nodes of this walk hold is donated: they forget it when they have their own.
    let leaves: Vec<Tensor> = std::mem::take(&mut walk.leaves);
    let donated: Vec<bool> = leaves.iter().map(|l| is_last_owner(&walk, l)).collect();
    walk.seal(outputs, &donated);
    let exe = device.0.plans.get(&device, &walk.key, &walk.graph, &donated)?;
    let wanted = match read {
        Some(t) => {
            let j = walk.find(t).and_then(|r| position.get(&r).copied());
            let j = j.ok_or_else(|| Error::internal("read", "the target is no output"))?;
            vec![(j, t.spec().bytes())]
        }
        None => Vec::new(),
    };
    let inputs = buffers(&leaves)?;
    let (results, readback) = run(&device, &exe, inputs, &walk.scalars, &wanted)?;
    for &m in &kept {
        let met = &walk.met[m];
        let take = |out| results[position[&(met.idx, out)]].clone();
        let state = State::Ready { buffers: (0..met.node.specs.len()).map(take).collect(), computed: true };
        // The old state goes after the lock: it may own a long chain.
        let old = std::mem::replace(&mut *met.node.state(), state);
        drop(old);
    }
    Ok(readback)
}

/// What is computed along: small pending values that somebody holds and that need nothing but what this walk has. Else a
/// loop that reads only its loss would keep what its running statistics are made of, step after step.
fn along(walk: &Walk) -> Vec<Tensor> {
    let mut found: Vec<Arc<Node>> = Vec::new();
    let mut ids: HashSet<u64> = HashSet::new();
    let look = |node: &Node, found: &mut Vec<Arc<Node>>, ids: &mut HashSet<u64>| {
        // A value that is there already holds nothing back.
        if !matches!(&*node.state(), State::Pending { .. }) {
            return;
        }
        for reader in node.readers() {
            let reached = |id| walk.has_met(id) || ids.contains(&id);
            if !reached(reader.id) && is_small_change(&reader, &reached) {
                ids.insert(reader.id);
                found.push(reader);
            }
        }
    };
    walk.met.iter().for_each(|m| look(&m.node, &mut found, &mut ids));
    // What was found may be what others wait for.
    let mut next = 0;
    while let Some(node) = found.get(next).cloned() {
        look(&node, &mut found, &mut ids);
        next += 1;
    }
    found.into_iter().map(|node| Tensor { node, out: 0 }).collect()
}

/// Whether a pending node is a primitive on few elements, of inputs that are reached, ready or free.
fn is_small_change(node: &Node, reached: &dyn Fn(u64) -> bool) -> bool {
    const SMALL: usize = 1 << 12;
    let State::Pending { op, inputs } = &*node.state() else { return false };
    let is_there = |t: &Tensor| reached(t.node.id) || is_at_hand(t, 0);
    op.core().is_some() && node.specs.iter().all(|s| s.numel() <= SMALL) && inputs.iter().all(is_there)
}

/// Whether a value is there, or made of nothing but values that are there and views of them.
fn is_at_hand(t: &Tensor, depth: usize) -> bool {
    match &*t.node.state() {
        State::Ready { .. } => true,
        State::Placeholder => false,
        State::Pending { op, inputs } => match op.core() {
            Some(Core::Constant(_) | Core::Iota(_)) => true,
            Some(Core::View(_) | Core::Map(_)) => depth < 4 && inputs.iter().all(|i| is_at_hand(i, depth + 1)),
            _ => false,
        },
    }
}

/// Whether nobody but nodes of the walk (and the walk itself) holds a leaf or its buffer.
fn is_last_owner(walk: &Walk, leaf: &Tensor) -> bool {
    let Some(met) = walk.met.iter().find(|m| Arc::ptr_eq(&m.node, &leaf.node)) else { return false };
    // Beside the inputs of met nodes: the walk's own handles, one for the node and one for each of its leaves.
    Arc::strong_count(&leaf.node) <= met.refs + 1 + leaf.node.specs.len() && owns_buffer(leaf)
}

/// Whether the node is the only holder of its buffer.
pub(crate) fn owns_buffer(t: &Tensor) -> bool {
    match &*t.node.state() {
        State::Ready { buffers, .. } => buffers.iter().all(|b| Arc::strong_count(b) == 1),
        _ => false,
    }
}

/// The buffers of leaves, all of which have values.
pub(crate) fn buffers(leaves: &[Tensor]) -> Result<Vec<Buffer>> {
    leaves.iter().map(|l| l.buffer().ok_or(Error::Tracing { op: "run" })).collect()
}

/// Runs a plan: allocates its outputs (or takes donated inputs), submits once.
pub(crate) fn run(
    device: &Device,
    exe: &Executable,
    inputs: Vec<Buffer>,
    scalars: &[u32],
    read: &[(usize, usize)],
) -> Result<(Vec<Buffer>, Box<dyn Readback>)> {
    let plan = &exe.plan;
    let engine = &device.0.engine;
    let outputs = plan
        .outputs
        .iter()
        .zip(&plan.donated)
        .map(|(spec, donated)| match donated {
            Some(i) => Ok(inputs[*i].clone()),
            None => engine.alloc(spec.bytes().max(4)),
        })
        .collect::<Result<Vec<_>>>()?;
    Counters::add(&device.0.counters.refused_donations, plan.copies);
    let readback = engine.run(plan, &exe.prepared, Run { inputs: &inputs, outputs: &outputs, scalars, read })?;
    Ok((outputs, readback))
}
