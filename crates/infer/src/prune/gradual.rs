//! Pruning while training: the share of weights that are 0 grows, fast at first, while the network makes up for it.

use acclimate_tensor::Tree;
use acclimate_train::data::Batches;
use acclimate_train::fit::{Fit, Training};

use super::mask::{Masks, WeightScores, Within};
use crate::error::Error;

/// s(t) = s_f + (s_i − s_f)·(1 − (t − t_0)/(t_1 − t_0))³ between the steps t_0 and t_1 (Zhu and Gupta 2018), s_i before and
/// s_f after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cubic {
    /// Sparsity s_i at the beginning.
    pub initial: f64,
    /// Sparsity s_f at the end.
    pub last: f64,
    /// Step t_0.
    pub begin: u64,
    /// Step t_1.
    pub end: u64,
}

impl Cubic {
    /// From nothing at step 0.
    pub fn to(last: f64, end: u64) -> Self {
        Cubic { initial: 0.0, last, begin: 0, end }
    }

    /// The sparsity at a step.
    ///
    /// ```
    /// use acclimate_infer::prune::Cubic;
    ///
    /// assert_eq!(Cubic::to(0.9, 100).at(50), 0.7875);
    /// ```
    pub fn at(&self, step: u64) -> f64 {
        let all = self.end.saturating_sub(self.begin);
        if all == 0 || step >= self.end {
            return self.last;
        }
        let done = step.saturating_sub(self.begin) as f64 / all as f64;
        self.last + (self.initial - self.last) * (1.0 - done).powi(3)
    }
}

/// How to prune by magnitude while training.
#[derive(Clone, Debug)]
pub struct Gradual {
    /// Which share, when.
    pub schedule: Cubic,
    /// Which weights compete.
    pub within: Within,
    /// Steps from one choice of weights to the next; the paper's is 100.
    pub every: u64,
    /// Paths of the weights that may be pruned.
    pub paths: Vec<String>,
}

impl Gradual {
    /// The masks for a step.
    ///
    /// # Errors
    /// As [`WeightScores::magnitude`] and [`WeightScores::lowest`].
    pub fn masks(&self, params: &acclimate_train::Params, step: u64) -> Result<Masks, Error> {
        let scores = WeightScores::magnitude(params, |path| self.paths.iter().any(|p| p == path))?;
        scores.lowest(self.schedule.at(step), self.within)
    }

    /// Trains to the end as [`Fit::run`] does, and prunes on the way. The optimizer of `fit` must have the link
    /// [`super::KeepZeros`] of these paths. What is 0 has the smallest magnitude and stays so; the masks are final from step
    /// `schedule.end` on.
    ///
    /// # Errors
    /// As [`Fit::run`] and [`Gradual::masks`]; if `every` is 0.
    pub fn run<B: Tree + 'static>(
        &self,
        fit: &Fit<B>,
        mut training: Training,
        batches: &Batches,
        mut data: impl FnMut(&[usize]) -> acclimate_train::Result<B>,
    ) -> Result<Training, Error> {
        if self.every == 0 {
            return Err(Error::prune("steps between masks", "at least 1", 0));
        }
        while training.run.ended.is_none() {
            let step = training.run.step;
            if step >= self.schedule.begin {
                training.params = self.masks(&training.params, step)?.apply(&training.params)?;
            }
            // The last choice is made at the schedule's end, wherever that lies between two others.
            let next = step.saturating_add(self.every);
            let to = if step < self.schedule.end { next.min(self.schedule.end) } else { u64::MAX };
            training = fit.run_to(to, training, batches, &mut data)?;
        }
        Ok(training)
    }
}
