//! What happens to a session between two answers. It stands in the receipt of the next answer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reason;

/// Something that happened between two answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The adaptation state went back to the source model.
    Reset {
        /// Who asked for it, and its numbers.
        because: Reason,
    },
    /// The adaptation state went back to an earlier one.
    WentBack {
        /// The answers that had shaped the earlier state since its reset.
        answers: u64,
        /// Who asked for it, and its numbers.
        because: Reason,
    },
    /// The adaptation state was lost with the device or its memory, and went back to the source model.
    StateLost {
        /// What the device said.
        why: String,
    },
    /// The session was built again on another device.
    Moved {
        /// The device it ran on before.
        from: String,
        /// Whether the adaptation state came along.
        with_state: bool,
    },
    /// From here on this input answers without adapting, until a [`Event::Resumed`].
    HeldBack {
        /// Who asked for it, and its numbers.
        because: Reason,
    },
    /// It adapts again.
    Resumed {
        /// Who asked for it, and its numbers.
        because: Reason,
    },
    /// What a source says is not believed any more.
    Distrusted {
        /// The source: "labels", or the sensor's name.
        source: String,
        /// What gave it away, with its numbers.
        because: Reason,
    },
    /// A source is believed again.
    Trusted {
        /// The source: "labels", or the sensor's name.
        source: String,
    },
}

impl fmt::Display for Event {
    /// A clause that can stand behind "before this answer".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset { because } => write!(f, "the state was reset to the source model, because {because}"),
            Self::WentBack { answers, because } => {
                write!(f, "the state went back to what the first {answers} answers had made of it, because {because}")
            }
            Self::StateLost { why } => write!(f, "the state was lost and reset to the source model: {why}"),
            Self::Moved { from, with_state } => {
                let along = if *with_state { "with" } else { "without" };
                write!(f, "the session moved here {along} its state; it ran on \"{from}\"")
            }
            Self::HeldBack { because } => write!(f, "adaptation was held back, because {because}"),
            Self::Resumed { because } => write!(f, "adaptation was taken up again, because {because}"),
            Self::Distrusted { source, because } => {
                write!(f, "the source \"{source}\" lost its credit, because {because}")
            }
            Self::Trusted { source } => write!(f, "the source \"{source}\" was believed again"),
        }
    }
}
