//! The repository's own rules, as data, and the code that checks them.
//!
//! `ci/tests/tidy.rs` runs them. A new rule about code or text is one row in [`rules`]; rules about packages (who may
//! use whom, licenses, unused dependencies) are in [`packages`]. The order of all checks is in the file `ci/steps`.

pub mod packages;
pub mod repository;
pub mod rules;
pub mod rust;
pub mod same_rows;

use std::fmt;

/// A place where the repository breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the root of the repository.
    pub file: String,
    /// The line, from 1; 0 if the finding is about the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// A finding in one line of a file; the line 0 is the whole file.
    pub fn new(file: impl Into<String>, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}
