//! Forward-only search (as in Niu et al. 2024, FOA): candidates for the overlay are drawn, the objective of each is one
//! forward pass, and the distribution they are drawn from follows the best (CMA-ES with a diagonal covariance: Hansen
//! and Ostermeier 2001; Ros and Hansen 2008). No gradient, so it suits what has none.

use acclimate_kernels::random::{Key, normal};
use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::Tensor;
use acclimate_tensor::transform::vmap::vmap_with;
use serde::Serialize;

use super::driver::Driver;
use super::guard::Chosen;
use super::look::Look;
use super::sight::Sight;
use super::state::Carried;
use super::step::{Draw, Resets, Stepped};
use crate::error::Error;

/// A search in place of an optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Search {
    /// Candidates a step; the best overlay so far is compared beside them. At least 4.
    pub candidates: usize,
    /// Standard deviation of the first candidates.
    pub width: f32,
}

/// Mean and diagonal variance of the distribution, the paths of its width and of its shape: f32 [4, len]; its width and
/// the number of steps: f32 `[2]`.
pub(super) const SEARCH: [&str; 2] = ["search", "search_width"];

/// Constants of the strategy for a dimension and a number of candidates (Hansen 2016, table 1; shares of the covariance's
/// updates times (n + 2)/3 for a diagonal).
struct Constants {
    weights: Vec<f32>,
    effective: f32,
    width_share: f32,
    damping: f32,
    path_share: f32,
    rank_one: f32,
    rank_mu: f32,
    /// Expected length of a standard normal vector.
    length: f32,
}

impl Constants {
    fn new(dimension: usize, candidates: usize) -> Self {
        let (n, mu) = (dimension as f64, candidates / 2);
        let raw: Vec<f64> = (1..=mu).map(|i| (mu as f64 + 0.5).ln() - (i as f64).ln()).collect();
        let total: f64 = raw.iter().sum();
        let weights: Vec<f64> = raw.iter().map(|w| w / total).collect();
        let effective = 1.0 / weights.iter().map(|w| w * w).sum::<f64>();
        let width_share = (effective + 2.0) / (n + effective + 5.0);
        let damping = 1.0 + 2.0 * (((effective - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + width_share;
        let path_share = (4.0 + effective / n) / (n + 4.0 + 2.0 * effective / n);
        let faster = (n + 2.0) / 3.0;
        let rank_one = (faster * 2.0 / ((n + 1.3).powi(2) + effective)).min(1.0);
        let rank_mu = faster * 2.0 * (effective - 2.0 + 1.0 / effective) / ((n + 2.0).powi(2) + effective);
        Constants {
            weights: weights.iter().map(|&w| w as f32).collect(),
            effective: effective as f32,
            width_share: width_share as f32,
            damping: damping as f32,
            path_share: path_share as f32,
            rank_one: rank_one as f32,
            rank_mu: rank_mu.max(0.0).min(1.0 - rank_one) as f32,
            length: (n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n))) as f32,
        }
    }
}

impl Search {
    /// The first distribution: mean 0, variance 1, the width as told.
    pub(super) fn begin(&self, state: Carried) -> Result<Carried, Error> {
        let (device, n) = (state.delta().device().clone(), state.delta().numel());
        let mut rows = vec![0f32; 4 * n];
        rows[n..2 * n].fill(1.0);
        let rows = Tensor::from_slice(&device, &rows, &[4, n])?;
        let width = Tensor::from_slice(&device, &[self.width, 0.0], &[2])?;
        Ok(state.remember(SEARCH[0], rows).remember(SEARCH[1], width))
    }

    /// Candidates: [k, n], and what they are made of, √variance·z.
    fn draw(&self, state: &Carried, key: &Key) -> Result<(Tensor, Tensor), Error> {
        let n = state.delta().numel();
        let rows = state.memory(SEARCH[0])?;
        let row = |i: usize| rows.narrow(0, i, 1);
        let width = state.memory(SEARCH[1])?.narrow(0, 0, 1)?;
        let steps = normal(key, &[self.candidates, n])?.mul(&row(1)?.sqrt()?)?;
        Ok((steps.mul(&width)?.add(&row(0)?)?, steps))
    }

