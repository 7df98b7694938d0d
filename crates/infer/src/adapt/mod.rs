//! An adaptation method is a value: what moves, which loss, which guards, when it resets, what it sees, what it answers.
//! One driver runs them all.
//!
//! Modules in reading order: [`method`] the value, its parts ([`moves`], [`objective`], [`guard`], [`weight`], [`anchor`],
//! [`teacher`], [`search`], [`pairs`], [`reset`], [`window`], [`answer`], [`memory`],
//! [`mod@lame`], [`prototypes`]), [`state`] everything that changes,
//! [`presets`] of known methods, [`recommend`] which of them fits (by what is `measured`, and `rules`), `driver` the one
//! graph that steps, with `sight` what it shows to a step, `look` the forward
//! passes, `step` the step (its core, [`inner`], is meta-learning's too), and `initial` the first state; `validate` says
//! whether parts fit.

pub mod anchor;
pub mod answer;
pub(crate) mod driver;
pub mod guard;
mod initial;
pub mod inner;
pub mod lame;
mod look;
mod measured;
pub mod memory;
pub mod method;
pub mod moves;
pub mod objective;
pub mod pairs;
pub mod presets;
pub mod prototypes;
pub mod recommend;
pub mod reset;
mod rules;
pub mod search;
mod sight;
pub mod state;
mod step;
pub mod teacher;
mod validate;
pub mod weight;
pub mod window;

pub use anchor::{Anchor, Fisher, FisherKind};
pub use answer::{Answer, Output};
pub use guard::Guard;
pub use lame::{Affinity, Lame};
pub use memory::{Memory, Policy};
pub use method::Adaptation;
pub use moves::Moves;
pub use objective::Objective;
pub use pairs::Form;
pub use presets::*;
pub use prototypes::Prototypes;
pub use recommend::{Order, Recommendation, Situation};
pub use reset::Reset;
pub use search::Search;
pub use state::Carried;
pub use teacher::{Settle, Teacher};
pub use weight::Weighting;
pub use window::{Prepare, Window};
