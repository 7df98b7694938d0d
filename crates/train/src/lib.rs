//! Training: parameters, layers, losses, data, shifts.
#![forbid(unsafe_code)]

pub mod data;
pub mod error;
pub mod params;
pub mod shift;

pub use error::{Error, Result};
pub use params::{Kind, Params};
