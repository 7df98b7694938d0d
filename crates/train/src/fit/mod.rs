//! The training loop: a compiled step, progress, history, convergence, early stop; and least squares in closed form to
//! compare with.

pub mod convergence;
#[expect(clippy::module_inception, reason = "the loop is what the module is named for")]
mod fit;
mod history;
mod progress;
pub mod regression;
mod stop;
mod training;

pub use convergence::{Convergence, Rule, Verdict, Watcher};
pub use fit::{Fit, Outcome};
pub use history::{History, Measured, Point};
pub use progress::{Progress, Shown};
pub use stop::{Better, EarlyStop};
pub use training::{Ended, Run, Training};
