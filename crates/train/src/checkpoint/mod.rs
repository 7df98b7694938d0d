//! Checkpoints: a folder with parameters, buffers and optimizer state as safetensors, and a manifest with hashes, shapes,
//! step and seed. Saving is atomic; a run that is resumed on the same device goes on bit for bit.

mod error;
mod files;

use std::path::{Path, PathBuf};

use acclimate_tensor::{Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::CheckpointError;
pub use files::{Manifest, Part};

use crate::data::nearest;
use crate::error::Result;
use crate::optim::State;
use crate::params::{Named, Params};

/// What a checkpoint is made of.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a, R: Serialize = ()> {
    /// Parameters and buffers.
    pub params: &'a Params,
    /// What the optimizer remembers.
    pub state: &'a State,
    /// Steps done.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Where the run stands, to go on from there.
    pub run: R,
}

/// Writes a checkpoint into `folder`, in place of the one that may be there. Reads the values from the device.
///
/// # Errors
/// If a value cannot be read back, or [`CheckpointError::Io`]; the old checkpoint is whole then.
pub fn save<R: Serialize>(folder: impl AsRef<Path>, snapshot: &Snapshot<'_, R>) -> Result<Manifest> {
    let folder = folder.as_ref();
    let Snapshot { params, state, step, seed, run } = snapshot;
    let optimizer = state.iter().map(|(name, t)| Ok((name.to_owned(), t.dims().to_vec(), t.to_vec::<f32>()?)));
    let optimizer = optimizer.collect::<Result<Vec<Named>>>()?;
    let (parameters, buffers) = (params.to_named()?, params.buffers_to_named()?);
    let run = serde_json::to_value(run).map_err(|e| CheckpointError::format(folder, "a run that fits into JSON", e))?;
    std::fs::create_dir_all(folder).map_err(CheckpointError::written(folder))?;
    let parts = [
        files::write(folder, "parameters", &parameters)?,
        files::write(folder, "buffers", &buffers)?,
        files::write(folder, "optimizer", &optimizer)?,
    ];
    let manifest = Manifest::new(*step, *seed, params.hash()?, parts, run);
    manifest.write(folder)?;
    Ok(manifest)
}

/// A checkpoint, read and checked, on the host.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    /// Step, seed, hashes.
    pub manifest: Manifest,
    /// Parameters.
    pub parameters: Vec<Named>,
    /// Buffers.
    pub buffers: Vec<Named>,
    /// What the optimizer remembers.
    pub optimizer: Vec<Named>,
}

/// Reads the checkpoint in `folder` and checks each file's size and hash before it is parsed.
///
/// # Errors
/// [`CheckpointError`] for a missing, truncated or changed file, or a manifest that is none.
pub fn load(folder: impl AsRef<Path>) -> Result<Checkpoint> {
    let folder = folder.as_ref();
    let manifest = Manifest::read(folder)?;
    Ok(Checkpoint {
        folder: folder.to_owned(),
        parameters: files::read(folder, &manifest.parameters)?,
        buffers: files::read(folder, &manifest.buffers)?,
        optimizer: files::read(folder, &manifest.optimizer)?,
        manifest,
    })
}

impl Checkpoint {
    /// The parameters and buffers, on the device and with the names and shapes of `like`, the model's own.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] for a name or shape that differs, with the nearest name.
    pub fn params(&self, like: &Params) -> Result<Params> {
        let step = self.manifest.step;
        same_names(step, "parameter", &shapes(&like.to_named()?), &self.parameters)?;
        same_names(step, "buffer", &shapes(&like.buffers_to_named()?), &self.buffers)?;
        let named = self.parameters.iter().chain(&self.buffers).cloned().collect();
        like.with_values(named, "the checkpoint")
    }

    /// The optimizer's state, on `device`, with the names and shapes of `like`, which the optimizer's `init` made.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] for a name or shape that differs.
    pub fn state(&self, like: &State, device: &Device) -> Result<State> {
        let expected: Vec<_> = like.iter().map(|(name, t)| (name.to_owned(), t.dims().to_vec())).collect();
        same_names(self.manifest.step, "optimizer state", &expected, &self.optimizer)?;
        let mut state = State::new();
        for (name, dims, values) in &self.optimizer {
            state = state.with(name.clone(), Tensor::from_slice(device, values, dims)?);
        }
        Ok(state)
    }

    /// Where the run stood, as the loop that saved it wrote it.
    ///
    /// # Errors
    /// [`CheckpointError::Format`] if another kind of loop wrote it.
    pub fn run<R: DeserializeOwned>(&self) -> Result<R> {
        let malformed = |e| CheckpointError::format(&self.folder.join(files::MANIFEST), "the state of such a run", e);
        Ok(serde_json::from_value(self.manifest.run.clone()).map_err(malformed)?)
    }
}

fn shapes(named: &[Named]) -> Vec<(String, Vec<usize>)> {
    named.iter().map(|(name, dims, _)| (name.clone(), dims.clone())).collect()
}

/// Names and shapes must be the same; the order is the checkpoint's.
fn same_names(
    step: u64,
    what: &'static str,
    expected: &[(String, Vec<usize>)],
    found: &[Named],
) -> std::result::Result<(), CheckpointError> {
    let error = |name: &str, expected: String, found: String, nearest: Option<String>| {
        Err(CheckpointError::Tensor { step, what, name: name.to_owned(), expected, found, nearest })
    };
    for (name, dims, _) in found {
        match expected.iter().find(|(n, _)| n == name) {
            Some((_, wanted)) if wanted == dims => {}
            Some((_, wanted)) => return error(name, format!("shape {wanted:?}"), format!("shape {dims:?}"), None),
            None => {
                let nearest = nearest(name, expected.iter().map(|(n, _)| n.as_str()));
                return error(name, "no such name".to_owned(), format!("shape {dims:?}"), nearest);
            }
        }
    }
    for (name, dims) in expected {
        if !found.iter().any(|(n, ..)| n == name) {
            let nearest = nearest(name, found.iter().map(|(n, ..)| n.as_str()));
            return error(name, format!("shape {dims:?}"), "none".to_owned(), nearest);
        }
    }
    Ok(())
}