    /// The distribution after the candidates' objectives [k] are known.
    fn follow(&self, state: Carried, steps: &Tensor, objectives: &Tensor) -> Result<Carried, Error> {
        let n = state.delta().numel();
        let c = Constants::new(n, self.candidates);
        let device = steps.device();
        let (_, order) = objectives.sort(false)?;
        let best = steps.take(&order.narrow(0, 0, c.weights.len())?)?;
        let weights = Tensor::from_slice(device, &c.weights, &[c.weights.len(), 1])?;
        let mean_step = best.mul(&weights)?.sum(&[0])?;
        let mean_square = best.square()?.mul(&weights)?.sum(&[0])?;
        let row = |i: usize| state.memory(SEARCH[0])?.narrow(0, i, 1)?.reshape(&[n]).map_err(Error::from);
        let (mean, variance, width_path, shape_path) = (row(0)?, row(1)?, row(2)?, row(3)?);
        let width = state.memory(SEARCH[1])?.narrow(0, 0, 1)?;
        let number = state.memory(SEARCH[1])?.narrow(0, 1, 1)?.add_scalar(1.0)?;
        let mean = mean.add(&mean_step.mul(&width)?)?;
        let gain = |share: f32| (share * (2.0 - share) * c.effective).sqrt();
        let whitened = mean_step.div(&variance.sqrt()?)?;
        let width_path = width_path.mul_scalar(1.0 - c.width_share)?.add(&whitened.mul_scalar(gain(c.width_share))?)?;
        let long = width_path.square()?.sum_keep(&[0])?.sqrt()?;
        // 1 − (1 − c)^(2·steps): how much of its final length the path can have by now.
        let grown = number.mul_scalar(2.0 * (1.0 - c.width_share).ln())?.exp()?.neg()?.add_scalar(1.0)?.sqrt()?;
        let limit = grown.mul_scalar((1.4 + 2.0 / (n as f32 + 1.0)) * c.length)?;
        let steady = long.lt(&limit)?.select(&long.ones_like()?, &long.zeros_like()?)?;
        let pull = mean_step.mul_scalar(gain(c.path_share))?.mul(&steady)?;
        let shape_path = shape_path.mul_scalar(1.0 - c.path_share)?.add(&pull)?;
        let lost = steady.neg()?.add_scalar(1.0)?.mul_scalar(c.path_share * (2.0 - c.path_share))?;
        let one = shape_path.square()?.add(&variance.mul(&lost)?)?.mul_scalar(c.rank_one)?;
        let kept = variance.mul_scalar(1.0 - c.rank_one - c.rank_mu)?;
        let variance = kept.add(&one)?.add(&mean_square.mul_scalar(c.rank_mu)?)?;
        let change = long.mul_scalar(1.0 / c.length)?.add_scalar(-1.0)?.mul_scalar(c.width_share / c.damping)?;
        let width = width.mul(&change.exp()?)?;
        let rows = [&mean, &variance, &width_path, &shape_path].map(|t| t.reshape(&[1, n]));
        let rows = rows.into_iter().collect::<Result<Vec<_>, _>>()?;
        let rows = concat(&rows.iter().collect::<Vec<_>>(), 0)?;
        Ok(state.remember(SEARCH[0], rows).remember(SEARCH[1], concat(&[&width, &number], 0)?))
    }
}

impl Driver {
    /// A step by search: the best of the candidates and of the overlay there was, on the rows of this window.
    pub(super) fn search(&self, of: Search, number: usize, sight: &Sight, before: &Carried) -> Result<Stepped, Error> {
        let seen = self.look(before, before.delta(), &sight.rows, Look::First)?;
        let before = self.with_running(before.clone(), &seen);
        let chosen = Chosen::all(&before);
        let judge = |delta: Tensor| -> Result<Tensor, Error> {
            let seen = self.look(&before, &delta, &sight.rows, Look::Again)?;
            self.penalized(&self.evidence(&seen, None, sight, &delta), &chosen)
        };
        let objective = self.penalized(&self.evidence(&seen, None, sight, before.delta()), &chosen)?;
        let tag = u32::try_from(number).unwrap_or(u32::MAX);
        let (candidates, steps) = of.draw(&before, &Draw::Search.key(&sight.key)?.fold_in(tag)?)?;
        let objectives = vmap_with(judge, candidates.clone())?;
        // What is not finite is worse than everything.
        let finite = objectives.is_finite()?;
        let objectives = finite.select(&objectives, &objectives.full_like(f32::MAX)?)?;
        let best = objectives.argmin(0)?.reshape(&[1])?;
        let found = candidates.take(&best)?.reshape(&[before.delta().numel()])?;
        let better = objectives.min_keep(&[0])?.lt(&objective.reshape(&[1])?)?;
        let delta = better.select(&found, before.delta())?;
        let state = of.follow(before.clone(), &steps, &objectives)?;
        let state = state.stepped(self.trusted(delta)?, before.optimizer().clone());
        Ok(Stepped { objective, seen, view: None, chosen, state, kept: None, resets: Resets::default() })
    }
}
