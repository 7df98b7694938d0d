//! Which channels of a network depend on each other, found in the graph that it records.
//!
//! Every position of every axis of every parameter begins as a channel of its own. The graph then says which of them have
//! to go together: an output channel of a convolution with its normalization and with the inputs of whatever reads it,
//! the channels that a residual sum adds, those that a shortcut pads. What an operation does not know how to lose stays.

mod labels;
mod rules;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use acclimate_tensor::Tensor;
use acclimate_train::params::{Entry, Kind};
use acclimate_train::{Layer, Params, Pass};

use self::labels::{Atom, Axis, FIXED, ZERO};
use self::rules::Walk;
use crate::error::Error;

/// A position of an axis of a parameter or buffer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which parameter or buffer: a position in [`Dependencies::entries`].
    pub entry: usize,
    /// Its axis.
    pub axis: usize,
    /// The position.
    pub at: usize,
}

/// Channels of one kind: they have a place each in the same axes.
#[derive(Clone, Debug)]
pub struct Group {
    /// The axes, as entry and axis.
    pub axes: Vec<(usize, usize)>,
    /// The places of each channel.
    pub channels: Vec<Vec<Place>>,
}

/// A convolution or product of matrices.
#[derive(Clone, Debug)]
struct Product {
    flop: u64,
    /// The axes that its work is proportional to: for each position the group and channel it belongs to, if it can go.
    axes: Vec<Vec<Option<(usize, usize)>>>,
}

/// The channels of a network that can be taken away, and what each costs.
#[derive(Clone, Debug)]
pub struct Dependencies {
    entries: Vec<(String, Kind, Vec<usize>)>,
    groups: Vec<Group>,
    products: Vec<Product>,
}

/// A recorded pass through a network, with a tensor for each parameter.
pub(super) struct Recorded {
    pub output: Tensor,
    /// Parameters, then buffers.
    pub leaves: Vec<(Entry, Tensor)>,
}

/// Records a pass; nothing is computed but the parameters' own values.
pub(super) fn record(model: &dyn Layer, params: &Params, x: &Tensor) -> Result<Recorded, Error> {
    let entries = params.index().entries().iter().map(|e| Ok((e.clone(), params.get(&e.path)?)));
    let buffers = params.buffer_index().into_iter().flat_map(|index| index.entries());
    let buffers = buffers.map(|e| Ok((e.clone(), params.buffer(&e.path)?)));
    let leaves = entries.chain(buffers).collect::<Result<Vec<(Entry, Tensor)>, Error>>()?;
    // With values of their own they are leaves of the graph, where the arena would be one for all.
    Tensor::realize(&leaves.iter().map(|(_, t)| t).collect::<Vec<_>>())?;
    let apart = params.with_overrides(leaves.iter().map(|(e, t)| (e.path.clone(), t.clone())))?;
    Ok(Recorded { output: model.forward(&apart, x)?, leaves })
}

impl Dependencies {
    /// Of a model when it answers `x`: [n, ..]; only the sizes count. Costs are those of an input.
    ///
    /// # Errors
    /// If the model does not take such an input, or its output is no part of the graph.
    pub fn of(model: &dyn Layer, params: &Params, x: &Tensor) -> Result<Self, Error> {
        let recorded = record(model, params, x)?;
        let mut walk = Walk::new(x);
        for (_, leaf) in &recorded.leaves {
            walk.leaf(leaf);
        }
        walk.run(&recorded.output)?;
        Ok(Self::collect(walk, &recorded, x.dims().first().copied().unwrap_or(1).max(1)))
    }

    fn collect(walk: Walk, recorded: &Recorded, inputs: usize) -> Self {
        let Walk { mut atoms, values, read, products, .. } = walk;
        let mut classes: BTreeMap<Atom, Vec<Place>> = BTreeMap::new();
        for (entry, (_, leaf)) in recorded.leaves.iter().enumerate() {
            let Some(axes) = values.get(&leaf.id()) else { continue };
            if !read.contains(&leaf.id()) {
                atoms.pin(axes);
            }
            for (axis, labels) in axes.iter().enumerate() {
                let Axis::Each(labels) = labels else { continue };
                for (at, &atom) in labels.iter().enumerate() {
                    classes.entry(atoms.root(atom)).or_default().push(Place { entry, axis, at });
                }
            }
        }
        classes.remove(&FIXED);
        let mut by_axes: BTreeMap<Vec<(usize, usize)>, Vec<(Atom, Vec<Place>)>> = BTreeMap::new();
        for (atom, places) in classes {
            let mut axes: Vec<(usize, usize)> = places.iter().map(|p| (p.entry, p.axis)).collect();
            axes.dedup();
            by_axes.entry(axes).or_default().push((atom, places));
        }
        let mut number = HashMap::new();
        let mut groups = Vec::new();
        for (axes, channels) in by_axes {
            for (channel, (atom, _)) in channels.iter().enumerate() {
                number.insert(*atom, (groups.len(), channel));
            }
            groups.push(Group { axes, channels: channels.into_iter().map(|(_, places)| places).collect() });
        }
        let mut numbered = |labels: &Rc<[Atom]>| {
            let one = |&a: &Atom| if a == ZERO { None } else { number.get(&atoms.root(a)).copied() };
            labels.iter().map(one).collect::<Vec<_>>()
        };
        let products = products
            .iter()
            .map(|(flop, axes)| Product {
                flop: flop / inputs as u64,
                axes: axes.iter().map(&mut numbered).filter(|axis| axis.iter().any(Option::is_some)).collect(),
            })
            .collect();
        let entries = recorded.leaves.iter().map(|(e, _)| (e.path.clone(), e.kind, e.shape.to_vec())).collect();
        Dependencies { entries, groups, products }
    }

