//! Optimizers: a chain of gradient transforms and gates, one step rule over one flat arena, and a schedule that sets
//! the rate.
//!
//! ```
//! # use acclimate_train::optim::{self, Schedule};
//! let optimizer = optim::adamw(Schedule::cosine(3e-4, 2_000).warm_up(100)).clip_norm(1.0);
//! # assert!(optimizer.check().is_ok());
//! ```

mod check;
mod gates;
mod link;
mod loss_scale;
mod optimizer;
mod plateau;
mod presets;
mod rule;
mod schedule;
mod state;
mod transforms;

pub(crate) use check::refused;
pub use gates::{Accumulate, SkipIfNotFinite};
pub use link::{Flat, Gate, Link, Movable, StepCx, Transform};
pub use loss_scale::LossScale;
pub use optimizer::Optimizer;
pub use plateau::Plateau;
pub use presets::{adagrad, adam, adamw, amsgrad, lion, rmsprop, sgd};
pub use rule::{Setting, StepRule};
pub use schedule::{Rates, Schedule};
pub use state::{State, or_old};
pub use transforms::{AddDecay, ClipNorm, ClipValue, Freeze, norm};
