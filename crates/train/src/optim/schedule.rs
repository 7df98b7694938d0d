//! Schedules: the learning rate as a function of the step, on the host. The rate travels to the device as a tensor, so
//! a changing rate changes no plan. Formulas are those of PyTorch's `lr_scheduler`, in closed form and f64.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::check;
use super::plateau::{Plateau, PlateauState};
use crate::error::Result;

/// The rate of every step. Steps count from 0. A number converts into a constant rate.
///
/// ```
/// # use acclimate_train::optim::Schedule;
/// let schedule = Schedule::cosine(0.1, 100).warm_up(10);
/// assert_eq!(schedule.rate(9), 0.1); // the warm-up ends at the peak
/// assert_eq!(schedule.rate(10), 0.1); // the cosine starts there
/// assert!(schedule.rate(109) < 1e-4);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// The same rate at every step.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// From `start` to `end` in `steps` equal steps; `end` from then on (`LinearLR`).
    Linear {
        /// The rate of step 0.
        start: f64,
        /// The rate of step `steps` and after.
        end: f64,
        /// How many steps the way takes.
        steps: u64,
    },
    /// floor + (rate − floor)(1 + cos(π t / steps)) / 2; the floor from step `steps` on (`CosineAnnealingLR`, which
    /// would rise again; Loshchilov & Hutter 2017).
    Cosine {
        /// The rate of step 0.
        rate: f64,
        /// The last rate.
        floor: f64,
        /// How many steps the way takes.
        steps: u64,
    },
    /// rate · factor^⌊t / every⌋ (`StepLR`).
    Step {
        /// The rate of step 0.
        rate: f64,
        /// What each fall multiplies by.
        factor: f64,
        /// Steps between falls.
        every: u64,
    },
    /// rate · factor^t (`ExponentialLR`).
    Exponential {
        /// The rate of step 0.
        rate: f64,
        /// What each step multiplies by.
        factor: f64,
    },
    /// rate / (t + 1)^power: ½ is what online gradient descent needs on convex losses (Zinkevich 2003), 1 on strongly
    /// convex ones (Hazan, Agarwal, Kale 2007).
    Power {
        /// The rate of step 0.
        rate: f64,
        /// How fast it falls.
        power: f64,
    },
    /// Up from peak/25 to the peak in the first 30 % of the steps and down to peak/250 000, both along a cosine
    /// (`OneCycleLR`; Smith & Topin 2019).
    OneCycle {
        /// The highest rate.
        peak: f64,
        /// Number of steps.
        steps: u64,
    },
    /// Lower whenever the loss stops falling; the loop tells it the loss (`ReduceLROnPlateau`).
    Plateau(Plateau),
    /// (t + 1) / steps of the first rate of `then` while t < `steps`, after that `then` from its beginning
    /// (`SequentialLR` of a `LinearLR` and another).
    WarmUp {
        /// Steps of the warm-up.
        steps: u64,
        /// What follows.
        then: Box<Schedule>,
    },
}

impl From<f32> for Schedule {
    fn from(rate: f32) -> Self {
        Schedule::constant(rate)
    }
}

impl From<f64> for Schedule {
    fn from(rate: f64) -> Self {
        Schedule::Constant { rate }
    }
}

impl Schedule {
    /// The same rate at every step.
    pub fn constant(rate: f32) -> Self {
        Schedule::Constant { rate: rate.into() }
    }

    /// From `start` to `end` in `steps` equal steps.
    pub fn linear(start: f32, end: f32, steps: u64) -> Self {
        Schedule::Linear { start: start.into(), end: end.into(), steps }
    }

    /// Half a cosine from `rate` to 0 in `steps` steps.
    pub fn cosine(rate: f32, steps: u64) -> Self {
        Schedule::cosine_to(rate, 0.0, steps)
    }

    /// Half a cosine from `rate` to `floor` in `steps` steps.
    pub fn cosine_to(rate: f32, floor: f32, steps: u64) -> Self {
        Schedule::Cosine { rate: rate.into(), floor: floor.into(), steps }
    }

    /// `rate`, multiplied by `factor` every `every` steps.
    pub fn step(rate: f32, factor: f32, every: u64) -> Self {
        Schedule::Step { rate: rate.into(), factor: factor.into(), every }
    }

    /// `rate`, multiplied by `factor` after each step.
    pub fn exponential(rate: f32, factor: f32) -> Self {
        Schedule::Exponential { rate: rate.into(), factor: factor.into() }
    }

    /// `rate` / (t + 1)^`power`.
    pub fn power(rate: f32, power: f32) -> Self {
        Schedule::Power { rate: rate.into(), power: power.into() }
    }

