//! Training a selector, and predictors on fixed subsets, by the project's loop.

use std::sync::Arc;

use acclimate_kernels::random::{Key, uniform};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Fit, Progress};
use acclimate_train::optim::{self, Schedule};
use acclimate_train::{Layer, Params, Pass};

use super::selector::Selector;
use crate::error::Error;

/// Rows of numbers with their classes, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    x: Vec<f32>,
    y: Vec<u32>,
    columns: usize,
}

impl Rows {
    /// Numbers [n, columns] and a class for each row.
    ///
    /// # Errors
    /// If there is no row, sizes differ, or a number is not finite.
    pub fn new(x: Vec<f32>, y: Vec<u32>, columns: usize) -> Result<Self, Error> {
        if y.is_empty() {
            return Err(Error::Empty { what: "the rows" });
        }
        if Some(x.len()) != columns.checked_mul(y.len()) {
            return Err(Error::size("rows", format!("{} rows of {columns} numbers", y.len()), x.len()));
        }
        if let Some(position) = x.iter().position(|v| !v.is_finite()) {
            let found = x[position].to_string();
            return Err(Error::Value { what: "rows", position, expected: "a finite number".into(), found });
        }
        Ok(Rows { x, y, columns })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// Whether there is none; never.
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// The numbers, row by row.
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// The classes.
    pub fn y(&self) -> &[u32] {
        &self.y
    }

    /// The numbers of a row; none beyond the last.
    pub fn row(&self, row: usize) -> &[f32] {
        self.x.get(row * self.columns..(row + 1) * self.columns).unwrap_or_default()
    }

    /// Some of the rows.
    ///
    /// # Errors
    /// If none is left.
    pub fn at(&self, positions: &[usize]) -> Result<Self, Error> {
        let x = positions.iter().flat_map(|&i| self.row(i).iter().copied()).collect();
        let y = positions.iter().filter_map(|&i| self.y.get(i).copied()).collect();
        Rows::new(x, y, self.columns)
    }

    /// Fails unless each class is one that the selector tells apart. Records a pass and computes nothing.
    pub(super) fn check(&self, selector: &Selector, params: &Params) -> Result<(), Error> {
        let (x, _) = self.batch(params.device(), &[0])?;
        let classes = selector.forward(params, &x)?.dims().get(1).copied().unwrap_or(0);
        match self.y.iter().position(|y| *y as usize >= classes) {
            None => Ok(()),
            Some(position) => {
                let (expected, found) = (format!("a class below {classes}"), self.y[position].to_string());
                Err(Error::Value { what: "the classes of rows", position, expected, found })
            }
        }
    }

    pub(super) fn batch(
        &self,
        device: &Device,
        positions: &[usize],
    ) -> Result<(Tensor, Tensor), acclimate_train::Error> {
        let x: Vec<f32> = positions.iter().flat_map(|&i| self.row(i).iter().copied()).collect();
        let y: Vec<u32> = positions.iter().filter_map(|&i| self.y.get(i).copied()).collect();
        let n = y.len();
        Ok((Tensor::from_slice(device, &x, &[n, self.columns])?, Tensor::from_slice(device, &y, &[n])?))
    }
}

/// How long and how fast to learn.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Times through the data under random masks, for the predictor, before the method's own.
    pub warm_up: u64,
    /// Times through the data.
    pub epochs: u64,
    /// Rows of a batch.
    pub batch: usize,
    /// First learning rate of Adam.
    pub rate: f32,
    /// The last; it falls along a cosine. Values (`dime`) settle with a small one, a policy (`gdfs`) still has to move in its last,
    /// coldest stage.
    pub last_rate: f32,
    /// Seed of order and noise.
    pub seed: u64,
    /// How to show progress.
    pub progress: Progress,
}

impl Recipe {
    fn optimizer(&self, epochs: u64, rows: usize) -> optim::Optimizer {
        let steps = epochs.saturating_mul((rows / self.batch.max(1)).max(1) as u64).max(1);
        optim::adam(Schedule::cosine_to(self.rate, self.last_rate, steps))
    }

    fn run<B: acclimate_tensor::Tree + 'static>(
        &self,
        fit: Fit<B>,
        label: &str,
        epochs: u64,
        rows: usize,
        params: &Params,
        data: impl FnMut(&[usize]) -> acclimate_train::Result<B>,
    ) -> Result<Params, Error> {
        let batches =
            Batches::new(rows, self.batch.min(rows), self.seed, Tail::Drop).map_err(acclimate_train::Error::from)?;
        let fit = fit.epochs(epochs).check_every(50).seed(self.seed).label(label).progress(self.progress);
        Ok(fit.run(fit.begin(params)?, &batches, data)?.params)
    }
}

