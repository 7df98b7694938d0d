//! Convergence is watched, not assumed: rules over the loss and the gradient norm, and which of them fired on what
//! numbers.
//!
//! For a smooth function that grows at least quadratically around its minimum (Polyak-Łojasiewicz with constant μ),
//! loss − minimum ≤ ‖gradient‖² / 2μ: a small gradient bounds what is left to gain. A still loss alone does not, so
//! stationarity asks for both; the plateau rule stands for noisy losses whose gradient never becomes small.
//!
//! Beside the rules: [`constants`] of a problem and the rate they promise, [`noise`] of gradients, [`line_search`] and
//! [`polyak`] for steps that need no rate, [`regret`] of an online learner. [`inner_steps`] asks the rules about the few
//! steps of an adaptation at inference.

pub mod constants;
pub mod line_search;
pub mod noise;
pub mod polyak;
pub mod regret;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::history::number;
use crate::error::Result;
use crate::optim::refused;

/// When training counts as converged, and when as failed. One check is one look at loss and gradient norm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// Gradient norm relative to that of the first check, at or below which the gradient counts as small.
    pub gradient: f64,
    /// Change of the loss relative to the loss before, at or below which it counts as still.
    pub loss: f64,
    /// How many checks in a row must have a small gradient and a still loss.
    pub checks: u32,
    /// A plateau is this many checks in a row in which the best loss fell by less than [`Convergence::loss`] of itself
    /// in total. `None`: never.
    pub plateau: Option<u32>,
    /// A loss above this many times the best loss so far is a divergence.
    pub divergence: f64,
}

impl Default for Convergence {
    /// Gradient 1e-3 of the first, loss still within 1e-5 for 3 checks; plateau after 50; divergence at 10 times the
    /// best loss.
    fn default() -> Self {
        Convergence { gradient: 1e-3, loss: 1e-5, checks: 3, plateau: Some(50), divergence: 10.0 }
    }
}

/// Which rule ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// Small gradient and still loss.
    Stationary,
    /// The best loss has stopped falling.
    Plateau,
    /// The loss grew far above its best.
    Divergence,
    /// The loss or the gradient norm is not a finite number.
    NotFinite,
}

impl Rule {
    /// Whether the run ended where it should.
    pub fn is_converged(self) -> bool {
        matches!(self, Rule::Stationary | Rule::Plateau)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Stationary => "stationary",
            Rule::Plateau => "plateau",
            Rule::Divergence => "divergence",
            Rule::NotFinite => "not_finite",
        })
    }
}

/// A rule that fired, and the numbers it fired on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The rule.
    pub rule: Rule,
    /// The step, from 0.
    pub step: u64,
    /// Loss at that step.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Lowest loss of any check.
    #[serde(deserialize_with = "number")]
    pub best: f64,
    /// Gradient norm at that step.
    #[serde(deserialize_with = "number")]
    pub gradient: f64,
    /// Gradient norm at the first check.
    #[serde(deserialize_with = "number")]
    pub first_gradient: f64,
    /// |change of the loss| / |loss before|.
    #[serde(deserialize_with = "number")]
    pub change: f64,
    /// Checks in a row that the rule counted.
    pub checks: u32,
    /// The settings.
    pub settings: Convergence,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { rule, step, loss, best, gradient, first_gradient, change, checks, settings: s } = self;
        write!(f, "{rule} at step {step}: ")?;
        match rule {
            Rule::Stationary => write!(
                f,
                "gradient norm {gradient:.3e} is {:.1e} of the first ({first_gradient:.3e}), bound {:.0e}; \
                 loss {loss:.6e} changed by {change:.1e} of itself, bound {:.0e}; {checks} checks in a row",
                gradient / first_gradient,
                s.gradient,
                s.loss
            ),
            Rule::Plateau => write!(
                f,
                "the best loss {best:.6e} fell by less than {:.0e} of itself in {checks} checks; \
                 gradient norm {gradient:.3e}, at first {first_gradient:.3e}",
                s.loss
            ),
            Rule::Divergence => {
                write!(f, "loss {loss:.6e} is above {} times the best loss {best:.6e}; lower the rate", s.divergence)
            }
            Rule::NotFinite => write!(
                f,
                "loss {loss}, gradient norm {gradient}; the best loss was {best:.6e}; lower the rate or check the data"
            ),
        }
    }
}

