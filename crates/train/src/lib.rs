//! Training: parameters, layers, losses, optimizers, data, shifts, the loop, checkpoints.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod data;
pub mod error;
pub mod fit;
pub mod optim;
pub mod params;
pub mod shift;

pub use error::{Error, Result};
pub use params::{Kind, Params};
