//! What a run did: loss and gradient norm at each check, metrics at each epoch's end; for reports and curves.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// A number out of JSON, which writes what is not finite as `null`: that reads as NaN.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// One look at a running training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The step, from 0.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Loss of that step's batch, before the step.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Norm of the gradient of that loss.
    #[serde(deserialize_with = "number")]
    pub gradient: f64,
    /// Learning rate.
    pub rate: f64,
}

/// A number measured at the end of an epoch, such as accuracy on held-out data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Its value.
    #[serde(deserialize_with = "number")]
    pub value: f64,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Looks, in order.
    pub points: Vec<Point>,
    /// Metrics, in order.
    pub metrics: Vec<Measured>,
}

impl History {
    /// The last look.
    pub fn last(&self) -> Option<&Point> {
        self.points.last()
    }

    /// The loss against the step.
    pub fn losses(&self) -> Vec<(f64, f64)> {
        self.curve(|p| p.loss)
    }

    /// The gradient norm against the step.
    pub fn gradients(&self) -> Vec<(f64, f64)> {
        self.curve(|p| p.gradient)
    }

    /// Values of a metric, epoch by epoch.
    pub fn metric(&self, name: &str) -> Vec<f64> {
        self.metrics.iter().filter(|m| m.name == name).map(|m| m.value).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "step counts stay below 2^53")]
    fn curve(&self, y: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
        self.points.iter().map(|p| (p.step as f64, y(p))).collect()
    }
}

impl fmt::Display for History {
    /// A table of about ten rows: step, loss, gradient norm, rate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}  {:>12}  {:>13}  {:>10}", "step", "loss", "gradient norm", "rate")?;
        let stride = self.points.len().div_ceil(10).max(1);
        for (i, p) in self.points.iter().enumerate() {
            if i % stride == 0 || i + 1 == self.points.len() {
                writeln!(f, "{:>8}  {:>12.6e}  {:>13.3e}  {:>10.3e}", p.step, p.loss, p.gradient, p.rate)?;
            }
        }
        Ok(())
    }
}
