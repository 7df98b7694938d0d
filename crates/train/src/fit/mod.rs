//! The training loop: a compiled step, progress, history, convergence, early stop.

mod convergence;
#[expect(clippy::module_inception, reason = "the loop is what the module is named for")]
mod fit;
mod history;
mod progress;
mod stop;
mod training;

pub use convergence::{Convergence, Rule, Verdict, Watcher};
pub use fit::{Fit, Outcome};
pub use history::{History, Measured, Point};
pub use progress::{Progress, Shown};
pub use stop::{Better, EarlyStop};
pub use training::{Ended, Run, Training};
