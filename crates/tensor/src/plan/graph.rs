//! The needed part of the graph, numbered: what plans are made from and cached by.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::op::{Core, Op};
use crate::plan::rows;
use crate::shape::Spec;
use crate::tensor::{Node, State, Tensor};

/// Output `.1` of node `.0`.
pub(crate) type Ref = (usize, usize);

/// What a numbered node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A plan input.
    Leaf(usize),
    /// A host scalar, everywhere.
    Scalar(usize),
    /// An op.
    Op(Arc<dyn Op>),
}

/// A numbered node.
#[derive(Clone, Debug)]
pub(crate) struct GNode {
    pub kind: Kind,
    pub inputs: Vec<Ref>,
    pub specs: Vec<Spec>,
    pub at: &'static Location<'static>,
}

impl GNode {
    pub fn core(&self) -> Option<&Core> {
        match &self.kind {
            Kind::Op(op) => op.core(),
            _ => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Op(op) => op.name(),
            Kind::Leaf(_) => "input",
            Kind::Scalar(_) => "constant",
        }
    }
}

/// Nodes in topological order, inputs first, each distinct computation once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub nodes: Vec<GNode>,
    pub outputs: Vec<Ref>,
    pub n_leaves: usize,
    pub n_scalars: usize,
    /// Which host scalars are +0.0 (all bits zero). Of a scalar's value, this alone is structure, and only in graphs with
    /// live rows: rows that are zero by construction need no work.
    pub zeros: Vec<bool>,
}

impl Graph {
    pub fn spec(&self, r: Ref) -> &Spec {
        &self.nodes[r.0].specs[r.1]
    }
}

/// A node met on the walk.
pub(crate) struct Met {
    pub node: Arc<Node>,
    /// Its number in the graph (shared by equal computations).
    pub idx: usize,
    /// How many inputs of met nodes refer to it.
    pub refs: usize,
}

/// The result of a walk.
pub(crate) struct Walk {
    pub graph: Graph,
    pub leaves: Vec<Tensor>,
    pub scalars: Vec<u32>,
    pub met: Vec<Met>,
    /// Everything structural; equal keys have equal plans. Outputs are appended by [`Walk::seal`].
    pub key: Vec<u8>,
    by_id: HashMap<u64, usize>,
    /// Constants by value and spec.
    constants: HashMap<(u32, Vec<Spec>), usize>,
}

impl Walk {
    /// Whether the walk has met a node.
    pub fn has_met(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The number of a tensor that was met.
    pub fn find(&self, t: &Tensor) -> Option<Ref> {
        self.by_id.get(&t.node.id).map(|&i| self.output(self.met[i].idx, t.out))
    }

    /// Output `out` of the node numbered `idx`. A value with several outputs is as many leaves in a row.
    fn output(&self, idx: usize, out: usize) -> Ref {
        match self.graph.nodes[idx].kind {
            Kind::Leaf(_) => (idx + out, 0),
            _ => (idx, out),
        }
    }

    /// Sets the outputs and completes the key.
    pub fn seal(&mut self, outputs: Vec<Ref>, donated: &[bool]) {
        let mut hasher = KeepBytes(std::mem::take(&mut self.key));
        outputs.hash(&mut hasher);
        donated.hash(&mut hasher);
        if rows::has_live_rows(&self.graph) {
            self.graph.zeros.hash(&mut hasher);
        }
        self.key = hasher.0;
        self.graph.outputs = outputs;
    }
}

/// A hasher that keeps what it is fed, so that keys compare exactly.
struct KeepBytes(Vec<u8>);

impl Hasher for KeepBytes {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Everything structural of an op.
pub(crate) fn key_of(op: &dyn Op) -> Vec<u8> {
    let mut hasher = KeepBytes(Vec::new());
    op.key(&mut hasher);
    hasher.0
}

/// Walks from `targets` down to values (and placeholders, if `tracing`).
pub(crate) fn walk(targets: &[&Tensor], tracing: bool) -> Result<Walk> {
    let mut w = Walk {
        graph: Graph::default(),
        leaves: Vec::new(),
        scalars: Vec::new(),
        met: Vec::new(),
        key: Vec::new(),
        by_id: HashMap::new(),
        constants: HashMap::new(),
    };
    let mut same: HashMap<(Vec<u8>, Vec<Ref>), usize> = HashMap::new();
    let Some(device) = targets.first().map(|t| t.device().clone()) else { return Ok(w) };
    let mut stack: Vec<(Tensor, bool)> = targets.iter().rev().map(|&t| (t.clone(), false)).collect();
    while let Some((tensor, ready)) = stack.pop() {
        if w.by_id.contains_key(&tensor.node.id) {
            continue;
        }
        device.require_same("plan", tensor.device())?;
        // Under the lock only handles are read; nothing is cloned that would count as an owner for long.
        let (op, inputs) = match &*tensor.node.state() {
            State::Placeholder if !tracing => return Err(Error::Tracing { op: "to_vec" }),
            State::Placeholder | State::Ready { .. } => (None, Vec::new()),
            State::Pending { op, inputs } => (Some(op.clone()), inputs.clone()),
        };
        let Some(op) = op else {
            w.leaf(&tensor);
            continue;
        };
        if !ready {
            let missing: Vec<Tensor> = inputs.into_iter().filter(|i| !w.by_id.contains_key(&i.node.id)).collect();
            stack.push((tensor, true));
            stack.extend(missing.into_iter().rev().map(|i| (i, false)));
            continue;
        }
        w.op(&tensor, op, &inputs, &mut same);
    }
    Ok(w)
}

impl Walk {
    fn add(&mut self, tensor: &Tensor, node: GNode) -> usize {
        let idx = self.push(node);
        self.meet(tensor, idx);
        idx
    }

