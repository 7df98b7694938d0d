//! Learning: the reader on all words, the scorer on what they contribute, both on the chosen words.

use std::sync::Arc;

use acclimate_kernels::random::Key;
use acclimate_tensor::{Tensor, Tree, grad};
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Fit, Progress};
use acclimate_train::optim::{self, Schedule};
use acclimate_train::{Layer, Params, Pass, Result as TrainResult, loss};

use super::network::{Reader, Scorer, present};
use super::selector::{Texts, WordSelector};
use crate::error::Error;
use crate::select::in_training;
use crate::select::relaxed::{gumbel, straight_through};

/// Keeps the mean square of contributions from 0.
const TINY: f32 = 1e-12;

/// How long and how fast to learn.
#[derive(Clone, Debug)]
pub struct WordRecipe {
    /// Times through the texts.
    pub epochs: u64,
    /// Texts of a batch; texts of nearly the same length go together.
    pub batch: usize,
    /// First learning rate of Adam; it falls to a fiftieth along a line.
    pub rate: f32,
    /// Seed of order, dropout and noise.
    pub seed: u64,
    /// How to show progress.
    pub progress: Progress,
}

/// What each word contributes to a reader's answer: the derivative of z_ŷ − mean of the other logits by the word's weight,
/// ŷ the most likely class; over each text scaled to a mean square of 1, padding 0. Shapes: ids [n, l] → [n, l].
pub fn contributions(reader: &Reader, params: &Params, ids: &Tensor) -> TrainResult<Tensor> {
    let there = present(ids)?;
    let logits = reader.read(params, ids, &there, &mut Pass::infer())?;
    let classes = reader.classes() as f32;
    let best = crate::select::one_hot_of_largest(&logits).map_err(in_training)?;
    // 1 for ŷ, −1/(c − 1) for the others.
    let sign = best.mul_scalar(classes / (classes - 1.0))?.add_scalar(-1.0 / (classes - 1.0))?;
    let margin = logits.mul(&sign)?.sum(&[])?;
    let raw = grad(&margin, there.clone())?.mul(&there)?;
    let length = there.sum_keep(&[1])?.add_scalar(TINY)?;
    let mean_square = raw.square()?.sum_keep(&[1])?.div(&length)?.add_scalar(TINY)?;
    Ok(raw.mul(&mean_square.rsqrt()?)?)
}

/// Learns a reader on all words.
///
/// # Errors
/// If texts and reader do not fit, or the device fails.
pub fn learn_reader(reader: &Reader, params: &Params, texts: &Texts, recipe: &WordRecipe) -> Result<Params, Error> {
    texts.check(reader.n_words(), reader.classes())?;
    let net = reader.clone();
    let objective = move |params: &Params, (ids, y): (Tensor, Tensor), key| {
        let mut pass = Pass::train(Key::from_tensor(key)?);
        loss::cross_entropy(&net.apply(params, &ids, &mut pass)?, &y)
    };
    recipe.run("reader, all words", params, texts, objective, |ids, y| (ids, y))
}

/// Learns a scorer: least squares on what words contribute to the reader's answers ([`contributions`]). `scorer_params` hold the
/// scorer, `reader_params` the reader.
///
/// # Errors
/// As [`learn_reader`].
pub fn learn_scorer(
    (scorer, scorer_params): (&Scorer, &Params),
    (reader, reader_params): (&Reader, &Params),
    texts: &Texts,
    recipe: &WordRecipe,
) -> Result<Params, Error> {
    texts.check(reader.n_words().min(scorer.n_words()), reader.classes())?;
    let (net, teacher) = (scorer.clone(), reader.clone());
    let objective = move |params: &Params, (ids, known): (Tensor, Params), _| {
        let wanted = contributions(&teacher, &known, &ids)?.detach()?;
        let there = present(&ids)?;
        let scores = net.apply(params, &ids, &mut Pass::infer())?;
        let missed = scores.sub(&wanted)?.square()?;
        let missed = there.gt(&there.zeros_like()?)?.select(&missed, &missed.zeros_like()?)?;
        Ok(missed.sum(&[])?.div(&there.sum(&[])?.add_scalar(TINY)?)?)
    };
    let known = reader_params.clone();
    recipe.run("scorer", scorer_params, texts, objective, move |ids, _| (ids, known.clone()))
}

