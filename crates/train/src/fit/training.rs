//! A training on its way: everything that changes from step to step, in one value that can be saved.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::convergence::{Verdict, Watcher};
use super::history::History;
use super::stop::EarlyStop;
use crate::checkpoint::{self, Checkpoint, Manifest, Snapshot};
use crate::error::Result;
use crate::optim::{Optimizer, Rates, State};
use crate::params::Params;

/// Why a training ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ended {
    /// All epochs are done.
    Done,
    /// A rule of convergence (or divergence) fired.
    Verdict(Verdict),
    /// A metric had not become better for as long as was allowed.
    EarlyStop {
        /// The metric.
        metric: String,
        /// Its best value.
        best: f64,
        /// The epoch of the best value, from 0.
        epoch: u64,
    },
}

/// What changes while training: parameters, the optimizer's state, and where the run stands.
#[derive(Clone, Debug)]
pub struct Training {
    /// Parameters and buffers.
    pub params: Params,
    /// What the optimizer remembers.
    pub state: State,
    /// The rest.
    pub run: Run,
}

/// Where a run stands, without tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Steps done.
    pub step: u64,
    /// Looks and metrics so far.
    pub history: History,
    /// Why it ended, if it has.
    pub ended: Option<Ended>,
    pub(super) rates: Rates,
    pub(super) watcher: Watcher,
    pub(super) early: Option<EarlyStop>,
}

impl Training {
    /// Writes a checkpoint from which [`Training::load`] goes on bit for bit.
    ///
    /// # Errors
    /// As [`checkpoint::save`].
    pub fn save(&self, folder: impl AsRef<Path>, seed: u64) -> Result<Manifest> {
        let Training { params, state, run } = self;
        checkpoint::save(folder, &Snapshot { params, state, step: run.step, seed, run })
    }

    /// From a checkpoint, for the model whose fresh parameters are `like` and the optimizer that was used.
    ///
    /// # Errors
    /// As [`checkpoint::load`], and if model or optimizer do not fit.
    pub fn load(folder: impl AsRef<Path>, like: &Params, optimizer: &Optimizer) -> Result<Self> {
        let saved = checkpoint::load(folder)?;
        Training::from_checkpoint(&saved, like, optimizer)
    }

    /// The same from a checkpoint that was read already.
    ///
    /// # Errors
    /// If model or optimizer do not fit.
    pub fn from_checkpoint(saved: &Checkpoint, like: &Params, optimizer: &Optimizer) -> Result<Self> {
        let params = saved.params(like)?;
        let state = saved.state(&optimizer.init(like)?, like.device())?;
        Ok(Training { params, state, run: saved.run()? })
    }
}
