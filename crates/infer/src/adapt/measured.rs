//! What is measured of a network and a few of its inputs before a method is recommended.

use acclimate_tensor::Tensor;
use acclimate_train::params::Kind;
use acclimate_train::{Layer, Params, Pass};
use serde::Serialize;

use crate::error::Error;
use crate::report_row::softmax;
use crate::source::SourceStatistics;

/// Numbers that a recommendation rests on; none of them needs a label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Inputs looked at.
    pub inputs: usize,
    /// Classes of the network.
    pub classes: usize,
    /// Normalization layers that keep running statistics.
    pub batch_norms: usize,
    /// Normalization layers that look at one input at a time (group, layer).
    pub other_norms: usize,
    /// Whether the last weight is a linear map to the classes.
    pub linear_head: bool,
    /// Mean entropy of the frozen answers, as a share of ln C.
    pub entropy: f64,
    /// Entropy of the mean frozen answer, as a share of ln C: low where one class is predicted for most.
    pub marginal_entropy: f64,
    /// Share of the inputs that get the class predicted most.
    pub largest_class: f64,
    /// By how many standard deviations the predicted classes have fewer runs than in random order (Wald and Wolfowitz 1940, for
    /// several classes Mood 1940). None below 20 inputs, or where all get one class.
    pub runs: Option<f64>,
    /// How unusual the inputs are, if source statistics were given.
    pub unusual: Option<Unusual>,
    /// Whether all values lie in 0..=1, as a correction of the sensor needs.
    pub unit_range: bool,
}

/// How unusual inputs are under the source statistics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Unusual {
    /// The score that 95 % of the source images stay at or below.
    pub gate: f32,
    /// Median score of the inputs.
    pub median: f32,
    /// Share of the inputs above the gate.
    pub share: f64,
}

/// Share of the source images that count as ordinary.
const ORDINARY: f64 = 0.95;
/// Inputs of a forward pass.
const CHUNK: usize = 200;
/// Inputs from which on the order of classes says something.
const ENOUGH: usize = 20;

impl Measured {
    /// Measures a network on `images`, [n, c, h, w] on the host, in the order in which they arrive.
    pub(super) fn of(
        model: &dyn Layer,
        params: &Params,
        images: &[f32],
        dims: [usize; 3],
        source: Option<&SourceStatistics>,
    ) -> Result<Self, Error> {
        let size: usize = dims.iter().product();
        if size == 0 || images.is_empty() {
            return Err(Error::Empty { what: "the list of inputs to recommend a method for" });
        }
        if !images.len().is_multiple_of(size) {
            return Err(Error::size("values of inputs to recommend for", format!("inputs of {dims:?}"), images.len()));
        }
        if let Some(position) = images.iter().position(|x| !x.is_finite()) {
            let found = images[position].to_string();
            return Err(Error::Value { what: "inputs to recommend for", position, expected: "a number".into(), found });
        }
        let (mut logits, mut scores, mut classes, mut norms) = (Vec::new(), Vec::new(), 0, 0);
        for part in images.chunks(CHUNK * size) {
            let x = Tensor::from_slice(params.device(), part, &[part.len() / size, dims[0], dims[1], dims[2]])?;
            let mut pass = Pass::infer().with_taps();
            let y = model.apply(params, &x, &mut pass)?;
            if y.dims().len() != 2 || y.dims()[1] < 2 {
                return Err(Error::size("answers of the network", "[n, at least 2 classes]", y.shape()));
            }
            let taps = pass.take_taps();
            (classes, norms) = (y.dims()[1], taps.len());
            if let Some(source) = source {
                scores.extend(source.score(&taps)?.to_vec::<f32>()?);
            }
            logits.extend(y.to_vec::<f32>()?);
        }
        let gate = source.map(|s| s.quantile(ORDINARY));
        let batch_norms = params
            .buffer_index()
            .map_or(0, |index| index.entries().iter().filter(|entry| entry.kind == Kind::RunningMean).count());
        let last = params.index().entries().iter().rev().find(|entry| entry.kind == Kind::Weight);
        let answers = Answers::of(&logits, classes);
        Ok(Measured {
            inputs: images.len() / size,
            classes,
            batch_norms,
            other_norms: norms.saturating_sub(batch_norms),
            linear_head: last.is_some_and(|entry| entry.shape.dims().len() == 2 && entry.shape.dims()[0] == classes),
            entropy: answers.entropy,
            marginal_entropy: answers.marginal_entropy,
            largest_class: answers.counts.iter().copied().fold(0.0, f64::max) / answers.labels.len() as f64,
            runs: runs(&answers.labels, &answers.counts),
            unusual: gate.map(|gate| unusual(scores, gate)),
            unit_range: images.iter().all(|x| (0.0..=1.0).contains(x)),
        })
    }
}

