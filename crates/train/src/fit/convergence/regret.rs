//! Regret of an online learner: its loss above that of a fixed choice, and the bounds that theory gives.

use serde::{Deserialize, Serialize};

/// Σ (loss − reference), so far and at each round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regret {
    total: f64,
    curve: Vec<f64>,
}

impl Regret {
    /// Of losses against those of the reference, round by round.
    pub fn of(losses: &[f64], reference: &[f64]) -> Self {
        let mut regret = Regret::default();
        losses.iter().zip(reference).for_each(|(loss, other)| regret.add(*loss, *other));
        regret
    }

    /// One more round.
    pub fn add(&mut self, loss: f64, reference: f64) {
        self.total += loss - reference;
        self.curve.push(self.total);
    }

    /// After the last round.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// After each round.
    pub fn curve(&self) -> &[f64] {
        &self.curve
    }
}

/// (3/2)·D·G·√T: the most that online gradient descent at the rate D/(G√t) regrets after T convex losses, D the diameter of
/// the set and G the largest gradient norm (Zinkevich 2003; Hazan 2016, theorem 3.1).
pub fn convex_bound(diameter: f64, gradient: f64, rounds: f64) -> f64 {
    1.5 * diameter * gradient * rounds.sqrt()
}

/// (G²/2μ)(1 + ln T): the same at the rate 1/(μt) for losses of strong convexity μ (Hazan, Agarwal, Kale 2007).
pub fn strongly_convex_bound(gradient: f64, mu: f64, rounds: f64) -> f64 {
    gradient * gradient / (2.0 * mu) * (1.0 + rounds.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses ½(w − x_t)² with x alternating between 0 and 1: gradients are at most 1, μ is 1, the best fixed w is ½.
    #[test]
    fn gradient_descent_stays_below_both_bounds() {
        for strongly in [false, true] {
            let (mut w, mut regret) = (1.0f64, Regret::default());
            for t in 1..=2000u32 {
                let x = f64::from(t % 2);
                regret.add((w - x).powi(2) / 2.0, 0.125);
                let rate = if strongly { 1.0 / f64::from(t) } else { 1.0 / f64::from(t).sqrt() };
                w = (w - rate * (w - x)).clamp(0.0, 1.0);
            }
            let bound = if strongly { strongly_convex_bound(1.0, 1.0, 2000.0) } else { convex_bound(1.0, 1.0, 2000.0) };
            assert!(regret.total() > 0.0 && regret.total() <= bound, "{} of at most {bound}", regret.total());
            assert_eq!(regret.curve().len(), 2000);
        }
    }
}