    /// Path, kind and sizes of each parameter and buffer.
    pub fn entries(&self) -> &[(String, Kind, Vec<usize>)] {
        &self.entries
    }

    /// The groups of channels that can go.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// What a group is called: the first weight whose outputs it is, or else its first parameter.
    pub fn name(&self, group: usize) -> &str {
        let Some(axes) = self.groups.get(group).map(|g| &g.axes) else { return "" };
        let weight = axes.iter().find(|&&(entry, axis)| axis == 0 && self.entries[entry].1 == Kind::Weight);
        weight.or(axes.first()).map_or("", |&(entry, _)| &self.entries[entry].0)
    }

    /// Multiplications and additions of the convolutions and products of one input, where `stays(group, channel)`.
    pub fn flop(&self, stays: impl Fn(usize, usize) -> bool) -> u64 {
        let share = |axis: &Vec<Option<(usize, usize)>>| {
            let kept = axis.iter().filter(|c| c.is_none_or(|(group, channel)| stays(group, channel))).count();
            (kept as u64, axis.len() as u64)
        };
        let of = |p: &Product| {
            let (kept, all) = p.axes.iter().map(share).fold((1, 1), |a, b| (a.0 * b.0, a.1 * b.1));
            (u128::from(p.flop) * u128::from(kept) / u128::from(all.max(1))) as u64
        };
        self.products.iter().map(of).sum()
    }
}

/// Multiplications and additions of the convolutions and products of matrices when a model answers one input of `x`: [n,
/// ..]. Counted in the graph, by the formula of each op; nothing is computed.
///
/// # Errors
/// If the model does not take such an input.
pub fn flop(model: &dyn Layer, params: &Params, x: &Tensor) -> Result<u64, Error> {
    let n = x.dims().first().copied().unwrap_or(1).max(1);
    let mut total = 0;
    visit(&model.forward(params, x)?, |t, op, inputs| {
        let specs: Vec<_> = inputs.iter().map(|i| i.spec().clone()).collect();
        total += op.flop(&specs, std::slice::from_ref(t.spec()));
    });
    Ok(total / n as u64)
}

/// Shows every node that `end` needs and that has no value yet, inputs first.
pub(super) fn visit(end: &Tensor, mut show: impl FnMut(&Tensor, &dyn acclimate_tensor::Op, &[Tensor])) {
    let mut seen = std::collections::HashSet::new();
    let mut stack = vec![(end.clone(), false)];
    while let Some((t, inputs_done)) = stack.pop() {
        let Some((op, inputs)) = t.recipe() else { continue };
        if inputs_done {
            show(&t, &*op, &inputs);
        } else if seen.insert(t.id()) {
            stack.push((t, true));
            stack.extend(inputs.into_iter().map(|i| (i, false)));
        }
    }
}

/// For each weight of a linear map or convolution the input that it is multiplied with: the Euclidean norm, over all rows
/// (and pixels) of `x`, of each input feature. In the order of the weight's axis 1.
///
/// # Errors
/// If the model does not take such an input or computing fails.
pub fn input_norms(model: &dyn Layer, params: &Params, x: &Tensor) -> Result<BTreeMap<String, Vec<f32>>, Error> {
    let mut pass = Pass::infer().with_products();
    model.apply(params, x, &mut pass)?;
    let mut norms = BTreeMap::new();
    for product in pass.take_products() {
        // Features are axis 1 of images, else the last.
        let rank = product.x.dims().len();
        let features = if product.sliding.is_some() { 1 } else { rank.saturating_sub(1) };
        let others: Vec<isize> =
            (0isize..).zip(0..rank).filter(|(_, axis)| *axis != features).map(|(a, _)| a).collect();
        norms.insert(product.path, product.x.square()?.sum(&others)?.sqrt()?.to_vec::<f32>()?);
    }
    Ok(norms)
}
