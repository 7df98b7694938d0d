//! What each op says about the channels of its inputs and outputs.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use acclimate_kernels::Conv2d;
use acclimate_kernels::ops::matmul::MatMul;
use acclimate_tensor::op::{Core, View};
use acclimate_tensor::{Op, Tensor};

use super::labels::{Atom, Atoms, Axis, FIXED, ZERO};
use crate::error::Error;

/// The labels of the axes of a tensor.
type Labels = Vec<Axis>;

/// A walk through a graph, inputs first.
pub(super) struct Walk {
    pub atoms: Atoms,
    pub values: HashMap<(u64, usize), Labels>,
    /// What was an input of something.
    pub read: HashSet<(u64, usize)>,
    /// Work of each product, and the labels of the axes it is proportional to.
    pub products: Vec<(u64, Vec<Rc<[Atom]>>)>,
}

impl Walk {
    /// Before the first op. The input itself keeps all it has.
    pub fn new(x: &Tensor) -> Self {
        let values = HashMap::from([(x.id(), vec![Axis::Fixed; x.rank()])]);
        Walk { atoms: Atoms::new(), values, read: HashSet::new(), products: Vec::new() }
    }

    /// A parameter: each position of each axis a channel of its own.
    pub fn leaf(&mut self, t: &Tensor) {
        let labels = t.dims().iter().map(|&n| self.atoms.fresh(n)).collect();
        self.values.insert(t.id(), labels);
    }

    /// To the end, which keeps all it has.
    pub fn run(&mut self, end: &Tensor) -> Result<(), Error> {
        let given: HashSet<(u64, usize)> = self.values.keys().copied().collect();
        let mut order = Vec::new();
        super::visit(end, |t, _, _| order.push(t.clone()));
        for t in order.iter().filter(|t| !given.contains(&t.id())) {
            let Some((op, inputs)) = t.recipe() else { continue };
            self.read.extend(inputs.iter().map(Tensor::id));
            let labels = inputs.iter().map(|i| self.labels(i)).collect::<Vec<_>>();
            let out = self.step(&*op, &inputs, &labels, t);
            self.values.insert(t.id(), out);
        }
        let last = self.labels(end);
        self.atoms.pin(&last);
        Ok(())
    }

    /// Values that are neither input nor parameter stay.
    fn labels(&self, t: &Tensor) -> Labels {
        self.values.get(&t.id()).cloned().unwrap_or_else(|| vec![Axis::Fixed; t.rank()])
    }

    fn step(&mut self, op: &dyn Op, inputs: &[Tensor], labels: &[Labels], out: &Tensor) -> Labels {
        if let Some(core) = op.core() {
            return self.primitive(core, inputs, labels, out);
        }
        let kernel = op.kernel();
        let conv = kernel.and_then(|k| k.downcast_ref::<Conv2d>());
        let product = kernel.and_then(|k| k.downcast_ref::<MatMul>());
        let specs: Vec<_> = inputs.iter().map(|i| i.spec().clone()).collect();
        let flop = op.flop(&specs, std::slice::from_ref(out.spec()));
        match (conv, product, op.name(), labels) {
            (Some(conv), _, _, [x, w]) => self.convolution(conv, [x, w], inputs, flop),
            (_, Some(product), _, [a, b]) => self.matmul(*product, [a, b], inputs, flop),
            (_, _, "max_pool2d" | "avg_pool2d", [x]) => {
                self.atoms.pin(&x[2..]);
                vec![x[0].clone(), x[1].clone(), Axis::Fixed, Axis::Fixed]
            }
            (_, _, "softmax" | "log_softmax", [x]) => {
                self.atoms.pin(x.last());
                x.iter().enumerate().map(|(d, a)| if d + 1 == x.len() { Axis::Fixed } else { a.clone() }).collect()
            }
            (_, _, "take", [table, index]) => {
                self.atoms.pin(&table[..table.len() - 1]);
                self.atoms.pin(index);
                let mut out = vec![Axis::Fixed; out.rank()];
                if let (Some(last), Some(width)) = (out.last_mut(), table.last()) {
                    *last = width.clone();
                }
                out
            }
            _ => {
                labels.iter().for_each(|l| self.atoms.pin(l));
                vec![Axis::Fixed; out.rank()]
            }
        }
    }

    fn convolution(&mut self, conv: &Conv2d, [x, w]: [&Labels; 2], inputs: &[Tensor], flop: u64) -> Labels {
        let (x_dims, w_dims) = (inputs[0].dims(), inputs[1].dims());
        self.atoms.pin(x[2..].iter().chain(&w[2..]));
        let outputs = if conv.groups == 1 {
            let seen = self.atoms.contract(&x[1], &w[1]);
            self.product(flop, [&w[0], &seen]);
            w[0].clone()
        } else if conv.groups == x_dims[1] && w_dims[0] == x_dims[1] {
            self.atoms.pin([&w[1]]);
            let both = self.atoms.contract(&x[1], &w[0]);
            self.product(flop, [&both]);
            both
        } else {
            self.atoms.pin([&x[1], &w[0], &w[1]]);
            self.product(flop, []);
            Axis::Fixed
        };
        vec![x[0].clone(), outputs, Axis::Fixed, Axis::Fixed]
    }

