//! Early stop: an end when a metric of held-out data has not become better for some epochs.

use serde::{Deserialize, Serialize};

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Accuracy, R².
    Higher,
    /// Loss, error.
    Lower,
}

/// Ends a run when `metric` has not become better by more than `least` for `patience` epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStop {
    metric: String,
    better: Better,
    patience: u64,
    least: f64,
    best: Option<(f64, u64)>,
}

impl EarlyStop {
    /// Watches a metric that the loop measures at each epoch's end.
    pub fn new(metric: impl Into<String>, better: Better, patience: u64) -> Self {
        EarlyStop { metric: metric.into(), better, patience, least: 0.0, best: None }
    }

    /// Only changes of more than this count as better.
    #[must_use]
    pub fn least(mut self, least: f64) -> Self {
        self.least = least;
        self
    }

    /// The metric's name.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// The best value and its epoch.
    pub fn best(&self) -> Option<(f64, u64)> {
        self.best
    }

    /// The value at an epoch's end: whether to stop. A value that is not a number is not better.
    pub(super) fn look(&mut self, value: f64, epoch: u64) -> bool {
        let better = match (self.best, self.better) {
            (None, _) => !value.is_nan(),
            (Some((best, _)), Better::Higher) => value > best + self.least,
            (Some((best, _)), Better::Lower) => value < best - self.least,
        };
        if better {
            self.best = Some((value, epoch));
        }
        epoch >= self.best.map_or(0, |(_, at)| at) + self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_when_nothing_gets_better() {
        let stops = |mut stop: EarlyStop, values: &[f64]| {
            values.iter().enumerate().position(|(epoch, &value)| stop.look(value, epoch as u64))
        };
        let accuracy = [0.5, 0.6, 0.7, 0.69, 0.7, 0.71, 0.7];
        assert_eq!(stops(EarlyStop::new("accuracy", Better::Higher, 2), &accuracy), Some(4));
        assert_eq!(stops(EarlyStop::new("accuracy", Better::Higher, 3), &accuracy), None);
        assert_eq!(stops(EarlyStop::new("accuracy", Better::Higher, 2).least(0.2), &accuracy), Some(2));
        assert_eq!(stops(EarlyStop::new("loss", Better::Lower, 2), &[3.0, 2.0, f64::NAN, 2.5]), Some(3));
        assert_eq!(stops(EarlyStop::new("loss", Better::Lower, 2), &[f64::NAN; 5]), Some(2));
    }
}
