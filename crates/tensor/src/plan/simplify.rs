//! Factors that are the same for all terms leave a sum: Σ −x is −Σ x, and Σ c·x is c·Σ x where c does not change along the
//! summed axes. Gradients of normalizations and biases are full of them; outside of the sum many become equal, and equal
//! computations are made once. And Σ (x + y) needs no pass over x and y where the sums of both are there: in the gradient of a
//! normalization, where Σ (x − mean) is Σ x − n·mean.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core_op::CoreOp;
use crate::dtype::DType;
use crate::expr::Func;
use crate::op::{Core, Reduction, View};
use crate::plan::graph::{GNode, Graph, Kind, Ref, key_of};
use crate::shape::{Shape, Spec};

/// Factors that are taken out of a sum: a chain of more is somebody's loop.
const FACTORS: usize = 64;
/// How deep functions of sums that are there are looked for; each may have two terms.
const TERMS: usize = 8;

/// The graph with sums simplified, without what nobody needs then.
pub(crate) fn simplify(graph: &Graph) -> Graph {
    let mut s = Simplifier { out: Graph::default(), same: HashMap::new(), scalars: HashMap::new() };
    let mut new: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let mut node = node.clone();
        node.inputs.iter_mut().for_each(|r| *r = (new[r.0], r.1));
        new.push(match node.core() {
            Some(Core::Reduce(Reduction::Sum, axes)) if node.specs[0].dtype == DType::F32 => {
                let axes = axes.clone();
                s.sum(node.inputs[0], &axes, &node)
            }
            _ => s.push(node),
        });
    }
    s.out.outputs = graph.outputs.iter().map(|r| (new[r.0], r.1)).collect();
    (s.out.n_leaves, s.out.n_scalars) = (graph.n_leaves, graph.n_scalars);
    s.out.zeros = graph.zeros.clone();
    without_dead(s.out)
}

struct Simplifier {
    out: Graph,
    same: HashMap<(Vec<u8>, Vec<Ref>), usize>,
    /// Host scalars by number and spec.
    scalars: HashMap<(usize, Spec), usize>,
}

impl Simplifier {
    fn push(&mut self, node: GNode) -> usize {
        if let Kind::Scalar(index) = node.kind {
            let next = self.out.nodes.len();
            let known = *self.scalars.entry((index, node.specs[0].clone())).or_insert(next);
            if known < next {
                return known;
            }
        }
        if let Kind::Op(op) = &node.kind {
            let key = (key_of(op.as_ref()), node.inputs.clone());
            if let Some(&known) = self.same.get(&key) {
                return known;
            }
            self.same.insert(key, self.out.nodes.len());
        }
        self.out.nodes.push(node);
        self.out.nodes.len() - 1
    }

    fn op(&mut self, core: Core, inputs: Vec<Ref>, shape: &Shape, like: &GNode) -> usize {
        let specs = vec![Spec { shape: shape.clone(), dtype: DType::F32 }];
        self.push(GNode { kind: Kind::Op(Arc::new(CoreOp::new(core))), inputs, specs, at: like.at })
    }

    /// The sum of `x` over `axes`; `like` is the node that it replaces.
    fn sum(&mut self, x: Ref, axes: &[usize], like: &GNode) -> usize {
        let shape = like.specs[0].shape.clone();
        self.derived(x, axes, &shape, like, FACTORS, true).unwrap_or_else(|| self.plain(x, axes, &shape, like))
    }

