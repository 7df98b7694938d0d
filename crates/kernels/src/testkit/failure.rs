//! What a check found.

use acclimate_tensor::Error;

/// A case that did not pass a check.
#[derive(Debug, thiserror::Error)]
#[error("case `{case}`, {check}: {what}")]
pub struct Failure {
    /// The case.
    pub case: String,
    /// The check.
    pub check: &'static str,
    /// What was found, or which error came up.
    pub what: String,
}

/// Adds case and check to an error.
pub(super) trait During<T> {
    /// As a failure of this check.
    fn during(self, case: &str, check: &'static str) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, Error> {
    fn during(self, case: &str, check: &'static str) -> Result<T, Failure> {
        self.map_err(|e| Failure { case: case.to_owned(), check, what: e.to_string() })
    }
}

impl<T> During<T> for Result<T, String> {
    fn during(self, case: &str, check: &'static str) -> Result<T, Failure> {
        self.map_err(|what| Failure { case: case.to_owned(), check, what })
    }
}
