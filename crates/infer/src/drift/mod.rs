//! Drift detectors: does a stream of numbers still look like before? With the parameters of the papers, and answering
//! step by step as the reference implementation (river) does.
//!
//! After a drift a detector starts anew with the next number.

mod adwin;
mod canary;
mod collapse;
mod error_rate;
mod kswin;
mod monitor;
mod page_hinkley;

use serde::{Deserialize, Serialize};

pub use adwin::Adwin;
pub use canary::Canary;
pub use collapse::Collapse;
pub use error_rate::{Ddm, Eddm};
pub use kswin::{Kswin, ks_two_sample};
pub use monitor::{Monitor, OnAlarm, Signal};
pub use page_hinkley::PageHinkley;

/// What a detector says about the stream so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    /// As before.
    Stable,
    /// Perhaps not as before.
    Warning,
    /// Not as before.
    Drift,
}

/// A detector of drift in a stream of numbers. NaN and infinities are no numbers: they are passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Detector {
    /// See [`Adwin`].
    Adwin(Adwin),
    /// See [`Ddm`]; numbers other than 0 are errors.
    Ddm(Ddm),
    /// See [`Eddm`]; numbers other than 0 are errors.
    Eddm(Eddm),
    /// See [`PageHinkley`].
    PageHinkley(PageHinkley),
    /// See [`Kswin`].
    Kswin(Kswin),
}

impl Detector {
    /// ADWIN with δ = 0.002.
    pub fn adwin() -> Self {
        Self::Adwin(Adwin::default())
    }

    /// DDM: warning at 2, drift at 3 standard deviations above the best error rate.
    pub fn ddm() -> Self {
        Self::Ddm(Ddm::default())
    }

    /// EDDM: warning below 0.95, drift below 0.9 of the longest distance between errors.
    pub fn eddm() -> Self {
        Self::Eddm(Eddm::default())
    }

    /// Page-Hinkley with λ = `threshold` (the papers' 50 is for sums of many units; signals in nats want less).
    pub fn page_hinkley(threshold: f64) -> Self {
        Self::PageHinkley(PageHinkley::new(threshold))
    }

    /// KSWIN with α = 0.005 over windows of 100 and 30.
    pub fn kswin(seed: u64) -> Self {
        Self::Kswin(Kswin::new(seed))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adwin(_) => "adwin",
            Self::Ddm(_) => "ddm",
            Self::Eddm(_) => "eddm",
            Self::PageHinkley(_) => "page-hinkley",
            Self::Kswin(_) => "kswin",
        }
    }

    /// Takes in the next number of the stream.
    pub fn update(&mut self, x: f64) -> Sign {
        if !x.is_finite() {
            return Sign::Stable;
        }
        match self {
            Self::Adwin(d) => d.update(x),
            Self::Ddm(d) => d.update(x != 0.0),
            Self::Eddm(d) => d.update(x != 0.0),
            Self::PageHinkley(d) => d.update(x),
            Self::Kswin(d) => d.update(x),
        }
    }

    /// The statistic that decided the last sign, and its limit; smaller is calmer, except for KSWIN's p-value and
    /// EDDM's ratio.
    pub fn evidence(&self) -> (f64, f64) {
        match self {
            Self::Adwin(d) => d.evidence(),
            Self::Ddm(d) => d.evidence(),
            Self::Eddm(d) => d.evidence(),
            Self::PageHinkley(d) => d.evidence(),
            Self::Kswin(d) => d.evidence(),
        }
    }

    /// Forgets the stream.
    pub fn reset(&mut self) {
        match self {
            Self::Adwin(d) => d.reset(),
            Self::Ddm(d) => d.reset(),
            Self::Eddm(d) => d.reset(),
            Self::PageHinkley(d) => d.reset(),
            Self::Kswin(d) => d.reset(),
        }
    }
}