/// Watches a run by the rules of [`Convergence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watcher {
    settings: Convergence,
    first_gradient: Option<f64>,
    before: Option<f64>,
    best: Option<f64>,
    still: u32,
    /// Best loss at the beginning of the current plateau, and its length.
    level: Option<f64>,
    flat: u32,
}

impl Watcher {
    /// At the beginning of a run.
    ///
    /// # Errors
    /// [`Error`](crate::Error) for a bound that is negative or not a number, or a divergence factor of at most 1.
    pub fn new(settings: &Convergence) -> Result<Self> {
        let bad = |x: f64| !(x.is_finite() && x >= 0.0);
        if bad(settings.gradient) || bad(settings.loss) {
            let found = format!("gradient {}, loss {}", settings.gradient, settings.loss);
            return refused("convergence bounds", "finite numbers of at least 0", found, "such as 1e-3");
        }
        if settings.divergence.is_nan() || settings.divergence <= 1.0 {
            return refused("divergence factor", "above 1", settings.divergence, "such as 10");
        }
        let settings = settings.clone();
        Ok(Watcher { settings, first_gradient: None, before: None, best: None, still: 0, level: None, flat: 0 })
    }

    /// One check. The verdict, if a rule fires.
    pub fn check(&mut self, step: u64, loss: f64, gradient: f64) -> Option<Verdict> {
        let first_gradient = *self.first_gradient.get_or_insert(gradient);
        let change = self.before.map_or(f64::INFINITY, |before| relative(loss - before, before));
        let best = self.best.unwrap_or(loss);
        let verdict = |rule, checks| {
            let settings = self.settings.clone();
            Some(Verdict { rule, step, loss, best: best.min(loss), gradient, first_gradient, change, checks, settings })
        };
        if !loss.is_finite() || !gradient.is_finite() {
            return verdict(Rule::NotFinite, 1);
        }
        // The losses may be negative (a likelihood): how far above the best is measured in the best's magnitude.
        if loss - best > (self.settings.divergence - 1.0) * best.abs() && best != 0.0 {
            return verdict(Rule::Divergence, 1);
        }
        let small = gradient <= self.settings.gradient * first_gradient;
        self.still = if small && change <= self.settings.loss { self.still + 1 } else { 0 };
        let level = *self.level.get_or_insert(loss);
        if level - best.min(loss) > self.settings.loss * level.abs() {
            (self.level, self.flat) = (Some(best.min(loss)), 0);
        } else {
            self.flat += 1;
        }
        let (still, flat) = (self.still, self.flat);
        let found = if still >= self.settings.checks.max(1) {
            verdict(Rule::Stationary, still)
        } else if self.settings.plateau.is_some_and(|n| flat > n) {
            verdict(Rule::Plateau, flat)
        } else {
            None
        };
        (self.before, self.best) = (Some(loss), Some(best.min(loss)));
        found
    }
}

/// What the rules say of the losses before, between and after a few inner steps, at inference: a divergence, a plateau, a
/// loss that is no number; `None` if it kept falling. Gradients are not looked at.
///
/// # Errors
/// As [`Watcher::new`].
pub fn inner_steps(losses: &[f64], settings: &Convergence) -> Result<Option<Verdict>> {
    let mut watcher = Watcher::new(settings)?;
    // A gradient that never becomes small, so that no rule counts on it.
    Ok((0u64..).zip(losses).find_map(|(step, loss)| watcher.check(step, *loss, 1.0)))
}