    /// Up to `peak` and down again in `steps` steps.
    pub fn one_cycle(peak: f32, steps: u64) -> Self {
        Schedule::OneCycle { peak: peak.into(), steps }
    }

    /// `rate`, lower by a factor of ten whenever the loss has not fallen for ten looks.
    pub fn plateau(rate: f32) -> Self {
        Schedule::Plateau(Plateau::new(rate))
    }

    /// A linear warm-up of `steps` steps, then this schedule from its beginning.
    #[must_use]
    pub fn warm_up(self, steps: u64) -> Self {
        Schedule::WarmUp { steps, then: Box::new(self) }
    }

    /// The rate of step `step` (from 0). Of a plateau schedule: before any fall; [`Rates`] knows the falls.
    #[expect(clippy::cast_possible_truncation, reason = "rates are computed in f64 and used in f32")]
    pub fn rate(&self, step: u64) -> f32 {
        self.exact(step) as f32
    }

    #[expect(clippy::cast_precision_loss, reason = "step counts stay below 2^53")]
    fn exact(&self, step: u64) -> f64 {
        match self {
            Schedule::Constant { rate } => *rate,
            Schedule::Linear { start, end, steps } => start + (end - start) * done(step, *steps),
            Schedule::Cosine { rate, floor, steps } => between(*rate, *floor, done(step, *steps)),
            Schedule::Step { rate, factor, every } => rate * factor.powf((step / (*every).max(1)) as f64),
            Schedule::Exponential { rate, factor } => rate * factor.powf(step as f64),
            Schedule::Power { rate, power } => rate * (step as f64 + 1.0).powf(-power),
            Schedule::OneCycle { peak, steps } => one_cycle(*peak, *steps, step),
            Schedule::Plateau(plateau) => plateau.rate,
            Schedule::WarmUp { steps, then } if step < *steps => then.exact(0) * (step + 1) as f64 / *steps as f64,
            Schedule::WarmUp { steps, then } => then.exact(step - steps),
        }
    }

    /// Refuses what would step in a wrong direction or nowhere.
    pub(super) fn check(&self) -> Result<()> {
        let rate = |what, rate: f64| check::not_negative(what, rate, "a learning rate such as 1e-3");
        let steps = |what, n: u64| match n {
            0 => check::refused(what, "at least 1", "0", "give the number of steps of the whole run"),
            _ => Ok(()),
        };
        match self {
            Schedule::Constant { rate: r } => rate("learning rate", *r),
            Schedule::Linear { start, end, steps: n } => {
                rate("first learning rate", *start)?;
                rate("last learning rate", *end)?;
                steps("steps of the linear schedule", *n)
            }
            Schedule::Cosine { rate: r, floor, steps: n } => {
                rate("learning rate", *r)?;
                rate("last learning rate", *floor)?;
                steps("steps of the cosine schedule", *n)
            }
            Schedule::Step { rate: r, factor, every } => {
                rate("learning rate", *r)?;
                check::not_negative("factor of the step schedule", *factor, "a factor such as 0.1")?;
                steps("steps between falls of the rate", *every)
            }
            Schedule::Exponential { rate: r, factor } => {
                rate("learning rate", *r)?;
                check::not_negative("factor of the exponential schedule", *factor, "a factor such as 0.999")
            }
            Schedule::Power { rate: r, power } => {
                rate("learning rate", *r)?;
                check::not_negative("power of the schedule", *power, "½ or 1")
            }
            Schedule::OneCycle { peak, steps: n } => {
                rate("peak learning rate", *peak)?;
                steps("steps of the one-cycle schedule", *n)
            }
            Schedule::Plateau(plateau) => plateau.check(),
            Schedule::WarmUp { steps: n, then } => {
                steps("steps of the warm-up", *n)?;
                then.check()
            }
        }
    }

    fn plateau_settings(&self) -> Option<&Plateau> {
        match self {
            Schedule::Plateau(plateau) => Some(plateau),
            Schedule::WarmUp { then, .. } => then.plateau_settings(),
            _ => None,
        }
    }
}

/// A schedule on its way: what the loop asks for the rate and tells the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    schedule: Schedule,
    plateau: PlateauState,
}

impl Rates {
    /// At the beginning of `schedule`.
    pub fn new(schedule: &Schedule) -> Self {
        Rates { schedule: schedule.clone(), plateau: PlateauState::default() }
    }

