//! What runs on the device: a block of slots, each of which learns one label and then answers one input, recorded as one
//! graph. What has no label or no input in its slot is held back by `select`.

use std::sync::Arc;

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{Compiled, DType, Tensor, compile, grad};
use acclimate_train::optim::State;
use acclimate_train::{Layer, Params};

use super::learner::Method;
use super::loss::Loss;
use crate::adapt::driver::all_finite;
use crate::adapt::inner::{Order, inner_step};
use crate::error::Error;

/// Parameters and state before a block, and the block.
pub(super) type In = (Params, State, Block);
/// What is read, and parameters and state after the block.
pub(super) type Out = (Tensor, (Params, State));

/// Inputs to learn from [slots, rows, ..], their labels and whether they are there (1 or 0) [slots, rows], the rate of
/// each slot's step \[slots\], inputs to answer [slots, ..].
pub(super) type Block = (Tensor, Tensor, Tensor, Tensor, Tensor);

/// Learns and answers a block. The read is all outputs [slots, outputs], then whether each slot's label was learned:
/// not if loss or parameters would have become infinite or not a number.
pub(super) fn scan(model: Arc<dyn Layer>, method: Arc<Method>) -> Compiled<In, Out, Error> {
    compile(move |(params, state, (rows, labels, there, rates, inputs)): In| {
        let (mut params, mut state) = (params, state);
        let slots = inputs.dims()[0];
        let (mut outputs, mut learned) = (Vec::new(), Vec::new());
        for slot in 0..slots {
            let row = |t: &Tensor| t.narrow(0, slot, 1)?.squeeze(0);
            let (x, y, there) = (row(&rows)?, row(&labels)?, row(&there)?);
            let valid = there.gt(&there.zeros_like()?)?;
            let each = method.loss.rows(&model.forward(&params, &x)?, &y)?;
            let count = there.sum(&[])?;
            let total = valid.select(&each, &each.zeros_like()?)?.sum(&[])?;
            let loss = total.div(&count.maximum(&count.ones_like()?)?)?;
            let rate = rates.narrow(0, slot, 1)?;
            let (next, next_state) =
                inner_step(&method.optimizer, &loss, params.clone(), state.clone(), &rate, Order::First)?;
            let step = all_finite(&[&loss, next.arena()])?.and(&count.gt(&count.zeros_like()?)?)?;
            let arena = step.broadcast_to(next.arena().shape())?.select(next.arena(), params.arena())?;
            params = params.with_arena(arena)?;
            state = next_state.held_back(&step, &state)?;
            learned.push(step.cast(DType::F32)?.reshape(&[1])?);
            let output = model.forward(&params, &inputs.narrow(0, slot, 1)?)?;
            outputs.push(output.reshape(&[output.numel()])?);
        }
        outputs.extend(learned);
        let report = concat(&outputs.iter().collect::<Vec<_>>(), 0)?;
        Ok::<_, Error>((report, (params, state)))
    })
}

/// Answers rows without learning: [n, ..] → [n · outputs].
pub(super) fn answers(model: Arc<dyn Layer>) -> Compiled<(Params, Tensor), Tensor, Error> {
    compile(move |(params, inputs): (Params, Tensor)| {
        let output = model.forward(&params, &inputs)?;
        Ok::<_, Error>(output.reshape(&[output.numel()])?)
    })
}

/// The diagonal of the Fisher information: the mean over rows of each row's squared gradient, over the labels that the
/// model itself expects. Losses that are no likelihoods (hinge, insensitive) take the labels that came.
pub(super) fn fisher(
    model: &dyn Layer,
    method: &Method,
    params: &Params,
    rows: &Tensor,
    labels: &Tensor,
) -> Result<Tensor, Error> {
    let n = labels.numel();
    // The parameters belong to every row, so that each row has a gradient of its own.
    let own = params.arena().repeat_leading(n)?;
    let squares = vmap_with(
        |(theta, x, y): (Tensor, Tensor, Tensor)| {
            let output = model.forward(&params.with_arena(theta.clone())?, &x.unsqueeze(0)?)?;
            let square = |label: &Tensor| {
                let loss = method.loss.rows(&output, &label.reshape(&[1])?)?.sum(&[])?;
                Ok::<_, Error>(grad(&loss, theta.clone())?.square()?)
            };
            let weighted = |probability: Tensor, square: Tensor| {
                Ok::<_, Error>(probability.reshape(&[1])?.broadcast_to(square.shape())?.mul(&square)?)
            };
            match method.loss {
                Loss::Logistic => {
                    let p = output.sigmoid()?;
                    let yes = weighted(p.clone(), square(&y.ones_like()?)?)?;
                    Ok(yes.add(&weighted(p.neg()?.add_scalar(1.0)?, square(&y.zeros_like()?)?)?)?)
                }
                Loss::CrossEntropy => {
                    let p = output.softmax(1)?;
                    let mut sum = theta.zeros_like()?;
                    for class in 0..p.numel() {
                        let square = square(&y.full_like(class as f32)?)?;
                        sum = sum.add(&weighted(p.narrow(1, class, 1)?, square)?)?;
                    }
                    Ok(sum)
                }
                // (x − y)² is −ln of a normal density with variance ½, whose information about x is 2.
                Loss::Squared => Ok(grad(&output.sum(&[])?, theta.clone())?.square()?.mul_scalar(2.0)?),
                Loss::Hinge | Loss::Insensitive(_) => square(&y),
            }
        },
        (own, rows.clone(), labels.clone()),
    )?;
    Ok(squares.sum(&[0])?.mul_scalar(1.0 / n as f32)?)
}