    /// The sum of `x` out of sums of less, within `depth` functions: factors leave it, and what is left is summed if `make` says so,
    /// or has to be there already, as both sides of a sum of two have to.
    fn derived(
        &mut self,
        x: Ref,
        axes: &[usize],
        shape: &Shape,
        like: &GNode,
        depth: usize,
        make: bool,
    ) -> Option<usize> {
        let less = depth.checked_sub(1)?;
        if !make {
            if let Some(constant) = self.constant_along(x, axes, shape, like) {
                let n = self.count(axes.iter().map(|&d| self.out.spec(x).shape[d]).product(), shape, like)?;
                return Some(self.op(Core::Map(Func::Mul), vec![(n, 0), constant], shape, like));
            }
            let sum = CoreOp::new(Core::Reduce(Reduction::Sum, axes.to_vec()));
            if let Some(&there) = self.same.get(&(key_of(&sum), vec![x])) {
                return Some(there);
            }
        }
        let rest = |s: &mut Self, x: Ref| {
            let derived = s.derived(x, axes, shape, like, less, make);
            derived.or_else(|| make.then(|| s.plain(x, axes, shape, like)))
        };
        let inputs = self.out.nodes[x.0].inputs.clone();
        match self.out.nodes[x.0].core().cloned()? {
            Core::Map(Func::Neg) => {
                let inner = rest(self, inputs[0])?;
                Some(self.op(Core::Map(Func::Neg), vec![(inner, 0)], shape, like))
            }
            Core::Map(Func::Mul) => [(inputs[1], inputs[0]), (inputs[0], inputs[1])].into_iter().find_map(|(c, of)| {
                let factor = self.constant_along(c, axes, shape, like)?;
                let rest = rest(self, of)?;
                Some(self.op(Core::Map(Func::Mul), vec![(rest, 0), factor], shape, like))
            }),
            Core::Map(func @ (Func::Add | Func::Sub)) => {
                let terms = less.min(TERMS);
                let a = self.derived(inputs[0], axes, shape, like, terms, false)?;
                let b = self.derived(inputs[1], axes, shape, like, terms, false)?;
                Some(self.op(Core::Map(func), vec![(a, 0), (b, 0)], shape, like))
            }
            _ => None,
        }
    }

    /// The number `n` everywhere: a position, because the values of scalars are no part of a graph.
    fn count(&mut self, n: usize, shape: &Shape, like: &GNode) -> Option<usize> {
        let words = |dims: &[usize]| Some(Spec { shape: Shape::new(dims).ok()?, dtype: DType::U32 });
        let ones = vec![1; shape.rank()];
        let slice = View::Slice { start: vec![n], step: vec![1], len: vec![1] };
        let views = [
            (slice, words(&[1])?),
            (View::Reshape(Shape::new(&ones).ok()?), words(&ones)?),
            (View::Expand(shape.clone()), words(shape)?),
        ];
        let mut push = |op: CoreOp, inputs, spec| {
            (self.push(GNode { kind: Kind::Op(Arc::new(op)), inputs, specs: vec![spec], at: like.at }), 0)
        };
        let positions = words(&[n + 1])?;
        let mut at: Ref = push(CoreOp::nullary(Core::Iota(0), positions.clone()), Vec::new(), positions);
        for (view, spec) in views {
            at = push(CoreOp::new(Core::View(view)), vec![at], spec);
        }
        Some(self.op(Core::Map(Func::ToF32), vec![at], shape, like))
    }

    fn plain(&mut self, x: Ref, axes: &[usize], shape: &Shape, like: &GNode) -> usize {
        self.op(Core::Reduce(Reduction::Sum, axes.to_vec()), vec![x], shape, like)
    }

    /// `x` with size 1 along `axes`, if it is the same all along them.
    fn constant_along(&mut self, x: Ref, axes: &[usize], shape: &Shape, like: &GNode) -> Option<Ref> {
        let node = &self.out.nodes[x.0];
        let scalar = |kind: Kind, at| GNode {
            kind,
            inputs: Vec::new(),
            specs: vec![Spec { shape: shape.clone(), dtype: DType::F32 }],
            at,
        };
        if let Kind::Scalar(index) = node.kind {
            let node = scalar(Kind::Scalar(index), node.at);
            return Some((self.push(node), 0));
        }
        let Some(Core::View(View::Expand(_))) = node.core() else { return None };
        let from = node.inputs[0];
        let dims = self.out.spec(from).shape.clone();
        if axes.iter().any(|&d| dims[d] != 1) {
            return None;
        }
        if dims == *shape {
            return Some(from);
        }
        Some((self.op(Core::View(View::Expand(shape.clone())), vec![from], shape, like), 0))
    }
}

/// Drops nodes that no output needs, but for the leaves, whose numbers are those of the plan's inputs.
fn without_dead(graph: Graph) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    graph.outputs.iter().for_each(|r| needed[r.0] = true);
    for i in (0..graph.nodes.len()).rev() {
        needed[i] |= matches!(graph.nodes[i].kind, Kind::Leaf(_));
        if needed[i] {
            graph.nodes[i].inputs.iter().for_each(|r| needed[r.0] = true);
        }
    }
    let mut new = vec![0; graph.nodes.len()];
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (i, mut node) in graph.nodes.into_iter().enumerate().filter(|(i, _)| needed[*i]) {
        node.inputs.iter_mut().for_each(|r| r.0 = new[r.0]);
        new[i] = nodes.len();
        nodes.push(node);
    }
    let outputs = graph.outputs.into_iter().map(|r| (new[r.0], r.1)).collect();
    Graph { nodes, outputs, ..graph }
}
