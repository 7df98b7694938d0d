//! The files of a checkpoint: safetensors named by their hash, and a manifest that is replaced in one rename.
//!
//! A save writes new files beside the old ones and flushes them, then renames the new manifest over the old one, then
//! removes what the old one named. Whenever the power fails, the folder holds one whole checkpoint: the old or the new.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::params::Named;

pub(super) const MANIFEST: &str = "manifest.json";
const FORMAT: &str = "acclimate checkpoint";
const VERSION: u32 = 1;

/// What the manifest says about one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// File name in the folder.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes.
    pub blake3: String,
    /// Shape of each tensor in it, by name, in order.
    pub shapes: Vec<(String, Vec<usize>)>,
}

/// The manifest: everything but the values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `acclimate checkpoint`.
    pub format: String,
    /// Version of this layout.
    pub version: u32,
    /// Version of the crate that wrote it.
    pub written_by: String,
    /// Steps done.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Hash of the parameters' values, in path order, without padding.
    pub parameters_hash: String,
    /// Parameters.
    pub parameters: Part,
    /// Buffers, such as running statistics.
    pub buffers: Part,
    /// What the optimizer remembers.
    pub optimizer: Part,
    /// Where the run stands: schedule, convergence, history.
    pub run: serde_json::Value,
}

impl Manifest {
    /// With the head filled in.
    pub(super) fn new(step: u64, seed: u64, hash: String, parts: [Part; 3], run: serde_json::Value) -> Self {
        let [parameters, buffers, optimizer] = parts;
        let (format, written_by) = (FORMAT.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Self {
            format,
            version: VERSION,
            written_by,
            step,
            seed,
            parameters_hash: hash,
            parameters,
            buffers,
            optimizer,
            run,
        }
    }

    pub(super) fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(CheckpointError::read(&path))?;
        let malformed = |e: serde_json::Error| CheckpointError::format(&path, "a checkpoint's manifest", e);
        // Format and version first: another version may have other fields.
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(malformed)?;
        if value.get("format").and_then(|f| f.as_str()) != Some(FORMAT) {
            return Err(CheckpointError::format(&path, format!("the format `{FORMAT}`"), "another one"));
        }
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            found => {
                let found = found.map_or("none".to_owned(), |v| v.to_string());
                return Err(CheckpointError::format(&path, format!("version {VERSION}"), found));
            }
        }
        serde_json::from_value(value).map_err(malformed)
    }

    /// Replaces the manifest in one step, and removes files that nothing names any more.
    pub(super) fn write(&self, folder: &Path) -> Result<(), CheckpointError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| CheckpointError::format(&path, "numbers and names that fit into JSON", e))?;
        replace(&path, &text)?;
        let named = [&self.parameters.file, &self.buffers.file, &self.optimizer.file];
        for entry in fs::read_dir(folder).map_err(CheckpointError::read(folder))?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_part(name) && !named.iter().any(|n| *n == name) {
                // What is left behind does no harm, and the next save tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// A name that [`write`] makes: the files of others in the folder are not touched.
fn is_part(name: &str) -> bool {
    let hash = ["parameters-", "buffers-", "optimizer-"].iter().find_map(|p| name.strip_prefix(p));
    hash.and_then(|rest| rest.strip_suffix(".safetensors"))
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// f32 values as safetensors writes them.
struct Values<'a> {
    dims: &'a [usize],
    bytes: Vec<u8>,
}

impl View for Values<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        self.dims
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes one part as `<kind>-<hash>.safetensors`.
pub(super) fn write(folder: &Path, kind: &str, tensors: &[Named]) -> Result<Part, CheckpointError> {
    let bytes_of = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let views = tensors.iter().map(|(name, dims, values)| (name, Values { dims, bytes: bytes_of(values) }));
    let bytes = serialize(views, None)
        .map_err(|e| CheckpointError::format(folder, "tensors that fit into a safetensors file", e))?;
    let blake3 = blake3::hash(&bytes).to_hex().to_string();
    let file = format!("{kind}-{}.safetensors", blake3.get(..16).unwrap_or(&blake3));
    replace(&folder.join(&file), &bytes)?;
    let shapes = tensors.iter().map(|(name, dims, _)| (name.clone(), dims.clone())).collect();
    Ok(Part { file, bytes: bytes.len() as u64, blake3, shapes })
}

/// Reads one part and checks size, hash, names and shapes against the manifest.
pub(super) fn read(folder: &Path, part: &Part) -> Result<Vec<Named>, CheckpointError> {
    let path = folder.join(&part.file);
    if !is_part(&part.file) {
        let path = folder.join(MANIFEST);
        return Err(CheckpointError::format(&path, "the name of a checkpoint's file", &part.file));
    }
    let mut file = File::open(&path).map_err(CheckpointError::read(&path))?;
    let found = file.metadata().map_err(CheckpointError::read(&path))?.len();
    if found != part.bytes {
        return Err(CheckpointError::Size { path, expected: part.bytes, found });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(CheckpointError::read(&path))?;
    let found = blake3::hash(&bytes).to_hex().to_string();
    if found != part.blake3 {
        return Err(CheckpointError::Changed { path, expected: part.blake3.clone(), found });
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| CheckpointError::format(&path, "safetensors", e))?;
    if tensors.len() != part.shapes.len() {
        let expected = format!("{} tensors", part.shapes.len());
        return Err(CheckpointError::format(&path, expected, tensors.len()));
    }
    let one = |(name, dims): &(String, Vec<usize>)| {
        let view = tensors.tensor(name).map_err(|e| CheckpointError::format(&path, format!("a tensor `{name}`"), e))?;
        if view.dtype() != Dtype::F32 || view.shape() != dims {
            let found = format!("{} {:?}", view.dtype(), view.shape());
            return Err(CheckpointError::format(&path, format!("`{name}` as f32 {dims:?}"), found));
        }
        let values = view.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        Ok((name.clone(), dims.clone(), values))
    };
    part.shapes.iter().map(one).collect()
}

/// Writes a file so that its name stands for all of the content or for what it was before.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(source) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(CheckpointError::written(path)(source));
    }
    // The rename itself is on disk when the folder is; where folders cannot be opened there is nothing to flush.
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
    Ok(())
}
