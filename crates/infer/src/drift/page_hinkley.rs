//! Page-Hinkley (Page 1954): a cumulative sum of deviations from the running mean, compared with its extreme.

use serde::{Deserialize, Serialize};

use super::Sign;

/// Numbers before it speaks.
const WARM: f64 = 30.0;
/// Deviations up to this are taken for noise.
const DELTA: f64 = 0.005;
/// What stays of the sum at each number.
const KEEP: f64 = 0.9999;

/// Two sums, for a rise and for a fall: s ← 0.9999 s + (x − mean) ∓ 0.005. Drift where the first is above its minimum, or
/// the second below its maximum, by more than λ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageHinkley {
    threshold: f64,
    n: f64,
    mean: f64,
    rise: f64,
    fall: f64,
    lowest: f64,
    highest: f64,
    drifted: bool,
    evidence: f64,
}

impl Default for PageHinkley {
    fn default() -> Self {
        Self::new(50.0)
    }
}

impl PageHinkley {
    /// With λ = `threshold`.
    pub fn new(threshold: f64) -> Self {
        PageHinkley {
            threshold,
            n: 0.0,
            mean: 0.0,
            rise: 0.0,
            fall: 0.0,
            lowest: f64::MAX,
            highest: -1.0,
            drifted: false,
            evidence: 0.0,
        }
    }

    /// Takes in a number.
    pub fn update(&mut self, x: f64) -> Sign {
        if self.drifted {
            self.reset();
        }
        self.n += 1.0;
        self.mean += (x - self.mean) / self.n;
        let off = x - self.mean;
        self.rise = KEEP * self.rise + off - DELTA;
        self.fall = KEEP * self.fall + off + DELTA;
        self.lowest = self.lowest.min(self.rise);
        self.highest = self.highest.max(self.fall);
        if self.n < WARM {
            return Sign::Stable;
        }
        self.evidence = (self.rise - self.lowest).max(self.highest - self.fall);
        self.drifted = self.evidence > self.threshold;
        if self.drifted { Sign::Drift } else { Sign::Stable }
    }

    pub(super) fn evidence(&self) -> (f64, f64) {
        (self.evidence, self.threshold)
    }

    pub(super) fn reset(&mut self) {
        *self = PageHinkley::new(self.threshold);
    }
}
