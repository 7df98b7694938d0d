//! Evaluation that tells the truth: accuracy, calibration, time, how often a method acted and how often a guard undid it.
//!
//! [`evaluate`] answers a set in order. [`protocol`] runs a method over a [`stream`] of shifts in some order, or in real
//! time; [`versus`] compares methods input by input; [`table`] makes rows of it.

pub mod protocol;
pub mod stream;
pub mod table;
pub mod versus;

use std::time::Instant;

use crate::error::Error;
use crate::metrics::Scores;
use crate::receipt::Action;
use crate::report::ResultRow;
use crate::session::{Answered, Session};

/// Images of [c, h, w] with values in 0..1, one after the other, and their labels.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Pixels.
    pub images: &'a [f32],
    /// Sizes of an image.
    pub dims: [usize; 3],
    /// Class of each image.
    pub labels: &'a [u32],
}

/// What a method did on a set of images.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Accuracy, calibration and the rest.
    pub scores: Scores,
    /// Milliseconds per image, planning apart.
    pub ms_per_image: f64,
    /// Images for which something was moved and kept.
    pub acted: usize,
    /// Images for which a guard undid the change.
    pub rolled_back: usize,
    /// Every answer, in order.
    pub answers: Vec<Answered>,
}

/// Answers all images in batches of `batch` and scores the answers.
pub fn evaluate(session: &mut Session, data: Labelled<'_>, batch: usize) -> Result<Evaluation, Error> {
    let size: usize = data.dims.iter().product();
    let n = data.labels.len();
    if data.images.len() != n * size || n == 0 {
        return Err(Error::size("images to evaluate", format!("{n} of {:?}", data.dims), data.images.len()));
    }
    let started = Instant::now();
    let mut answers = Vec::with_capacity(n);
    for part in data.images.chunks(batch.max(1) * size) {
        answers.extend(session.answer(part, data.dims)?);
    }
    let ms_per_image = started.elapsed().as_secs_f64() * 1e3 / n as f64;
    let classes = answers.first().map_or(0, |a| a.logits.len());
    let probabilities: Vec<f32> = answers.iter().flat_map(Answered::probabilities).collect();
    let labels: Vec<usize> = data.labels.iter().map(|&l| l as usize).collect();
    let scores = Scores::measure(&probabilities, classes, &labels)?;
    let count = |action: Action| answers.iter().filter(|a| a.receipt.facts.verdict.action == action).count();
    Ok(Evaluation {
        scores,
        ms_per_image,
        acted: count(Action::Accepted),
        rolled_back: count(Action::RolledBack),
        answers,
    })
}

impl Evaluation {
    /// As a row of a results table.
    pub fn row(&self, shift: &str, severity: u8, method: &str, seed: u64) -> ResultRow {
        ResultRow {
            shift: shift.to_owned(),
            severity: severity.into(),
            method: method.to_owned(),
            images: self.scores.n,
            accuracy: self.scores.accuracy,
            ece: self.scores.ece,
            ms_per_image: self.ms_per_image,
            acted: self.acted,
            rolled_back: self.rolled_back,
            seed,
        }
    }
}
