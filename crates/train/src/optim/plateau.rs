//! The plateau schedule: the rate falls when the loss stops falling. It depends on values, so the loop tells it the
//! loss, and it answers on the host.

use serde::{Deserialize, Serialize};

use super::check;
use crate::error::Result;

/// Settings of PyTorch's `ReduceLROnPlateau` in its mode `min` with relative threshold, and its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The first rate.
    pub rate: f64,
    /// What a fall multiplies by, between 0 and 1.
    pub factor: f64,
    /// How many looks without improvement are borne.
    pub patience: u32,
    /// An improvement is a loss below (1 − threshold) times the best one.
    pub threshold: f64,
    /// How many looks after a fall are not counted.
    pub cooldown: u32,
    /// The rate does not fall below.
    pub floor: f64,
}

impl Plateau {
    /// PyTorch's defaults: factor 0.1, patience 10, threshold 1e-4, no cooldown, floor 0.
    pub fn new(rate: f32) -> Self {
        Plateau { rate: rate.into(), factor: 0.1, patience: 10, threshold: 1e-4, cooldown: 0, floor: 0.0 }
    }

    pub(super) fn check(&self) -> Result<()> {
        check::not_negative("learning rate", self.rate, "a learning rate such as 1e-3")?;
        check::not_negative("plateau's floor", self.floor, "a lowest rate, or 0")?;
        check::not_negative("plateau's threshold", self.threshold, "a relative threshold such as 1e-4")?;
        if self.factor > 0.0 && self.factor < 1.0 {
            return Ok(());
        }
        check::refused("plateau's factor", "a number between 0 and 1", self.factor, "0.1 is usual")
    }

    /// `rate` after the falls so far. A fall of less than 1e-8 does not happen, as in PyTorch.
    pub(super) fn lowered(&self, rate: f64, state: &PlateauState) -> f64 {
        let mut now = rate;
        for _ in 0..state.falls {
            let next = (now * self.factor).max(self.floor);
            if now - next <= 1e-8 {
                break;
            }
            now = next;
        }
        now
    }

    /// One look at the loss. A loss that is not a number is no improvement.
    pub(super) fn observe(&self, loss: f64, state: &mut PlateauState) {
        if state.best.is_none_or(|best| loss < best * (1.0 - self.threshold)) && loss.is_finite() {
            state.best = Some(loss);
            state.bad = 0;
        } else {
            state.bad += 1;
        }
        if state.cooling > 0 {
            state.cooling -= 1;
            state.bad = 0;
        }
        if state.bad > self.patience {
            state.falls += 1;
            state.cooling = self.cooldown;
            state.bad = 0;
        }
    }
}

/// What a plateau schedule remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PlateauState {
    best: Option<f64>,
    bad: u32,
    cooling: u32,
    falls: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Rates, Schedule};

    /// The rates that `ReduceLROnPlateau(patience=2, cooldown=1)` of PyTorch gives along these losses.
    #[test]
    fn the_rate_falls_when_the_loss_does_not() {
        let settings = Plateau { patience: 2, cooldown: 1, floor: 1e-3, ..Plateau::new(0.1) };
        let mut rates = Rates::new(&Schedule::Plateau(settings));
        let losses = [1.0, 0.9, 0.9, 0.9, 0.9, 0.8999, 0.9, 0.9, 0.9, 0.5, 0.6, f64::NAN, 0.6, 0.6];
        let want = [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001];
        for (i, (loss, want)) in losses.into_iter().zip(want).enumerate() {
            rates.observe(loss);
            let got = f64::from(rates.rate(i as u64));
            // Rates are f32: one rounding of 6e-8.
            assert!((got - want).abs() < 1e-7 * want, "look {i}: {got}, expected {want}");
        }
    }

    #[test]
    fn state_survives_a_round_trip() {
        let mut rates = Rates::new(&Schedule::plateau(0.1).warm_up(3));
        for _ in 0..25 {
            rates.observe(1.0);
        }
        let text = serde_json::to_string(&rates).unwrap();
        assert_eq!(serde_json::from_str::<Rates>(&text).unwrap(), rates);
        assert!((rates.rate(100) - 0.001).abs() < 1e-9);
    }
}
