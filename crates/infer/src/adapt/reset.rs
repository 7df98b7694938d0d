//! When the state goes back to its initial values.

use acclimate_kernels::TensorOps;
use acclimate_tensor::{DType, Tensor};
use acclimate_train::loss;
use serde::Serialize;

use super::state::Carried;
use crate::error::Error;

/// When the overlay goes back to zeros, and everything else with it. (That loss, overlay and answer are finite is always
/// checked.)
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// After every input: inputs cannot influence each other.
    PerInput,
    /// After so many batches.
    Every(u64),
    /// After so many updates; a batch of which nothing was kept is none.
    EveryUpdates(u32),
    /// When the batch's mean prediction gets surer than its running level: the later parameters go back to the source, the
    /// more of them the further it fell, and the optimizer with them (ASR).
    Selective {
        /// The level begins, and begins again, at ln of this share of the classes: 0.5.
        first: f32,
    },
    /// Never.
    Never,
}

/// The running level of [`Reset::Selective`], f32 `[1]`.
pub(super) const LEVEL: &str = "mean_entropy_level";

/// The first level: ln of a share of the classes.
pub(super) fn first_level(first: f32, classes: usize) -> f32 {
    (first * classes as f32).ln()
}

/// What [`Reset::Selective`] decided.
pub(super) struct Selected {
    /// Whether to reset: bool `[1]`.
    pub due: Tensor,
    /// The entropy of the batch's mean logits, and the level it is compared with: f32 `[1]` each.
    pub entropy: Tensor,
    pub level: Tensor,
}

/// The state after [`Reset::Selective`] looked at logits of the model as it was and of the source, both [n, c]. `fresh`: the
/// initial state; `positions`: number of its tensor for each element of Δ, of `count`, in the order of the network.
pub(super) fn select(
    state: Carried,
    fresh: &Carried,
    first: f32,
    [logits, source]: [&Tensor; 2],
    positions: &Tensor,
    count: usize,
) -> Result<(Carried, Selected), Error> {
    let classes = logits.dims()[1];
    let logits = logits.detach()?;
    let entropy = loss::entropy(&logits.mean_keep(&[0])?)?;
    let flipped = logits.argmax(1)?.ne(&source.argmax(1)?)?.cast(DType::F32)?.mean_keep(&[0])?;
    let level = state.memory(LEVEL)?.clone();
    let due = entropy.lt(&level)?;
    let keep = flipped.mul_scalar(0.15)?.add_scalar(0.85)?;
    let drawn = level.mul(&keep)?.add(&entropy.mul(&keep.neg()?.add_scalar(1.0)?)?)?;
    let next = due.select(&level.full_like(first_level(first, classes))?, &drawn)?;
    // The first tensors, a share of at most one half of them, stay as they are.
    let share = level.sub(&entropy)?.mul_scalar(-20.0)?.add_scalar(0.5)?.relu()?.mul_scalar(count as f32)?;
    let stays = positions.add_scalar(1.0)?.le(&share)?;
    let delta = stays.select(state.delta(), &state.delta().zeros_like()?)?;
    let reset = state.clone().stepped(delta, fresh.optimizer().clone());
    let state = reset.or_old(&due, &state)?.remember(LEVEL, next);
    Ok((state, Selected { due, entropy, level }))
}

/// Where [`Reset::EveryUpdates`] counts: f32 `[1]`.
pub(super) const UPDATES: &str = "updates";

impl Reset {
    /// Counts an update; with it, whether a reset is due (bool `[1]`).
    pub(super) fn count(self, state: Carried) -> Result<(Carried, Option<Tensor>), Error> {
        let Reset::EveryUpdates(n) = self else { return Ok((state, None)) };
        let updates = state.memory(UPDATES)?.add_scalar(1.0)?;
        let due = updates.ge(&updates.full_like(n as f32)?)?;
        Ok((state.remember(UPDATES, updates), Some(due)))
    }
}