fn relative(change: f64, before: f64) -> f64 {
    if change == 0.0 { 0.0 } else { (change / before).abs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(settings: &Convergence, curve: impl Iterator<Item = (f64, f64)>) -> Option<Verdict> {
        let mut watcher = Watcher::new(settings).unwrap();
        curve.enumerate().find_map(|(i, (loss, gradient))| watcher.check(i as u64, loss, gradient))
    }

    #[test]
    fn each_rule_fires_on_its_curve_and_on_no_other() {
        let settings = Convergence::default();
        // Linear convergence: gradient² ∝ loss − minimum.
        let falling = (0..200).map(|t| (1.0 + 4.0 * 0.8f64.powi(t), 4.0 * 0.8f64.powf(t as f64 / 2.0)));
        let verdict = run(&settings, falling).unwrap();
        assert_eq!(verdict.rule, Rule::Stationary);
        assert!(verdict.gradient <= 1e-3 * verdict.first_gradient && verdict.change <= 1e-5, "{verdict}");
        // Noise around a level with a gradient that stays.
        let noisy = (0..200).map(|t| (1.0 + 0.1 * f64::from(t).sin().abs(), 1.0));
        assert_eq!(run(&settings, noisy).unwrap().rule, Rule::Plateau);
        let growing = (0..200).map(|t| (1.1f64.powi(t), 1.1f64.powi(t)));
        let verdict = run(&settings, growing).unwrap();
        assert_eq!((verdict.rule, verdict.step), (Rule::Divergence, 25), "{verdict}");
        let broken = (0..9).map(|t| (if t == 5 { f64::NAN } else { 1.0 / f64::from(t + 1) }, 1.0));
        assert_eq!(run(&settings, broken).unwrap().rule, Rule::NotFinite);
        let still_going = (0..200).map(|t| (1.0 / f64::from(t + 1), 1.0 / f64::from(t + 1)));
        assert_eq!(run(&settings, still_going), None);
    }

    #[test]
    fn a_small_gradient_alone_is_not_enough() {
        let settings = Convergence { plateau: None, ..Convergence::default() };
        let sliding = (0..50).map(|t| (100.0 - f64::from(t), if t == 0 { 1.0 } else { 1e-6 }));
        assert_eq!(run(&settings, sliding), None);
        let stuck = (0..50).map(|_| (1.0, 1.0));
        assert_eq!(run(&settings, stuck), None);
    }

    #[test]
    fn negative_losses_diverge_upwards_only() {
        let settings = Convergence { plateau: None, divergence: 2.0, ..Convergence::default() };
        assert_eq!(run(&settings, (0..20).map(|t| (-f64::from(t) - 1.0, 1.0))), None);
        let back_up = (0..20).map(|t| (f64::from(t) - 5.0, 1.0));
        assert_eq!(run(&settings, back_up).unwrap().step, 6);
    }

    #[test]
    fn inner_steps_are_judged_by_their_losses() {
        let settings = Convergence { plateau: Some(2), divergence: 2.0, ..Convergence::default() };
        let rule = |losses: &[f64]| inner_steps(losses, &settings).unwrap().map(|v| (v.rule, v.step));
        assert_eq!(rule(&[3.0, 2.0, 1.5, 1.2]), None);
        assert_eq!(rule(&[3.0, 2.0, 5.0, 1.2]), Some((Rule::Divergence, 2)));
        assert_eq!(rule(&[3.0, f64::NAN]), Some((Rule::NotFinite, 1)));
        assert_eq!(rule(&[3.0, 2.0, 2.0, 2.0, 2.0]), Some((Rule::Plateau, 4)));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for settings in [
            Convergence { gradient: f64::NAN, ..Convergence::default() },
            Convergence { loss: -1.0, ..Convergence::default() },
            Convergence { divergence: 1.0, ..Convergence::default() },
            Convergence { divergence: f64::NAN, ..Convergence::default() },
        ] {
            assert!(Watcher::new(&settings).is_err());
        }
    }
}
