//! When the state goes back to its initial values.

use acclimate_tensor::Tensor;
use serde::Serialize;

use super::state::Carried;
use crate::error::Error;

/// When the overlay goes back to zeros, and everything else with it. (That loss, overlay and answer are finite is always
/// checked.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// After every input: inputs cannot influence each other.
    PerInput,
    /// After so many batches.
    Every(u64),
    /// After so many updates; a batch of which nothing was kept is none.
    EveryUpdates(u32),
    /// Never.
    Never,
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
