//! Pruning: smaller networks that answer nearly as well, and networks that do less for easy inputs.
//!
//! *Structured*: [`Dependencies`] finds in the recorded graph which channels have to go together; scores say which
//! matter least, [`Dependencies::choose`] takes them until a budget of multiplications is kept, and
//! [`Dependencies::narrow`] makes a model that is really smaller: fewer parameters in the file, less work, on any engine.
//! Fine-tune it like any other, best against the logits of the network it came from
//! ([`acclimate_train::loss::kd`]).

pub mod choose;
pub mod narrow;
pub mod score;
pub mod trace;

pub use choose::{Budget, Choice, Spread};
pub use narrow::Pruned;
pub use score::{Score, Scores, slimming_penalty};
pub use trace::{Dependencies, Group, Place, flop, input_norms};