    fn push(&mut self, node: GNode) -> usize {
        let mut hasher = KeepBytes(std::mem::take(&mut self.key));
        match &node.kind {
            Kind::Leaf(_) => 1u8.hash(&mut hasher),
            Kind::Scalar(_) => 2u8.hash(&mut hasher),
            Kind::Op(op) => {
                3u8.hash(&mut hasher);
                op.key(&mut hasher);
            }
        }
        node.inputs.hash(&mut hasher);
        node.specs.hash(&mut hasher);
        self.key = hasher.0;
        self.graph.nodes.push(node);
        self.graph.nodes.len() - 1
    }

    fn meet(&mut self, tensor: &Tensor, idx: usize) {
        self.by_id.insert(tensor.node.id, self.met.len());
        self.met.push(Met { node: tensor.node.clone(), idx, refs: 0 });
    }

    fn leaf(&mut self, tensor: &Tensor) {
        let first = self.graph.nodes.len();
        for (out, spec) in tensor.node.specs.iter().enumerate() {
            let kind = Kind::Leaf(self.graph.n_leaves);
            self.graph.n_leaves += 1;
            self.push(GNode { kind, inputs: Vec::new(), specs: vec![spec.clone()], at: tensor.node.at });
            self.leaves.push(Tensor { node: tensor.node.clone(), out });
        }
        self.meet(tensor, first);
    }

    fn op(
        &mut self,
        tensor: &Tensor,
        op: Arc<dyn Op>,
        inputs: &[Tensor],
        same: &mut HashMap<(Vec<u8>, Vec<Ref>), usize>,
    ) {
        let mut refs = Vec::with_capacity(inputs.len());
        for i in inputs {
            let m = self.by_id[&i.node.id];
            self.met[m].refs += 1;
            refs.push(self.output(self.met[m].idx, i.out));
        }
        let (specs, at) = (tensor.node.specs.clone(), tensor.node.at);
        if let Some(Core::Constant(bits)) = op.core() {
            // Equal constants are one, so that equal computations on them are found equal. Which constants are equal
            // becomes part of the structure; their values do not.
            let known = self.constants.get(&(*bits, specs.clone())).copied();
            if let Some(idx) = known {
                return self.meet(tensor, idx);
            }
            let kind = Kind::Scalar(self.graph.n_scalars);
            self.scalars.push(*bits);
            self.graph.zeros.push(*bits == 0);
            self.graph.n_scalars += 1;
            let idx = self.add(tensor, GNode { kind, inputs: refs, specs: specs.clone(), at });
            self.constants.insert((*bits, specs), idx);
            return;
        }
        let key = (key_of(op.as_ref()), refs.clone());
        match same.get(&key) {
            Some(&idx) => self.meet(tensor, idx),
            None => {
                let idx = self.add(tensor, GNode { kind: Kind::Op(op), inputs: refs, specs, at });
                same.insert(key, idx);
            }
        }
    }
}
