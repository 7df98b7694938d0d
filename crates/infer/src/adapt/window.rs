//! What a method sees: which rows, and how the image is prepared before everything.

use serde::Serialize;

use super::memory::Memory;
use crate::views::Views;

/// What the method sees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// One input.
    ThisInput,
    /// Views of one input.
    Views(Views),
    /// A whole batch.
    ThisBatch,
    /// A bank of inputs seen before, which the batch enters first; the batch is answered. The rows to learn from are the
    /// last of these views of each, the teacher sees the image itself.
    Memory(Memory, Views),
}

/// A closed form applied to the image first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepare {
    /// The image as it is.
    AsIs,
    /// The 5 to 98 percentile stretch.
    Stretch,
    /// The candidate of [`crate::sensor::CANDIDATES`] that the objective scores best.
    BestCandidate,
}
