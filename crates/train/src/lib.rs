//! Training: parameters, layers, losses, optimizers, data, shifts, the loop, checkpoints, weight files.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod data;
pub mod error;
pub mod fit;
pub mod layer;
pub mod loss;
pub mod nn;
mod num;
pub mod optim;
pub mod params;
pub mod shift;
pub mod weights;

pub use error::{Error, Result};
pub use layer::{Layer, Pass, Precision, Statistics};
pub use params::{Kind, Params};
