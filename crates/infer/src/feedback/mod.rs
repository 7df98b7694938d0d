//! What comes from outside beside the inputs: labels and scores that arrive late, and readings of other sensors. Both are
//! unreliable, so neither can do more than hold adaptation back: at worst the frozen model answers.

mod judge;
mod meter;

pub(crate) use judge::Stance;
pub use judge::{Feedback, Judge};
pub use meter::Meter;
