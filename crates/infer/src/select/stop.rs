//! When an acquisition ends.

use std::fmt;

use serde::Serialize;

use crate::error::Error;

/// When to stop buying features. The first rule that fires ends it; without any, everything is bought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stop {
    pub(super) budget: Option<f64>,
    pub(super) confident: Option<f64>,
    pub(super) worth: Option<f64>,
}

/// Why an acquisition ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "because")]
#[non_exhaustive]
pub enum Reason {
    /// The answer's entropy, in nats, is at most the limit.
    Confident {
        /// Entropy of the answer.
        entropy: f64,
        /// The limit.
        limit: f64,
    },
    /// No feature left that the rest of the budget pays for.
    Budget {
        /// What is left.
        left: f64,
    },
    /// The best feature is expected to bring less, in nats for each unit of cost, than the limit.
    NotWorthIt {
        /// What it would bring.
        expected: f64,
        /// The limit.
        limit: f64,
    },
    /// Every feature is bought.
    NothingLeft,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Confident { entropy, limit } => write!(f, "confident: {entropy:.3} nats, at most {limit:.3}"),
            Reason::Budget { left } => write!(f, "budget: {left:.2} left pays for no other feature"),
            Reason::NotWorthIt { expected, limit } => {
                write!(f, "not worth its cost: {expected:.4} nats a unit expected, {limit:.4} asked for")
            }
            Reason::NothingLeft => f.write_str("nothing left to buy"),
        }
    }
}

impl Stop {
    /// Buys everything.
    pub fn never() -> Self {
        Stop::default()
    }

    /// Spends at most this, in the unit of the costs.
    #[must_use]
    pub fn budget(self, cost: f64) -> Self {
        Stop { budget: Some(cost), ..self }
    }

    /// Stops once the answer's entropy is at most this many nats.
    #[must_use]
    pub fn confident(self, entropy: f64) -> Self {
        Stop { confident: Some(entropy), ..self }
    }

    /// Stops once the best feature is expected to take less than this off the loss, in nats for each unit of its cost (the
    /// λ of DIME). Needs a method that estimates it.
    #[must_use]
    pub fn worth(self, nats_per_cost: f64) -> Self {
        Stop { worth: Some(nats_per_cost), ..self }
    }

    pub(super) fn check(&self, method: &'static str, estimates: bool) -> Result<(), Error> {
        let rules = [("the budget", self.budget), ("the entropy", self.confident), ("the worth", self.worth)];
        for (position, (what, number)) in rules.into_iter().enumerate() {
            if let Some(x) = number.filter(|x| !(x.is_finite() && *x >= 0.0)) {
                let expected = format!("{what} as a finite number of 0 or more");
                return Err(Error::Value { what: "the stop rule", position, expected, found: x.to_string() });
            }
        }
        if self.worth.is_some() && !estimates {
            let what = "it does not estimate what a feature is worth".to_owned();
            return Err(Error::Method { method: method.into(), what, expected: "dime, or another stop rule".into() });
        }
        Ok(())
    }
}
