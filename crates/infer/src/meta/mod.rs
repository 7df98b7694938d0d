//! Meta-learning: starting points from which few steps on a new task suffice.
//!
//! A method ([`maml`], [`fomaml`], [`anil`], [`meta_sgd`], [`reptile`]) is a value; a [`MetaLearner`] runs it over any layer
//! and loss. The step inside a task is the one that adapts at inference ([`crate::adapt::inner`]); `vmap` gives each task
//! of a batch weights of its own, and `grad` of that graph is the meta-gradient, through as many steps as there are. Tasks,
//! inner steps, meta-gradient and meta-step are one submission.

mod learner;
mod method;
mod tasks;

pub use crate::adapt::inner::Order;
pub use learner::{Judgement, MetaLearner};
pub use method::{Meta, anil, fomaml, maml, meta_sgd, reptile};
pub use tasks::Tasks;
