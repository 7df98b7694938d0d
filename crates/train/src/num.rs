//! Counts as real numbers.

/// A count as f32, rounded to nearest; exact up to 2^24.
#[expect(clippy::as_conversions, reason = "the one place where counts become real numbers")]
pub(crate) fn real(n: usize) -> f32 {
    n as f32
}
