//! Every op of Acclimate: formula, reference, launch, gradient, batching rule, test cases; one file each in [`ops`].
//!
//! Users see the ops as methods of tensors through [`TensorOps`]; [`registry::ALL`] is the one list of them, and
//! whatever needs every op walks it. With the feature `testkit` the conformance harness is there too, for ops of
//! one's own as well.
#![forbid(unsafe_code)]

pub mod composite;
mod direct;
pub mod ext;
mod ladder;
pub mod ops;
pub mod random;
pub mod registry;
mod rows;
pub mod step;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod window;

pub use composite::{concat, stack};
pub use ext::TensorOps;
pub use ops::attention::Attend;
pub use ops::conv2d::Conv2d;
pub use window::Pool2d;
