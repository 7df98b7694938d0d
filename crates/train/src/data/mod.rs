//! Data sets: labelled images, tables of numbers, and the batches made of them. Host memory only, no tensors.
//!
//! Readers check every length that a file declares against the file before anything is allocated, and every label
//! against the number of classes. All random choices are functions of a seed ([`rng`]).

mod augment;
mod batches;
pub mod cifar;
mod error;
pub mod gtsrb;
pub mod idx;
pub mod imagenet;
mod images;
mod open;
pub(crate) mod picture;
pub mod rng;
mod table;
pub mod text;

pub use augment::Augment;
pub use batches::{Batches, Epoch, Tail};
pub use error::DataError;
pub(crate) use error::nearest;
pub use images::{ChannelStats, Images};
pub use table::{Scaling, Table};
