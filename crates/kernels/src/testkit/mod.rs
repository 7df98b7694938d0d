//! The conformance harness: cases, and the checks that every op has to pass. For ops of one's own too.

mod case;
mod values;

pub use case::{Case, Order, Reject, Scale, Tolerance};
pub use values::{Input, ODD_SIZES, Values};
