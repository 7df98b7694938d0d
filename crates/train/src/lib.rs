//! acclimate-train

pub mod data;
pub mod shift;