fn unusual(mut scores: Vec<f32>, gate: f32) -> Unusual {
    scores.sort_by(f32::total_cmp);
    // A score that is no number is as unusual as can be.
    let above = scores.iter().filter(|&&s| s.is_nan() || s > gate).count();
    let median = scores.get(scores.len() / 2).copied().unwrap_or(f32::NAN);
    Unusual { gate, median, share: above as f64 / scores.len().max(1) as f64 }
}

/// Frozen answers.
struct Answers {
    labels: Vec<usize>,
    counts: Vec<f64>,
    entropy: f64,
    marginal_entropy: f64,
}

impl Answers {
    fn of(logits: &[f32], classes: usize) -> Self {
        let n = (logits.len() / classes) as f64;
        let ln_c = (classes as f64).ln();
        let (mut mean, mut counts) = (vec![0f64; classes], vec![0f64; classes]);
        let (mut labels, mut entropy) = (Vec::new(), 0.0);
        for row in logits.chunks_exact(classes) {
            let p: Vec<f64> = softmax(row).iter().map(|&p| f64::from(p)).collect();
            let best = (0..classes).rev().max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap_or(0);
            labels.push(best);
            counts[best] += 1.0;
            entropy += of_distribution(&p) / n;
            mean.iter_mut().zip(&p).for_each(|(m, p)| *m += p / n);
        }
        Answers { labels, counts, entropy: entropy / ln_c, marginal_entropy: of_distribution(&mean) / ln_c }
    }
}

fn of_distribution(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// By how many standard deviations there are fewer runs of equal labels than where every order is equally likely. That holds
/// whatever the labels' distribution is, so also where a shift makes the network prefer some classes.
fn runs(labels: &[usize], counts: &[f64]) -> Option<f64> {
    let n = labels.len() as f64;
    if labels.len() < ENOUGH {
        return None;
    }
    let found = 1.0 + labels.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64;
    let (squares, cubes) = counts.iter().fold((0.0, 0.0), |(s, c), k| (s + k * k, c + k * k * k));
    let expected = (n * (n + 1.0) - squares) / n;
    let variance = (squares * (squares + n * (n + 1.0)) - 2.0 * n * cubes - n * n * n) / (n * n * (n - 1.0));
    (variance > 1e-9).then(|| (expected - found) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula beside all orders of a small list.
    #[test]
    fn runs_have_the_mean_and_spread_of_all_orders() {
        let mut labels: Vec<usize> = [[0; 9], [1; 9], [2; 9]].concat();
        let counts = [9.0, 9.0, 9.0];
        let (mut sum, mut squares, n) = (0.0, 0.0, 20_000);
        let mut state = 1u64;
        for _ in 0..n {
            for i in (1..labels.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                labels.swap(i, ((state >> 33) % (i as u64 + 1)) as usize);
            }
            let z = runs(&labels, &counts).unwrap();
            sum += z;
            squares += z * z;
        }
        // Standard errors over 20,000 orders: 0.007 and 0.01.
        assert!((sum / f64::from(n)).abs() < 0.03, "{}", sum / f64::from(n));
        assert!((squares / f64::from(n) - 1.0).abs() < 0.04, "{}", squares / f64::from(n));
        labels.sort_unstable();
        assert!(runs(&labels, &counts).unwrap() > 6.0);
        assert_eq!(runs(&[1; 30], &[0.0, 30.0]), None);
        assert_eq!(runs(&labels[..19], &counts), None);
    }
}
