//! Transforms: functions over graphs.

pub mod compile;
pub mod grad;
pub mod tree;
pub mod vmap;