/// Learns reader and scorer on the chosen words alone, by L2X with one sample without replacement: the k words of the largest
/// score + Gumbel noise (the Gumbel-top-k trick; Kool, van Hoof, Welling 2019) are read, each with the weight
/// 1 − sg(σ(a)) + σ(a), a its noisy score less the middle between the k-th score and the next, k that of the batch's padded
/// length. `noise` scales the noise. Labels are those of the texts.
///
/// # Errors
/// As [`learn_reader`].
pub fn learn_together(
    selector: &Arc<WordSelector>,
    params: &Params,
    texts: &Texts,
    noise: f32,
    recipe: &WordRecipe,
) -> Result<Params, Error> {
    texts.check(selector.reader.n_words().min(selector.scorer.n_words()), selector.reader.classes())?;
    let net = selector.clone();
    let objective = move |params: &Params, (ids, y): (Tensor, Tensor), key| {
        let key = Key::from_tensor(key)?;
        let mut pass = Pass::train(key.fold_in(0)?);
        let scores = net.scorer.apply(params, &ids, &mut pass)?;
        let drawn = gumbel(&key.fold_in(1)?, ids.dims()).map_err(in_training)?;
        let noisy = scores.add(&drawn.mul_scalar(noise)?)?;
        let [words, weights, _, best] = net.choose(&ids, &noisy).map_err(in_training)?;
        let k = words.dims().get(1).copied().unwrap_or(0);
        let middle =
            best.narrow(1, k - 1, 1)?.add(&best.narrow(1, best.dims()[1] - 1, 1)?)?.mul_scalar(0.5)?.detach()?;
        let soft = best.narrow(1, 0, k)?.sub(&middle)?.sigmoid()?;
        let weights = weights.mul(&straight_through(&weights.ones_like()?, &soft).map_err(in_training)?)?;
        loss::cross_entropy(&net.reader.read(params, &words, &weights, &mut pass)?, &y)
    };
    recipe.run("chosen words", params, texts, objective, |ids, y| (ids, y))
}

impl WordRecipe {
    pub(super) fn run<B: Tree + 'static>(
        &self,
        label: &str,
        params: &Params,
        texts: &Texts,
        objective: impl Fn(&Params, B, Tensor) -> TrainResult<Tensor> + Send + Sync + 'static,
        batch: impl Fn(Tensor, Tensor) -> B,
    ) -> Result<Params, Error> {
        let size = self.batch.clamp(1, texts.len());
        // What is left over from full groups is left out of this run.
        let groups: Vec<Vec<usize>> = texts.groups(size).into_iter().filter(|g| g.len() == size).collect();
        let device = params.device().clone();
        let steps = (self.epochs * groups.len() as u64).max(1);
        let rate = Schedule::linear(self.rate, 0.02 * self.rate, steps);
        let fit = Fit::new(optim::adam(rate), objective).epochs(self.epochs).check_every(20).seed(self.seed);
        let fit = fit.label(label).progress(self.progress);
        let batches = Batches::new(groups.len(), 1, self.seed, Tail::Keep).map_err(acclimate_train::Error::from)?;
        let trained = fit.run(fit.begin(params)?, &batches, |positions| {
            let group = positions.first().and_then(|&i| groups.get(i)).map(Vec::as_slice).unwrap_or_default();
            let ids = texts.padded(&device, group, size).map_err(in_training)?;
            let y: Vec<u32> = group.iter().filter_map(|&i| texts.labels().get(i).copied()).collect();
            Ok(batch(ids, Tensor::from_slice(&device, &y, &[y.len()])?))
        })?;
        Ok(trained.params)
    }
}
