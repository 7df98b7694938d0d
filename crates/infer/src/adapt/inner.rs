//! One inner step, which everything that learns while it answers shares: adaptation, online learning, meta-learning.

use acclimate_tensor::{Tensor, Tree, grad};
use acclimate_train::optim::{Movable, Optimizer, State, StepCx};

use crate::error::Error;

/// How far gradients see through a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The step's own gradient counts as given (Finn, Abbeel, Levine 2017 call it first order).
    First,
    /// Through the gradient as well: gradients of gradients.
    Second,
}

/// Lowers `objective`, a scalar that depends on `theta`, by one step, recorded: parameters and state after it. `rate` is
/// [1], or one for each parameter.
pub(crate) fn inner_step<P: Movable + Tree + Clone>(
    optimizer: &Optimizer,
    objective: &Tensor,
    theta: P,
    state: State,
    rate: &Tensor,
    order: Order,
) -> Result<(P, State), Error> {
    let gradient = grad(objective, theta.clone())?;
    let gradient = match order {
        Order::First => gradient.flat().detach()?,
        Order::Second => gradient.flat().clone(),
    };
    take_step(optimizer, objective, &gradient, theta, state, rate)
}

/// The step along a gradient of `objective` that was made elsewhere.
pub(crate) fn take_step<P: Movable + Tree + Clone>(
    optimizer: &Optimizer,
    objective: &Tensor,
    gradient: &Tensor,
    theta: P,
    state: State,
    rate: &Tensor,
) -> Result<(P, State), Error> {
    let cx = StepCx::new(rate).with_loss(objective);
    Ok(optimizer.step(theta, gradient, state, &cx)?)
}
