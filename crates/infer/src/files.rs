//! Writing files so that a reader sees the old content or the new, never half of either.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// `path` with `suffix` behind its last character: `run/a.jsonl` and `.manifest.json` give `run/a.jsonl.manifest.json`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Creates the folder a file will lie in, and those above it.
pub(crate) fn create_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            fs::create_dir_all(parent).map_err(Error::io(parent, "create the folder"))
        }
        _ => Ok(()),
    }
}

/// Writes a file beside `path` and renames it over `path`. Folders above are created.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    // Two threads may write the same content-named file at once: the rename makes that harmless if the
    // temporary names differ.
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    create_parent(path)?;
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = with_suffix(path, &format!(".{}-{unique}.tmp", std::process::id()));
    let written = fs::write(&temporary, bytes)
        .map_err(Error::io(&temporary, "write"))
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io(path, "replace")));
    if written.is_err() {
        // The first error is the one to report; a file that was never created cannot be removed.
        fs::remove_file(&temporary).ok();
    }
    written
}
