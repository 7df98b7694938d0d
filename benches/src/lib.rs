//! What Acclimate's speed is. The rows are in [`rows`], each compared with the oracle before a clock starts; the
//! binaries time them, and `peers/` runs the same work in other frameworks. See `README.md` of this folder.
#![forbid(unsafe_code)]

pub mod peak;
pub mod row;
pub mod rows;

pub use row::{Row, Size, values};