    fn matmul(&mut self, product: MatMul, [a, b]: [&Labels; 2], inputs: &[Tensor], flop: u64) -> Labels {
        let (m, k) = if product.trans_a { (&a[2], &a[1]) } else { (&a[1], &a[2]) };
        let (n, k2) = if product.trans_b { (&b[1], &b[2]) } else { (&b[2], &b[1]) };
        let inner = self.atoms.contract(k, k2);
        let batch = match (inputs[0].dims()[0], inputs[1].dims()[0]) {
            (1, _) => b[0].clone(),
            (_, 1) => a[0].clone(),
            _ => self.atoms.meet(&a[0], &b[0]),
        };
        self.product(flop, [&batch, m, n, &inner]);
        vec![batch, m.clone(), n.clone()]
    }

    fn product<const N: usize>(&mut self, flop: u64, axes: [&Axis; N]) {
        let classes = |axis: &&Axis| if let Axis::Each(classes) = axis { Some(classes.clone()) } else { None };
        self.products.push((flop, axes.iter().filter_map(classes).collect()));
    }

    fn primitive(&mut self, core: &Core, inputs: &[Tensor], labels: &[Labels], out: &Tensor) -> Labels {
        match (core, labels) {
            (Core::Constant(_), _) => vec![Axis::Any; out.rank()],
            (Core::Iota(axis), _) => {
                (0..out.rank()).map(|d| if d == *axis { Axis::Fixed } else { Axis::Any }).collect()
            }
            (Core::Map(_), [first, rest @ ..]) => rest
                .iter()
                .fold(first.clone(), |all, one| all.iter().zip(one).map(|(a, b)| self.atoms.meet(a, b)).collect()),
            (Core::View(view), [x]) => self.view(view, inputs[0].dims(), x),
            (Core::Pad { low, step, to }, [x]) => {
                (0..x.len()).map(|d| self.pad(&x[d], inputs[0].dims()[d], [low[d], step[d], to[d]])).collect()
            }
            (Core::Reduce(_, axes), [x]) => {
                self.atoms.pin(axes.iter().filter_map(|&d| x.get(d)));
                x.iter().enumerate().map(|(d, a)| if axes.contains(&d) { Axis::Any } else { a.clone() }).collect()
            }
            (Core::Assemble { offsets, len }, _) => {
                let mut flat = vec![ZERO; *len];
                for ((piece, &offset), input) in labels.iter().zip(offsets).zip(inputs) {
                    let place = &mut flat[offset..offset + input.numel()];
                    match piece.first() {
                        Some(Axis::Each(classes)) => place.copy_from_slice(classes),
                        _ => place.fill(FIXED),
                    }
                }
                vec![Axis::Each(flat.into())]
            }
            _ => {
                labels.iter().for_each(|l| self.atoms.pin(l));
                vec![Axis::Fixed; out.rank()]
            }
        }
    }

    fn view(&mut self, view: &View, dims: &[usize], x: &Labels) -> Labels {
        match view {
            View::Reshape(to) => self.atoms.reshape(dims, x, to),
            View::Permute(order) => order.iter().map(|&d| x[d].clone()).collect(),
            View::Expand(to) => (0..x.len())
                .map(|d| {
                    if dims[d] == to[d] {
                        return x[d].clone();
                    }
                    self.atoms.pin([&x[d]]);
                    Axis::Any
                })
                .collect(),
            View::Slice { start, step, len } => (0..x.len())
                .map(|d| match &x[d] {
                    Axis::Each(_) if (start[d], step[d], len[d]) != (0, 1, dims[d]) => {
                        // Who counts channels by number would count wrong when some are gone.
                        self.atoms.pin([&x[d]]);
                        Axis::Fixed
                    }
                    other => other.clone(),
                })
                .collect(),
        }
    }

    /// Zeros around an axis.
    fn pad(&mut self, axis: &Axis, size: usize, [low, step, to]: [usize; 3]) -> Axis {
        match axis {
            same if (low, to) == (0, size) => same.clone(),
            Axis::Each(classes) if step == 1 => {
                let mut wide = vec![ZERO; to];
                wide[low..low + size].copy_from_slice(classes);
                Axis::Each(wide.into())
            }
            other => {
                self.atoms.pin([other]);
                Axis::Fixed
            }
        }
    }
}
