//! Domains of numbers that a user sets: checked when an optimizer is built, named in the error.

use std::fmt::Display;

use crate::error::{Error, Result};

/// Finite and at least 0.
pub(super) fn not_negative(what: &'static str, x: f64, remedy: &'static str) -> Result<()> {
    within(what, x, x.is_finite() && x >= 0.0, "a finite number of at least 0", remedy)
}

/// Finite and above 0.
pub(super) fn positive(what: &'static str, x: f64, remedy: &'static str) -> Result<()> {
    within(what, x, x.is_finite() && x > 0.0, "a finite number above 0", remedy)
}

fn within(what: &'static str, x: f64, fits: bool, expected: &'static str, remedy: &'static str) -> Result<()> {
    if fits { Ok(()) } else { refused(what, expected, x, remedy) }
}

/// The error of a setting, with what to do about it.
pub(crate) fn refused<T>(
    what: &'static str,
    expected: impl Display,
    found: impl Display,
    remedy: &'static str,
) -> Result<T> {
    Err(Error::argument(what, format!("{expected} ({remedy})"), found))
}
