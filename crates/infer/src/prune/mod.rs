//! Pruning: smaller networks that answer nearly as well, and networks that do less for easy inputs.
//!
//! *Structured*: [`Dependencies`] finds in the recorded graph which channels have to go together; scores say which
//! matter least, [`Dependencies::choose`] takes them until a budget of multiplications is kept, and
//! [`Dependencies::narrow`] makes a model that is really smaller: fewer parameters in the file, less work, on any engine.
//! Fine-tune it like any other, best against the logits of the network it came from
//! ([`acclimate_train::loss::kd`]).
//!
//! *Unstructured*: [`WeightScores`] (magnitude, activation-aware) and [`Masks`] per layer, over the model, per output or N of
//! M neighbors; [`Gradual`] prunes while training. The weights are 0 and the work is the same.
//!
//! *By input*: [`GatedCnn`] computes only the channels that its gates choose, [`TokenEncoder`] passes on fewer tokens
//! ([`keep_attended`], [`merge_similar`]); [`Rungs`] has several settings planned in advance and answers on the one that
//! fits the time.

pub mod choose;
pub mod encoder;
pub mod gate;
pub mod gradual;
pub mod mask;
pub mod narrow;
pub mod rungs;
pub mod score;
pub mod tokens;
pub mod trace;

pub use choose::{Budget, Choice, Spread};
pub use encoder::{Reduction, TokenEncoder};
pub use gate::GatedCnn;
pub use gradual::{Cubic, Gradual};
pub use mask::{KeepZeros, Masks, WeightScores, Within};
pub use narrow::Pruned;
pub use rungs::{OnRung, Rung, Rungs};
pub use score::{Score, Scores, slimming_penalty};
pub use tokens::{Tokens, attention, class_attention, keep_attended, merge_similar};
pub use trace::{Dependencies, Group, Place, flop, input_norms};
