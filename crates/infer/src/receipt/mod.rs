//! Receipts: for every answer, what was moved, why, and whether it helped; kept so that anyone can check it.
//!
//! A log is a file of JSON lines, each `{"prev":…,"hash":…,"body":…}`. The hash covers the hash before it and the bytes
//! of the body as they stand in the file, so one changed byte is found at its record. A manifest beside the log holds
//! the number of records and the last hash, so records missing at the end are found too. [`replay()`] goes further: it
//! computes every answer again from the inputs and compares.
//!
//! What the chain cannot do: someone who may write both the log and its manifest can make a new, consistent pair.
//! Keep the manifest's head hash elsewhere if that matters; replay still exposes answers that the model does not give.
//!
//! Modules in reading order: [`record`] what a receipt says, `exact` how its numbers survive JSON, [`event`] what happened in
//! between, [`digest`] and [`input`] what it refers to, [`mod@write`] and [`mod@read`] the log, [`replay`](mod@replay) the check, [`mod@explain`] the words.

mod compare;
pub mod digest;
pub mod event;
mod exact;
pub mod explain;
pub mod input;
pub mod read;
pub mod record;
pub mod replay;
pub mod write;

pub use compare::Tolerance;
pub use digest::Digest;
pub use event::Event;
pub use explain::{explain, explain_with_names};
pub use input::Input;
pub use read::{Fault, Log, Reader, Record, Verification, read, verify};
pub use record::{
    Action, Change, Engine, Facts, Guess, Move, Moved, Place, Reason, Receipt, Rung, Scope, Shortage, Verdict,
};
pub use replay::{Inputs, Outcome, Recompute, Replay, ReplayReport, replay};
pub use write::{Manifest, Writer};
