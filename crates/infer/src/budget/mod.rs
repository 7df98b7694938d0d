//! The budget of a session: what it costs to answer, how much time there is, and which rung of the ladder fits.
//!
//! A session with a deadline knows what every rung costs (measured when it is warmed, then followed by a running
//! quantile) and takes the first that fits: everything, fewer views, fewer steps, the statistics or the state as it
//! is, the frozen model. The rung stands in the receipt, so replay follows it and never the clock. One submission cannot
//! be interrupted: where the machine becomes slower by a jump, the answer under way is late, and the next is planned
//! with the new speed.

pub mod clock;
mod cost;
pub mod ladder;
mod latency;

use std::sync::Arc;
use std::time::Duration;

pub use clock::{Clock, MachineClock, SimulatedClock, Work};
pub use latency::{Latency, Quantiles};

use crate::receipt::Shortage;

/// Deadline, clock and what is known about costs.
#[derive(Debug)]
pub(crate) struct Budget {
    pub deadline: Option<Duration>,
    pub clock: Arc<dyn Clock>,
    pub costs: cost::Costs,
    pub recorder: latency::Recorder,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            deadline: None,
            clock: Arc::new(MachineClock::default()),
            costs: cost::Costs::default(),
            recorder: latency::Recorder::default(),
        }
    }
}

impl Budget {
    /// The same deadline and clock, nothing known.
    pub fn fresh(&self) -> Self {
        Budget { deadline: self.deadline, clock: self.clock.clone(), ..Budget::default() }
    }

    /// The first rung that fits into `left`; the last fits always. A rung of unknown cost is tried.
    pub fn choose(&self, left: Option<Duration>, inputs: usize, levels: usize) -> (usize, Option<Shortage>) {
        let last = levels.saturating_sub(1);
        let Some(left) = left else { return (0, None) };
        let left = left.as_secs_f64();
        let fits = |level: &usize| self.costs.expected(*level, inputs).is_none_or(|cost| cost <= left);
        match (0..last).find(fits).unwrap_or(last) {
            0 => (0, None),
            level => {
                let needed = self.costs.expected(0, inputs).unwrap_or(0.0);
                let ms = |seconds: f64| (seconds * 1e3) as f32;
                (level, Some(Shortage { needed_ms: ms(needed), left_ms: ms(left) }))
            }
        }
    }
}
