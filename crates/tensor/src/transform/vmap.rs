//! `vmap`: a function written for one input becomes one for each input of a batch, by each op's batching rule.

use std::collections::HashMap;
use std::panic::Location;

use crate::error::{Error, Result};
use crate::op::{BatchCx, Batched};
use crate::shape::{Shape, Spec};
use crate::tensor::{OnBehalf, Tensor};
use crate::transform::tree::Tree;

/// Runs `f`, written for one input, for each input along the leading axis of every tensor of `args`. Tensors that `f`
/// captures are the same for each input. Results have a leading axis of the batch's size. Errors inside `f` speak of
/// per-input shapes. Fails on an empty batch or leading sizes that differ.
///
/// Frostig, Johnson, Leary 2018 (JAX) made the idea known.
#[track_caller]
pub fn vmap<A: Tree, O: Tree>(f: impl FnOnce(A) -> Result<O>, args: A) -> Result<O> {
    vmap_with(f, args)
}

/// As [`vmap`], for functions with an error of their own.
#[track_caller]
pub fn vmap_with<A: Tree, O: Tree, E: From<Error>>(
    f: impl FnOnce(A) -> std::result::Result<O, E>,
    args: A,
) -> std::result::Result<O, E> {
    let at = Location::caller();
    let mut inputs = Vec::new();
    let form = args.take_apart(&mut inputs);
    let n = leading_size(&inputs)?;
    let mut holes = Vec::with_capacity(inputs.len());
    for t in &inputs {
        let spec = Spec::new(Shape::new(&t.dims()[1..])?, t.dtype());
        holes.push(Tensor::placeholder(spec, t.device(), at));
    }
    let args = A::put_together(&form, &mut holes.clone().into_iter())?;
    let mut outputs = Vec::new();
    let form = f(args)?.take_apart(&mut outputs);
    let outputs = push_batch(&outputs, &holes, inputs, n)?;
    Ok(O::put_together(&form, &mut outputs.into_iter())?)
}

fn leading_size(inputs: &[Tensor]) -> Result<usize> {
    let mut n = None;
    for t in inputs {
        let size =
            *t.dims().first().ok_or_else(|| Error::shape("vmap", "a leading axis on every input", "a scalar"))?;
        if *n.get_or_insert(size) != size {
            let expected = format!("leading axes of {}", n.unwrap_or(0));
            return Err(Error::shape("vmap", expected, format!("shape {}", t.shape())));
        }
    }
    match n {
        Some(0) => Err(Error::shape("vmap", "at least one input", "an empty batch")),
        Some(n) => Ok(n),
        None => Err(Error::shape("vmap", "at least one tensor to map over", "none")),
    }
}

/// Rewrites the graph of `outputs` with the batch in place of the holes.
fn push_batch(outputs: &[Tensor], holes: &[Tensor], inputs: Vec<Tensor>, n: usize) -> Result<Vec<Tensor>> {
    let mut done: HashMap<u64, Option<Vec<Tensor>>> = HashMap::new(); // None: does not depend on the batch
    for (hole, input) in holes.iter().zip(inputs) {
        done.insert(hole.node.id, Some(vec![input]));
    }
    let mut stack: Vec<(Tensor, bool)> = outputs.iter().map(|t| (t.clone(), false)).collect();
    while let Some((tensor, ready)) = stack.pop() {
        let id = tensor.node.id;
        if done.contains_key(&id) {
            continue;
        }
        let Some((op, inputs)) = tensor.recipe() else {
            done.insert(id, None);
            continue;
        };
        if !ready {
            stack.push((tensor, true));
            stack.extend(inputs.iter().filter(|i| !done.contains_key(&i.node.id)).map(|i| (i.clone(), false)));
            continue;
        }
        let batched: Vec<Batched> = inputs
            .iter()
            .map(|i| match done.get(&i.node.id) {
                Some(Some(outs)) => Batched::Each(outs[i.out].clone()),
                _ => Batched::Shared(i.clone()),
            })
            .collect();
        if batched.iter().all(|b| matches!(b, Batched::Shared(_))) {
            done.insert(id, None);
            continue;
        }
        let _at = OnBehalf::of(&tensor.node);
        let outs = op.batch(&BatchCx { inputs: &batched, n })?;
        for (out, spec) in outs.iter().zip(&tensor.node.specs) {
            if out.shape() != &spec.shape.with_leading(n)? {
                let what = format!("batching rule gave {} for {n} times {spec}", out.spec());
                return Err(Error::internal(op.name(), what));
            }
        }
        done.insert(id, Some(outs));
    }
    outputs
        .iter()
        .map(|t| match done.get(&t.node.id) {
            Some(Some(outs)) => Ok(outs[t.out].clone()),
            _ => t.repeat_leading(n),
        })
        .collect()
}
