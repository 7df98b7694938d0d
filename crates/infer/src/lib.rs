//! acclimate-infer
#![forbid(unsafe_code)]

pub mod error;
mod files;
pub mod metrics;
pub mod receipt;
pub mod report;
