//! Clocks: the machine's, and one that a test moves by hand.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was just computed, for clocks that make up their own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The rung of the budget.
    pub level: usize,
    /// Optimizer steps.
    pub steps: usize,
    /// Views of each input.
    pub views: usize,
    /// Inputs.
    pub inputs: usize,
}

/// Where a session reads the time.
pub trait Clock: Debug + Send + Sync {
    /// Time since a moment that stays the same.
    fn now(&self) -> Duration;

    /// Called after each piece of work, before the time is read. The machine's clock has nothing to do here.
    fn worked(&self, _work: &Work) {}
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock {
    start: Instant,
}

impl Default for MachineClock {
    fn default() -> Self {
        MachineClock { start: Instant::now() }
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is moved, or until work is done that costs what its function says: for tests and
/// simulations.
pub struct SimulatedClock {
    now: Mutex<Duration>,
    cost: Box<dyn Fn(&Work, Duration) -> Duration + Send + Sync>,
}

impl SimulatedClock {
    /// `cost` says what work takes that ends at about the given time.
    pub fn new(cost: impl Fn(&Work, Duration) -> Duration + Send + Sync + 'static) -> Self {
        SimulatedClock { now: Mutex::default(), cost: Box::new(cost) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.saturating_add(by);
    }
}

impl Debug for SimulatedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimulatedClock({:?})", self.now())
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worked(&self, work: &Work) {
        let cost = (self.cost)(work, self.now());
        self.advance(cost);
    }
}
