//! What can be wrong with a checkpoint. Nothing of a damaged one is used.

use std::path::{Path, PathBuf};

/// The error of [`crate::checkpoint`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{}: cannot be {action}: {source}; check the path, the permissions and the free space", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },

    /// The manifest or a file of tensors is not what it should be.
    #[error("{}: expected {expected}, found {found}; take another checkpoint", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A file is shorter or longer than the manifest says.
    #[error("{}: {}: expected {expected} bytes, found {found}; take another checkpoint", path.display(), if found < expected { "truncated" } else { "too long" })]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },

    /// A byte of a file has changed.
    #[error("{}: damaged: expected BLAKE3 {expected}, found {found}; take another checkpoint", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Hash by the manifest.
        expected: String,
        /// Hash of the file.
        found: String,
    },

    /// The checkpoint and the model or optimizer have different tensors.
    #[error(
        "checkpoint of step {step}: {what} `{name}`: expected {expected}, found {found}{}; load it into the model and optimizer that it was made with",
        hint(nearest)
    )]
    Tensor {
        /// The checkpoint's step.
        step: u64,
        /// `parameter`, `buffer` or `optimizer state`.
        what: &'static str,
        /// The tensor's name.
        name: String,
        /// What the model has.
        expected: String,
        /// What the checkpoint has.
        found: String,
        /// The name that looks most like it.
        nearest: Option<String>,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!(" (the nearest name there is `{name}`)"))
}

impl CheckpointError {
    pub(super) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| CheckpointError::Io { path, action: "read", source }
    }

    pub(super) fn written(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| CheckpointError::Io { path, action: "written", source }
    }

    pub(super) fn format(path: &Path, expected: impl Into<String>, found: impl ToString) -> Self {
        CheckpointError::Format { path: path.to_owned(), expected: expected.into(), found: found.to_string() }
    }
}
