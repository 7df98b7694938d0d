//! Reverse-mode differentiation: a walk over the graph that records more graph. Gradients of gradients come for free.

use std::collections::{HashMap, HashSet};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Core, GradCx, View};
use crate::tensor::{OnBehalf, Tensor};
use crate::transform::tree::Tree;

/// Gradients of a one-element loss with respect to `wrt`, in the same structure. Where the loss does not depend on a
/// tensor, its gradient is zero. Fails if the loss was read before (its history is gone then) or has more elements.
pub fn grad<T: Tree>(loss: &Tensor, wrt: T) -> Result<T> {
    if loss.numel() != 1 {
        let found = format!("shape {}", loss.shape());
        return Err(Error::shape("grad", "a loss of one element (sum it, or use grad_with)", found));
    }
    loss.spec().require_dtype("grad", DType::F32)?;
    grad_with(&[(loss.clone(), loss.ones_like()?)], wrt)
}

/// The vector-Jacobian product: gradients of Σ ⟨y, dy⟩ over the pairs.
pub fn grad_with<T: Tree>(outputs: &[(Tensor, Tensor)], wrt: T) -> Result<T> {
    let mut targets = Vec::new();
    let form = wrt.take_apart(&mut targets);
    for (y, dy) in outputs {
        if y.shape() != dy.shape() {
            return Err(Error::shape("grad", format!("an upstream of shape {}", y.shape()), format!("{}", dy.shape())));
        }
    }
    let grads = gradients(outputs, &targets)?;
    T::put_together(&form, &mut grads.into_iter())
}

/// What has flowed into one output of a node.
#[derive(Default)]
struct Inflow {
    total: Option<Tensor>,
    /// Gradients of rank-1 slices, kept apart to be written at their offsets: (offset, gradient).
    pieces: Vec<(usize, Tensor)>,
}

impl Inflow {
    fn add(&mut self, dy: Tensor) -> Result<()> {
        self.total = Some(match self.total.take() {
            // Halves are added as f32 and rounded once.
            Some(t) => t.cast(DType::F32)?.add(&dy.cast(DType::F32)?)?.cast(dy.dtype())?,
            None => dy,
        });
        Ok(())
    }

    /// The sum of all. Pieces that do not overlap are assembled; overlapping ones are padded and added.
    fn settle(mut self, like: &Tensor) -> Result<Option<Tensor>> {
        let len = like.numel();
        self.pieces.sort_by_key(|p| p.0);
        let mut layer: Vec<(usize, Tensor)> = Vec::new();
        let mut rest = Vec::new();
        let mut end = 0;
        for (offset, piece) in std::mem::take(&mut self.pieces) {
            if offset >= end {
                end = offset + piece.numel();
                layer.push((offset, piece));
            } else {
                rest.push((offset, piece));
            }
        }
        if !layer.is_empty() {
            let offsets: Vec<usize> = layer.iter().map(|p| p.0).collect();
            let pieces: Vec<&Tensor> = layer.iter().map(|p| &p.1).collect();
            self.add(Tensor::assemble(&pieces, &offsets, len)?)?;
        }
        for (offset, piece) in rest {
            let n = piece.numel();
            self.add(piece.pad(&[(offset, len - offset - n)])?)?;
        }
        Ok(self.total)
    }
}

/// The start of a rank-1 slice with step 1.
fn plain_slice(op: &dyn crate::op::Op) -> Option<usize> {
    match op.core()? {
        Core::View(View::Slice { start, step, len }) if len.len() == 1 && step[0] == 1 && len[0] > 0 => Some(start[0]),
        _ => None,
    }
}

