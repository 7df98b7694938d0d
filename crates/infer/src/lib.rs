//! Inference-time optimization: sessions that adapt to each input, within guards, with receipts.
#![forbid(unsafe_code)]

pub mod adapt;
pub mod budget;
pub mod calibration;
pub mod distill;
pub mod drift;
pub mod error;
pub mod evaluate;
pub mod feedback;
mod files;
pub mod meta;
pub mod metrics;
pub mod online;
pub mod overlay;
pub mod prune;
pub mod queue;
pub mod receipt;
pub mod report;
mod report_row;
pub mod select;
pub mod sensor;
pub mod session;
pub mod source;
pub mod tenants;
pub mod views;

pub use adapt::{
    Adaptation, Anchor, Answer, Carried, Guard, Moves, Objective, Output, Prepare, Reset, Settle, Teacher, Weighting,
    Window,
};
pub use error::Error;
pub use overlay::Overlay;
pub use session::{Answered, Session, Snapshot};
pub use source::SourceStatistics;
