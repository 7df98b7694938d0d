//! Online learning: a model that answers one input at a time and learns from labels when they arrive.
//!
//! A [`Method`] is a value: a loss, an optimizer (any of [`acclimate_train::optim`], or [`ogd`], [`ftrl`],
//! [`passive_aggressive`]), a replay buffer, what to do when the world changes. A [`Learner`] runs it over any layer:
//! labels that came are learned in the submission of the next answer; where many wait, a block of them is one graph that
//! steps through them in order. [`prequential()`] measures: test first, then teach.
//!
//! Modules in reading order: the learner, `loss` of a label, `rules` that step, `replay` against forgetting, `drift`
//! responses, `prequential` measures, `scale` of features, `program` on the device, `work` that fills it.

mod drift;
mod learner;
mod loss;
mod prequential;
mod program;
mod replay;
mod rules;
mod scale;
mod work;

pub use drift::{Response, Signal};
pub use learner::{Counts, Event, Labeled, Learner, Method, Predicted, Report, Snapshot};
pub use loss::Loss;
pub use prequential::{Point, Prequential, prequential, prequential_watched};
pub use replay::{Keep, Replay};
pub use rules::{Aggressiveness, Ewc, FtrlConfig, Project, ftrl, ftrl_with, ogd, passive_aggressive, project};
pub use scale::RunningScale;