fn gradients(outputs: &[(Tensor, Tensor)], targets: &[Tensor]) -> Result<Vec<Tensor>> {
    let target_ids: HashSet<u64> = targets.iter().map(|t| t.node.id).collect();
    let (order, lost_history) = toposort(outputs, &target_ids);
    // Only nodes between the targets and the loss take part.
    let mut on_path = target_ids.clone();
    for (t, inputs) in &order {
        if inputs.iter().any(|i| on_path.contains(&i.node.id)) {
            on_path.insert(t.node.id);
        }
    }
    let mut flows: HashMap<(u64, usize), Inflow> = HashMap::new();
    for (y, dy) in outputs {
        flows.entry((y.node.id, y.out)).or_default().add(dy.clone())?;
    }
    let mut found: HashMap<(u64, usize), Tensor> = HashMap::new();
    for (tensor, inputs) in order.iter().rev() {
        let node = &tensor.node;
        if !on_path.contains(&node.id) {
            continue;
        }
        let outs: Vec<Tensor> = (0..node.specs.len()).map(|out| Tensor { node: node.clone(), out }).collect();
        let mut upstream = Vec::with_capacity(outs.len());
        for out in &outs {
            upstream.push(match flows.remove(&(node.id, out.out)) {
                Some(flow) => flow.settle(out)?,
                None => None,
            });
        }
        for (out, dy) in outs.iter().zip(&upstream) {
            if let (true, Some(dy)) = (target_ids.contains(&node.id), dy) {
                found.insert((node.id, out.out), dy.clone());
            }
        }
        if inputs.iter().all(|i| !on_path.contains(&i.node.id)) || upstream.iter().all(Option::is_none) {
            continue;
        }
        let Some((op, _)) = tensor.recipe() else { continue };
        if let (Some(start), Some(dy)) = (plain_slice(&*op), &upstream[0]) {
            let x = &inputs[0];
            flows.entry((x.node.id, x.out)).or_default().pieces.push((start, dy.clone()));
            continue;
        }
        let _at = OnBehalf::of(&tensor.node);
        let grads = op.grad(&GradCx { inputs, outputs: &outs, upstream: &upstream })?;
        for (x, dx) in inputs.iter().zip(grads) {
            if let (Some(dx), true) = (dx, on_path.contains(&x.node.id)) {
                if dx.shape() != x.shape() {
                    let what = format!("gradient of shape {} for an input of shape {}", dx.shape(), x.shape());
                    return Err(Error::internal(op.name(), what));
                }
                flows.entry((x.node.id, x.out)).or_default().add(dx)?;
            }
        }
    }
    targets
        .iter()
        .map(|t| match found.get(&(t.node.id, t.out)) {
            Some(g) => Ok(g.clone()),
            None if lost_history => Err(Error::argument(
                "grad",
                "loss",
                "a loss whose history is still there",
                "one that depends on a value that was read before; take the gradient first, then read",
            )),
            None => t.zeros_like(),
        })
        .collect()
}

/// Pending nodes and targets, inputs first, each with its inputs; and whether some computed value without history was
/// met that is no target.
fn toposort(outputs: &[(Tensor, Tensor)], targets: &HashSet<u64>) -> (Vec<(Tensor, Vec<Tensor>)>, bool) {
    let mut order = Vec::new();
    let mut lost = false;
    let mut seen: HashSet<u64> = HashSet::new();
    let mut stack: Vec<(Tensor, Option<Vec<Tensor>>)> = outputs.iter().map(|(y, _)| (y.clone(), None)).collect();
    while let Some((tensor, inputs)) = stack.pop() {
        if let Some(inputs) = inputs {
            order.push((tensor, inputs));
            continue;
        }
        if !seen.insert(tensor.node.id) {
            continue;
        }
        match tensor.recipe() {
            // Nothing before a target matters to it alone, but other targets may lie there.
            Some((_, inputs)) => {
                stack.push((tensor, Some(inputs.clone())));
                stack.extend(inputs.into_iter().map(|i| (i, None)));
            }
            None => {
                use crate::tensor::State;
                let computed = matches!(&*tensor.node.state(), State::Ready { computed: true, .. });
                lost |= computed && !targets.contains(&tensor.node.id);
                if targets.contains(&tensor.node.id) {
                    order.push((tensor, Vec::new()));
                }
            }
        }
    }
    (order, lost)
}
