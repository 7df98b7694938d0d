//! Weights in safetensors files, under PyTorch's names.
//!
//! Values are read from f32, f16 and bf16 and written as f32. PyTorch's counters `num_batches_tracked` are skipped.
//! What a file declares is compared with its size before anything is allocated.

use std::path::Path;

use acclimate_tensor::f16;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

use crate::error::{Error, Result};
use crate::params::{Named, Params};

/// Bytes of the number in front of the header.
const PREFIX: usize = 8;

/// The parameters of a file in the layout (paths, shapes, kinds, device) of `like`. Fails as [`read`] does, and on a
/// name that is unknown (the nearest is suggested), a missing one, or a shape that differs.
///
/// ```
/// use acclimate_tensor::Device;
/// use acclimate_train::{Layer, nn::zoo::CifarResNet, weights};
///
/// let start = CifarResNet::for_pixels(20, 10)?.init(&Device::cpu(), 0)?;
/// # let file = std::env::temp_dir().join(format!("acclimate-{}-resnet20.safetensors", std::process::id()));
/// weights::save(&file, &start)?;
/// let params = weights::load(&file, &start)?;
/// assert_eq!(params.to_named()?, start.to_named()?);
/// # std::fs::remove_file(&file).ok();
/// # Ok::<(), acclimate_train::Error>(())
/// ```
pub fn load(path: impl AsRef<Path>, like: &Params) -> Result<Params> {
    let path = path.as_ref();
    like.with_values(read(path)?, &path.display().to_string())
}

/// All tensors of a file, in its order. Fails if the file is missing, no safetensors file, truncated or too long, if
/// its offsets overlap or its sizes overflow, and on integers.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Named>> {
    let path = path.as_ref();
    let io = |source| Error::Io { path: path.to_owned(), action: "reading", source };
    parse(&std::fs::read(path).map_err(io)?, path)
}

/// Writes parameters and buffers as f32, in one step: a reader never sees half a file.
pub fn save(path: impl AsRef<Path>, params: &Params) -> Result<()> {
    let path = path.as_ref();
    let bytes = to_bytes(params)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let io = |source| Error::Io { path: path.to_owned(), action: "writing", source };
    std::fs::write(&temporary, bytes).map_err(io)?;
    std::fs::rename(&temporary, path).map_err(io)
}

/// Parameters and buffers as the bytes of a safetensors file.
pub fn to_bytes(params: &Params) -> Result<Vec<u8>> {
    let named = params.all_to_named()?;
    // Little-endian on every platform.
    let little = |(path, dims, values): Named| (path, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect());
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = named.into_iter().map(little).collect();
    let refused = |e: SafeTensorError| Error::argument("weights", "values that fill their shapes", e);
    let mut views = Vec::with_capacity(stored.len());
    for (path, dims, bytes) in &stored {
        views.push((path, TensorView::new(Dtype::F32, dims.clone(), bytes).map_err(refused)?));
    }
    safetensors::serialize(views, None).map_err(refused)
}

/// The tensors of a file's bytes; `path` is for error messages.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Named>> {
    check_sizes(bytes, path)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| describe(&e, path))?;
    let mut all: Vec<(&str, TensorView)> = tensors.iter().filter(|(name, _)| !is_counter(name)).collect();
    all.sort_by_key(|(_, view)| view.data().as_ptr());
    all.into_iter()
        .map(|(name, view)| Ok((name.to_owned(), view.shape().to_vec(), values(name, &view, path)?)))
        .collect()
}

fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

fn values(name: &str, view: &TensorView, path: &Path) -> Result<Vec<f32>> {
    let (pairs, quads) = (view.data().as_chunks::<2>().0, view.data().as_chunks::<4>().0);
    Ok(match view.dtype() {
        Dtype::F32 => quads.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => pairs.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        // The upper half of an f32.
        Dtype::BF16 => pairs.iter().map(|&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)).collect(),
        other => {
            let found = format!("`{name}` of type {other}");
            return Err(wrong(path, "values of type F32, F16 or BF16", found, "convert the file to f32"));
        }
    })
}

/// Compares what the header declares with the bytes there are. The library's own check adds up offsets that a file may
/// choose freely, so they are bounded first.
fn check_sizes(bytes: &[u8], path: &Path) -> Result<()> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(wrong(
            path,
            "a safetensors file, which has 8 bytes at least",
            found,
            "check that it is the right file",
        ));
    };
    let length = u64::from_le_bytes(*prefix);
    let header = usize::try_from(length).ok().and_then(|n| rest.get(..n));
    let Some(header) = header else {
        let expected = format!("a safetensors file with its header of {length} bytes");
        let remedy = "it is no safetensors file, or truncated; get it again";
        return Err(wrong(path, &expected, format!("a file of {} bytes", bytes.len()), remedy));
    };
    let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).map_err(|e| {
        wrong(path, "a safetensors header, which is JSON", e.to_string(), "check that it is the right file")
    })?;
    let n_data = rest.len() - header.len();
    for (name, entry) in parsed.iter().filter(|(name, _)| *name != "__metadata__") {
        let end = entry.get("data_offsets").and_then(|o| o.get(1)).and_then(serde_json::Value::as_u64);
        let Some(end) = end else {
            let remedy = "the file is damaged; get it again";
            return Err(wrong(path, &format!("two data offsets for `{name}`"), entry.to_string(), remedy));
        };
        if usize::try_from(end).ok().is_none_or(|end| end > n_data) {
            let expected = format!("{end} bytes of data, where `{name}` ends");
            return Err(wrong(path, &expected, format!("{n_data} bytes"), "the file is truncated; get it again"));
        }
    }
    Ok(())
}

fn describe(error: &SafeTensorError, path: &Path) -> Error {
    let (expected, found) = match error {
        SafeTensorError::InvalidOffset(name) => {
            ("tensors one behind the other".to_owned(), format!("`{name}` that overlaps another or leaves a gap"))
        }
        SafeTensorError::ValidationOverflow => {
            ("sizes that can be addressed".to_owned(), "a shape that overflows".to_owned())
        }
        SafeTensorError::TensorInvalidInfo => ("data of the size of its shape".to_owned(), "another size".to_owned()),
        SafeTensorError::MetadataIncompleteBuffer => {
            ("data up to the end of the file".to_owned(), "more or less data".to_owned())
        }
        other => ("a safetensors file".to_owned(), other.to_string()),
    };
    wrong(path, &expected, found, "the file is damaged; get it again")
}

fn wrong(path: &Path, expected: &str, found: String, remedy: &'static str) -> Error {
    Error::File { path: path.to_owned(), expected: expected.to_owned(), found, remedy }
}