/// Learns a selector from `params` on: the predictor under random masks, then the method's own loss.
///
/// # Errors
/// If rows and selector do not fit, or the device fails.
pub fn learn(selector: &Arc<Selector>, params: Params, rows: &Rows, recipe: &Recipe) -> Result<Params, Error> {
    rows.check(selector, &params)?;
    let device = params.device().clone();
    let params = warm_up(selector, params, rows, recipe)?;
    if recipe.epochs == 0 {
        return Ok(params);
    }
    let net = selector.clone();
    let fit = Fit::new(
        recipe.optimizer(recipe.epochs, rows.len()),
        move |params, (x, y, knobs): (Tensor, Tensor, Tensor), key| {
            let key = Key::from_tensor(key)?;
            let draws = net.draws(&key.fold_in(0)?, y.numel()).map_err(super::in_training)?;
            let mut pass = Pass::train(key.fold_in(1)?);
            net.loss(params, (&x, &y), &knobs, &draws, &mut pass).map_err(super::in_training)
        },
    );
    let per_epoch = (rows.len() / recipe.batch.min(rows.len()).max(1)).max(1) as u64;
    let (steps, mut step) = (per_epoch * recipe.epochs, 0u64);
    recipe.run(fit, selector.method.name, recipe.epochs, rows.len(), &params, |positions| {
        let (x, y) = rows.batch(&device, positions)?;
        let knobs = selector.method.knobs(step as f64 / steps as f64);
        step += 1;
        Ok((x, y, Tensor::from_slice(&device, &knobs, &[2])?))
    })
}

/// Learns the predictor alone, under random masks, `recipe.warm_up` times through the data: it then answers from any subset.
///
/// # Errors
/// As [`learn`].
pub fn warm_up(selector: &Arc<Selector>, params: Params, rows: &Rows, recipe: &Recipe) -> Result<Params, Error> {
    if recipe.warm_up == 0 {
        return Ok(params);
    }
    rows.check(selector, &params)?;
    let (net, device, f) = (selector.clone(), params.device().clone(), selector.features.len());
    let fit = Fit::new(recipe.optimizer(recipe.warm_up, rows.len()), move |params, (x, y): (Tensor, Tensor), key| {
        let key = Key::from_tensor(key)?;
        let n = y.numel();
        let (each, share) = (uniform(&key.fold_in(0)?, &[n, f])?, uniform(&key.fold_in(1)?, &[n, 1])?);
        let mut pass = Pass::train(key.fold_in(2)?);
        net.masked_loss(params, (&x, &y), (&each, &share), &mut pass).map_err(super::in_training)
    });
    recipe.run(fit, "random masks", recipe.warm_up, rows.len(), &params, |positions| rows.batch(&device, positions))
}

/// Learns predictors on fixed subsets, `recipe.epochs` times through the data each: one plan for all of them.
///
/// # Errors
/// If a subset names no feature, or as [`learn`].
pub fn learn_static(
    selector: &Arc<Selector>,
    device: &Device,
    rows: &Rows,
    subsets: &[Vec<usize>],
    recipe: &Recipe,
) -> Result<Vec<Params>, Error> {
    let (net, f) = (selector.clone(), selector.features.len());
    let masks = subsets.iter().map(|s| super::statics::mask(s, f)).collect::<Result<Vec<_>, _>>()?;
    let optimizer = recipe.optimizer(recipe.epochs, rows.len());
    let fit = Fit::new(optimizer, move |params, (x, y, mask): (Tensor, Tensor, Tensor), key| {
        let mask = mask.expand(&[y.numel(), f])?;
        let mut pass = Pass::train(Key::from_tensor(key)?);
        let logits = net.predict(params, &x, &mask, &mut pass).map_err(super::in_training)?;
        acclimate_train::loss::cross_entropy(&logits, &y)
    })
    .epochs(recipe.epochs)
    .check_every(50)
    .seed(recipe.seed)
    .progress(Progress::Silent);
    let batches = Batches::new(rows.len(), recipe.batch.min(rows.len()), recipe.seed, Tail::Drop);
    let batches = batches.map_err(acclimate_train::Error::from)?;
    rows.check(selector, &selector.init(device, recipe.seed)?)?;
    let mut shown = recipe.progress.begin("static subsets", masks.len() as u64);
    let mut learned = Vec::with_capacity(masks.len());
    for (i, mask) in masks.iter().enumerate() {
        let start = fit.begin(&selector.init(device, recipe.seed)?)?;
        let trained = fit.run(start, &batches, |positions| {
            let (x, y) = rows.batch(device, positions)?;
            Ok((x, y, Tensor::from_slice(device, mask, &[1, f])?))
        })?;
        learned.push(trained.params);
        shown.step(i as u64 + 1);
    }
    shown.end(masks.len() as u64, "");
    Ok(learned)
}
