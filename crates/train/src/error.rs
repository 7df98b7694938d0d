//! The one error type of this crate.

use std::path::PathBuf;

use acclimate_tensor::Shape;

use crate::checkpoint::CheckpointError;
use crate::data::DataError;

/// What can go wrong while a model is built, run, loaded or trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation outside any layer.
    #[error(transparent)]
    Tensor(#[from] acclimate_tensor::Error),

    /// A tensor operation inside a layer.
    #[error("{}", in_layer(path, source))]
    Layer {
        /// Path of the layer.
        path: String,
        /// What the operation said.
        source: acclimate_tensor::Error,
    },

    /// A data file, a label or a shift.
    #[error(transparent)]
    Data(#[from] DataError),

    /// A checkpoint that cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),

    /// No parameter or buffer has this path.
    #[error("unknown {what} `{path}`; {}", suggestion(nearest.as_deref()))]
    UnknownPath {
        /// `parameter` or `buffer`.
        what: &'static str,
        /// The path asked for.
        path: String,
        /// The path that looks most like it, if one does.
        nearest: Option<String>,
    },

    /// A parameter or buffer that has no value.
    #[error("{what} `{path}` is missing in {place}; expected shape {shape}")]
    MissingPath {
        /// `parameter` or `buffer`.
        what: &'static str,
        /// The path.
        path: String,
        /// Where it was looked for.
        place: String,
        /// The shape it should have.
        shape: Shape,
    },

    /// A value of another shape than its parameter.
    #[error("`{path}`: expected shape {expected}, found {found:?}; check that the weights belong to this model")]
    ValueShape {
        /// The parameter or buffer.
        path: String,
        /// Its shape.
        expected: Shape,
        /// The value's sizes.
        found: Vec<usize>,
    },

    /// Two parameters or buffers with one path.
    #[error("the path `{path}` is used twice; give each layer a name of its own")]
    DuplicatePath {
        /// The path.
        path: String,
    },

    /// The operating system refused a file.
    #[error("{}: {action} failed: {source}; check the path and the permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `open`, `read`, `write`.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },

    /// A file that is not what it should be.
    #[error("{}: expected {expected}, found {found}; {remedy}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
        /// What to do.
        remedy: &'static str,
    },

    /// An argument outside its range.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// Which argument of what.
        what: &'static str,
        /// Its range.
        expected: String,
        /// What was given.
        found: String,
    },
}

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An argument error.
    pub fn argument(what: &'static str, expected: impl Into<String>, found: impl std::fmt::Display) -> Self {
        Error::Argument { what, expected: expected.into(), found: found.to_string() }
    }

    /// Whether a shape, an axis or a size was wrong.
    pub fn is_shape(&self) -> bool {
        match self {
            Error::ValueShape { .. } => true,
            _ => self.tensor().is_some_and(acclimate_tensor::Error::is_shape),
        }
    }

    /// Whether the device is gone.
    pub fn is_device_lost(&self) -> bool {
        self.tensor().is_some_and(acclimate_tensor::Error::is_device_lost)
    }

    /// Whether memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        self.tensor().is_some_and(acclimate_tensor::Error::is_out_of_memory)
    }

    /// The tensor error behind it, if that is what it is.
    pub fn tensor(&self) -> Option<&acclimate_tensor::Error> {
        match self {
            Error::Tensor(source) | Error::Layer { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Says in which layer a tensor operation failed.
pub trait InLayer<T> {
    /// Adds the layer's path, unless a layer further in has added its own.
    fn in_layer(self, path: &str) -> Result<T>;
}

impl<T> InLayer<T> for acclimate_tensor::Result<T> {
    fn in_layer(self, path: &str) -> Result<T> {
        self.map_err(|source| Error::Layer { path: path.to_owned(), source })
    }
}

impl<T> InLayer<T> for Result<T> {
    fn in_layer(self, path: &str) -> Result<T> {
        self.map_err(|error| match error {
            Error::Tensor(source) => Error::Layer { path: path.to_owned(), source },
            other => other,
        })
    }
}

/// `matmul: inner sizes ..` becomes `matmul in digits.fc1: inner sizes ..`.
fn in_layer(path: &str, source: &acclimate_tensor::Error) -> String {
    let text = source.to_string();
    match text.split_once(": ") {
        Some((op, rest)) if !op.contains(' ') => format!("{op} in {path}: {rest}"),
        _ => format!("in {path}: {text}"),
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(path) => format!("did you mean `{path}`?"),
        None => "`paths()` lists what there is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_layer_is_added_once() {
        let inner = acclimate_tensor::Error::shape("matmul", "784 columns", "256");
        let failed: acclimate_tensor::Result<()> = Err(inner);
        let error = failed.in_layer("digits.fc1").in_layer("digits").unwrap_err();
        assert_eq!(error.to_string(), "matmul in digits.fc1: expected 784 columns, found 256");
        assert!(error.is_shape() && !error.is_device_lost());
        assert!(std::error::Error::source(&error).is_some());
    }
}
