//! The one error type of this crate. A message says what, where, what was expected, what was found and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong in `acclimate-infer`. Every fallible function of the crate returns it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb: "read", "create", …
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A record of a receipt log is not what was written.
    #[error("{}: record {record}: {what}", path.display())]
    Corrupt {
        /// The log.
        path: PathBuf,
        /// Number of the record, from 0.
        record: usize,
        /// What does not hold.
        what: String,
    },
    /// A receipt log cannot be continued as it is.
    #[error("{}: cannot append to this log: {what}; {advice}", path.display())]
    CannotAppend {
        /// The log.
        path: PathBuf,
        /// What was found.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// A file other than a log is not of the form it claims.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// Two sizes that must agree do not.
    #[error("{what}: expected {expected}, found {found}")]
    Size {
        /// Which sizes.
        what: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A number is outside its domain, or not a number.
    #[error("{what} at position {position}: expected {expected}, found {found}")]
    Value {
        /// Which list of numbers.
        what: &'static str,
        /// Where in the list, from 0.
        position: usize,
        /// The domain.
        expected: String,
        /// The number, as text.
        found: String,
    },
    /// Something that needs at least one element got none.
    #[error("{what} is empty: give at least one")]
    Empty {
        /// What was empty.
        what: &'static str,
    },
    /// A value could not be written as JSON.
    #[error("cannot write {what} as JSON")]
    Encode {
        /// Which value.
        what: &'static str,
        /// What the serializer said.
        source: serde_json::Error,
    },
    /// An image could not be encoded.
    #[error("cannot encode an image of {width} x {height} as PNG")]
    Image {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// What the encoder said.
        source: png::EncodingError,
    },
    /// An adaptation method that contradicts itself or does not fit the model.
    #[error("method {method}: {what}; expected {expected}")]
    Method {
        /// The method's name.
        method: String,
        /// What is wrong.
        what: String,
        /// What would be right.
        expected: String,
    },
    /// Pruning that makes no sense or does not fit the network.
    #[error("pruning: {what}: expected {expected}, found {found}")]
    Prune {
        /// What is wrong.
        what: &'static str,
        /// What would be right.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A label for an input that waits for none.
    #[error("label for input {id}: {why}")]
    UnknownInput {
        /// The id the label came with.
        id: u64,
        /// Why there is nothing to learn from it.
        why: &'static str,
    },
    /// Computing failed.
    #[error(transparent)]
    Tensor(#[from] acclimate_tensor::Error),
    /// The model or its parameters failed.
    #[error(transparent)]
    Train(#[from] acclimate_train::Error),
    /// A queue has no room.
    #[error("the queue is full: {capacity} inputs wait; wait for an answer, or submit less often")]
    QueueFull {
        /// Inputs that it holds.
        capacity: usize,
    },
    /// A queue takes no more inputs, or ended before it answered this one.
    #[error("the queue is closed: {why}")]
    QueueClosed {
        /// Who closed it, or what ended it.
        why: &'static str,
    },
    /// An error that several callers share: what failed was one submission for all of them.
    #[error("{0}")]
    Shared(std::sync::Arc<Error>),
    /// A replay did not confirm every record.
    #[error("the receipts do not hold: {summary}")]
    ReplayFailed {
        /// How many records held and which did not, in words.
        summary: String,
    },
}

impl Error {
    /// Wraps an error of the operating system with the path and what was tried.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// Whether the device is gone. What is on the host is still there: see [`crate::Session::rebuild_on`].
    pub fn is_device_lost(&self) -> bool {
        match self {
            Self::Tensor(e) => e.is_device_lost(),
            Self::Train(e) => e.is_device_lost(),
            Self::Shared(e) => e.is_device_lost(),
            _ => false,
        }
    }

    /// Whether memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Tensor(e) => e.is_out_of_memory(),
            Self::Train(e) => e.is_out_of_memory(),
            Self::Shared(e) => e.is_out_of_memory(),
            _ => false,
        }
    }

    /// Pruning that makes no sense.
    pub(crate) fn prune(what: &'static str, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Prune { what, expected: expected.into(), found: found.to_string() }
    }

    /// Two sizes that must agree and do not.
    pub(crate) fn size(what: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Size { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }
}
