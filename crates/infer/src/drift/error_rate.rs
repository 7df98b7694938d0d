//! DDM (Gama et al. 2004) and EDDM (Baena-García et al. 2006): drift in a stream of right and wrong answers.

use serde::{Deserialize, Serialize};

use super::Sign;

/// DDM: with the error rate p over n answers and s = √(p(1−p)/n), a warning where p + s > p_min + 2 s_min and a drift
/// where it is above p_min + 3 s_min; the minima are those of the smallest p + s so far. Quiet for 30 answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ddm {
    n: f64,
    p: f64,
    /// p and s where p + s was smallest.
    best: Option<(f64, f64)>,
    drifted: bool,
    evidence: (f64, f64),
}

/// Answers before DDM and EDDM speak.
const WARM: f64 = 30.0;

impl Ddm {
    /// Takes in whether an answer was wrong.
    pub fn update(&mut self, wrong: bool) -> Sign {
        if self.drifted {
            self.reset();
        }
        self.n += 1.0;
        self.p += (f64::from(u8::from(wrong)) - self.p) / self.n;
        if self.n <= WARM {
            return Sign::Stable;
        }
        let s = (self.p * (1.0 - self.p) / self.n).sqrt();
        let (p_min, s_min) = match self.best {
            Some((p, least)) if self.p + s > p + least => (p, least),
            _ => (self.p, s),
        };
        self.best = Some((p_min, s_min));
        self.evidence = (self.p + s, p_min + 3.0 * s_min);
        self.drifted = self.p + s > p_min + 3.0 * s_min;
        match self.drifted {
            true => Sign::Drift,
            false if self.p + s > p_min + 2.0 * s_min => Sign::Warning,
            false => Sign::Stable,
        }
    }

    pub(super) fn evidence(&self) -> (f64, f64) {
        self.evidence
    }

    pub(super) fn reset(&mut self) {
        *self = Ddm::default();
    }
}

/// EDDM: with mean p′ and standard deviation s′ of the distance between errors, a warning where (p′ + 2s′) falls below
/// 0.95 and a drift where it falls below 0.9 of its largest value. Quiet for 30 answers and 30 errors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Eddm {
    n: f64,
    last_error: f64,
    errors: f64,
    mean: f64,
    squares: f64,
    longest: Option<f64>,
    sign: Option<Sign>,
    ratio: f64,
}

impl Eddm {
    /// Takes in whether an answer was wrong.
    pub fn update(&mut self, wrong: bool) -> Sign {
        if self.sign == Some(Sign::Drift) {
            self.reset();
        }
        self.n += 1.0;
        if wrong {
            self.errors += 1.0;
            let distance = self.n - self.last_error;
            self.last_error = self.n;
            // Welford's update of mean and squared deviations.
            let off = distance - self.mean;
            self.mean += off / self.errors;
            self.squares += off * (distance - self.mean);
            if self.n > WARM {
                self.compare();
            }
        }
        self.sign.unwrap_or(Sign::Stable)
    }

    fn compare(&mut self) {
        let variance = if self.errors > 1.0 { self.squares / (self.errors - 1.0) } else { 0.0 };
        let reach = self.mean + 2.0 * variance.sqrt();
        match self.longest {
            Some(longest) if reach <= longest => {
                if self.errors > WARM {
                    self.ratio = reach / longest;
                    self.sign = Some(match self.ratio {
                        r if r < 0.9 => Sign::Drift,
                        r if r < 0.95 => Sign::Warning,
                        _ => Sign::Stable,
                    });
                }
            }
            _ => self.longest = Some(reach),
        }
    }

    pub(super) fn evidence(&self) -> (f64, f64) {
        (self.ratio, 0.9)
    }

    pub(super) fn reset(&mut self) {
        *self = Eddm::default();
    }
}