    /// The rate of step `step`, from 0.
    #[expect(clippy::cast_possible_truncation, reason = "rates are computed in f64 and used in f32")]
    pub fn rate(&self, step: u64) -> f32 {
        let rate = self.schedule.exact(step);
        match self.schedule.plateau_settings() {
            Some(plateau) => plateau.lowered(rate, &self.plateau) as f32,
            None => rate as f32,
        }
    }

    /// Tells a plateau schedule what the loss is now; other schedules do not listen.
    pub fn observe(&mut self, loss: f64) {
        if let Some(plateau) = self.schedule.plateau_settings() {
            plateau.observe(loss, &mut self.plateau);
        }
    }
}

/// The share of `steps` that is done at `step`, at most 1.
#[expect(clippy::cast_precision_loss, reason = "step counts stay below 2^53")]
fn done(step: u64, steps: u64) -> f64 {
    step.min(steps) as f64 / steps.max(1) as f64
}

/// From `start` to `end` along half a cosine.
fn between(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) * (1.0 + (PI * share).cos()) / 2.0
}

#[expect(clippy::cast_precision_loss, reason = "step counts stay below 2^53")]
fn one_cycle(peak: f64, steps: u64, step: u64) -> f64 {
    let (first, last) = (peak / 25.0, peak / 25.0 / 1e4);
    let (up, end) = (0.3 * steps as f64 - 1.0, steps as f64 - 1.0);
    let t = (step as f64).min(end);
    if t <= up && up > 0.0 { between(first, peak, t / up) } else { between(peak, last, (t - up) / (end - up)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates of PyTorch's schedulers (2.15) with base rate 0.1.
    #[test]
    fn rates_follow_pytorch() {
        let table: [(Schedule, [(u64, f32); 5]); 7] = [
            // LinearLR(start_factor=1, end_factor=.2, total_iters=8)
            (Schedule::linear(0.1, 0.02, 8), [(0, 0.1), (1, 0.09), (4, 0.06), (8, 0.02), (20, 0.02)]),
            // CosineAnnealingLR(T_max=10, eta_min=.01)
            (
                Schedule::cosine_to(0.1, 0.01, 10),
                [(0, 0.1), (1, 0.097_797_54), (5, 0.055), (9, 0.012_202_457), (10, 0.01)],
            ),
            // StepLR(step_size=3, gamma=.5)
            (Schedule::step(0.1, 0.5, 3), [(0, 0.1), (2, 0.1), (3, 0.05), (6, 0.025), (9, 0.0125)]),
            // ExponentialLR(gamma=.9)
            (Schedule::exponential(0.1, 0.9), [(0, 0.1), (1, 0.09), (2, 0.081), (5, 0.059_049), (10, 0.034_867_845)]),
            // LambdaLR(lambda t: (t + 1)**-.5)
            (Schedule::power(0.1, 0.5), [(0, 0.1), (1, 0.070_710_68), (3, 0.05), (8, 0.033_333_335), (99, 0.01)]),
            // OneCycleLR(max_lr=.1, total_steps=20)
            (Schedule::one_cycle(0.1, 20), [(0, 0.004), (1, 0.013_167_184), (5, 0.1), (12, 0.050_000_2), (19, 4e-7)]),
            // SequentialLR([LinearLR(.25, 1, 3), ExponentialLR(.9)], milestones=[4])
            (Schedule::exponential(0.1, 0.9).warm_up(4), [(0, 0.025), (2, 0.075), (3, 0.1), (4, 0.1), (5, 0.09)]),
        ];
        for (schedule, rows) in table {
            schedule.check().unwrap();
            for (step, want) in rows {
                let got = schedule.rate(step);
                assert!((got - want).abs() <= 1e-6 * want, "{schedule:?} at {step}: {got}, PyTorch {want}");
            }
        }
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for schedule in [
            Schedule::constant(f32::NAN),
            Schedule::constant(-0.1),
            Schedule::constant(f32::INFINITY),
            Schedule::cosine(f32::NAN, 3),
            Schedule::cosine(0.1, 0),
            Schedule::linear(0.1, -0.1, 3),
            Schedule::step(0.1, f32::NAN, 3),
            Schedule::step(0.1, 0.5, 0),
            Schedule::exponential(0.1, -1.0),
            Schedule::power(-0.1, 0.5),
            Schedule::power(0.1, f32::NAN),
            Schedule::one_cycle(-1.0, 10),
            Schedule::plateau(f32::NAN),
            Schedule::constant(0.1).warm_up(0),
            Schedule::constant(-0.1).warm_up(5),
        ] {
            assert!(schedule.check().is_err(), "{schedule:?}");
        }
    }
}
