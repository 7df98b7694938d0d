//! What can go wrong with data: files, names and numbers that do not fit.
//!
//! A message says where, what was expected, what was found, and what to do.

use std::path::{Path, PathBuf};

/// The error of [`crate::data`] and [`crate::shift`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to open or read the file, or its compressed stream is damaged.
    #[error("{}: cannot be read: {source}; check the path, the permissions and that the file is complete", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system or the decompressor said.
        source: std::io::Error,
    },

    /// The file is of another kind than the reader expects.
    #[error("{}: expected {expected}, found {found}; {remedy}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the reader wanted to see.
        expected: String,
        /// What stands there.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },

    /// The file ends before what it declares, or in the middle of a record.
    #[error("{}: truncated: expected {expected_bytes} bytes, found {found_bytes}; get the file again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How many (uncompressed) bytes its header or its record size call for.
        expected_bytes: u64,
        /// How many there are; for a compressed file that cannot hold them, its size on disk.
        found_bytes: u64,
    },

    /// The file goes on after what it declares.
    #[error("{}: expected {expected_bytes} bytes, found more; the header does not describe this file, get it again", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How many (uncompressed) bytes its header calls for.
        expected_bytes: u64,
    },

    /// A label that names no class.
    #[error("{}: label of item {index}: expected a class below {n_classes}, found {found}; check the file and the number of classes", path.display())]
    Label {
        /// The file, or the collection's name if there is no file.
        path: PathBuf,
        /// Position of the item, from 0.
        index: usize,
        /// The label found.
        found: u32,
        /// How many classes there are.
        n_classes: u32,
    },

    /// A table has no such column.
    #[error("{}: expected a column `{column}`, found {}; {}", path.display(), present.join(", "), suggestion(nearest.as_deref()))]
    MissingColumn {
        /// The table's file.
        path: PathBuf,
        /// The name asked for.
        column: String,
        /// The columns there are.
        present: Vec<String>,
        /// The name that looks most like it, if one does.
        nearest: Option<String>,
    },

    /// A table's cell that is not a finite number.
    #[error("{}: line {line}, column `{column}`: expected a finite number, found `{found}`; correct the cell or leave the column out", path.display())]
    Cell {
        /// The table's file.
        path: PathBuf,
        /// Line in the file, from 1; the header counts.
        line: u64,
        /// The column's name.
        column: String,
        /// The text of the cell.
        found: String,
    },

    /// A name that is none of the known ones.
    #[error("{what}: expected one of {}, found `{found}`; {}", known.join(", "), suggestion(nearest.as_deref()))]
    UnknownName {
        /// What is named, for example `shift`.
        what: &'static str,
        /// The name given.
        found: String,
        /// The names there are.
        known: Vec<String>,
        /// The name that looks most like it, if one does.
        nearest: Option<String>,
    },

    /// An argument outside its domain.
    #[error("{what}: expected {expected}, found {found}; {remedy}")]
    Argument {
        /// Which argument of what.
        what: &'static str,
        /// The domain.
        expected: String,
        /// The value given.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

impl DataError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, expected: impl ToString, found: impl ToString, remedy: &'static str) -> Self {
        Self::Format { path: path.to_owned(), expected: expected.to_string(), found: found.to_string(), remedy }
    }

    pub(crate) fn argument(
        what: &'static str,
        expected: impl ToString,
        found: impl ToString,
        remedy: &'static str,
    ) -> Self {
        Self::Argument { what, expected: expected.to_string(), found: found.to_string(), remedy }
    }

    pub(crate) fn unknown(what: &'static str, found: &str, known: &[&str]) -> Self {
        Self::UnknownName {
            what,
            found: found.to_owned(),
            known: known.iter().map(ToString::to_string).collect(),
            nearest: nearest(found, known.iter().copied()),
        }
    }

    /// Whether a file ends too early, which a new download may cure.
    pub fn is_truncated(&self) -> bool {
        match self {
            Self::Truncated { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => "take one of these names".to_owned(),
    }
}

/// The candidate that looks most like `wanted`, if any looks alike (Jaro-Winkler similarity, case ignored).
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    // Below 0.7 names share only a few letters, and a wrong suggestion is worse than none.
    const ALIKE: f64 = 0.7;
    let wanted = wanted.to_lowercase();
    candidates
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_a_name_that_looks_alike_and_no_other() {
        let names = ["beds", "baths", "sqft", "price"];
        assert_eq!(nearest("Bed", names.into_iter()).as_deref(), Some("beds"));
        assert_eq!(nearest("pirce", names.into_iter()).as_deref(), Some("price"));
        assert_eq!(nearest("xyz", names.into_iter()), None);
    }

    #[test]
    fn messages_say_where_what_and_what_to_do() {
        let error = DataError::unknown("shift", "gausian", &["gaussian", "fog"]);
        assert_eq!(
            error.to_string(),
            "shift: expected one of gaussian, fog, found `gausian`; did you mean `gaussian`?"
        );
    }
}
