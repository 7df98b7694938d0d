//! What happens when the world changes: a signal looks at each error, and a response answers its alarms.

use crate::error::Error;

/// Looks at the error of each labeled input, in the order of the labels, and says whether something has changed: any
/// `FnMut(f64) -> bool`, so any drift detector's update.
pub type Signal = Box<dyn FnMut(f64) -> bool + Send>;

/// What a learner does on an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Counts it.
    #[default]
    Count,
    /// Starts again: first parameters, no moments, an empty replay buffer.
    Restart,
    /// Keeps the parameters, forgets moments and replay buffer: AdaGrad and FTRL take large steps again.
    ForgetMoments,
    /// Multiplies the rate for this many labels.
    Boost {
        /// By what.
        factor: f32,
        /// For how many labels.
        labels: u64,
    },
}

impl Response {
    pub(super) fn check(self) -> Result<(), Error> {
        match self {
            Response::Boost { factor, .. } if !(factor.is_finite() && factor > 0.0) => Err(Error::Value {
                what: "factor of the drift response",
                position: 0,
                expected: "a finite number above 0".into(),
                found: factor.to_string(),
            }),
            _ => Ok(()),
        }
    }
}
