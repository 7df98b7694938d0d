//! How good answers are and how well they know it: accuracy, calibration error, Brier score, negative log likelihood,
//! and the paired comparison of two methods on the same inputs.
//!
//! Probabilities are `[n, c]` row by row, labels are class indices. Sums run in f64. Every function refuses sizes that
//! do not agree, labels out of range, numbers that are no probabilities, and nothing at all.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Bins of the calibration errors, as in Guo et al. 2017 (<https://arxiv.org/abs/1706.04599>).
pub const BINS: usize = 15;

/// Slack on "a row of probabilities sums to one": f32 softmax over thousands of classes stays well within.
const SUM_SLACK: f64 = 1e-3;

/// Everything this module measures about one set of answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Inputs.
    pub n: usize,
    /// Fraction whose likeliest class is the label.
    pub accuracy: f64,
    /// Mean probability of the likeliest class.
    pub confidence: f64,
    /// Expected calibration error, [`BINS`] bins of equal width.
    pub ece: f64,
    /// Expected calibration error, [`BINS`] bins of equal mass.
    pub adaptive_ece: f64,
    /// Brier score Σ_c (p_c − y_c)², averaged; 0 is perfect, 2 the worst.
    pub brier: f64,
    /// Mean −ln p of the label, in nats.
    pub nll: f64,
}

impl Scores {
    /// Measures probabilities `[n, classes]` against `n` labels.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Size`], or [`Error::Value`] for a label out of range, a NaN, a number outside
    /// [0, 1] or a row that does not sum to one.
    pub fn measure(probabilities: &[f32], classes: usize, labels: &[usize]) -> Result<Self, Error> {
        let rows = Rows::check(probabilities, classes, labels)?;
        let (confidence, correct) = rows.confidence_and_correct();
        let n = labels.len();
        Ok(Self {
            n,
            accuracy: mean(correct.iter().map(|&c| f64::from(u8::from(c))), n),
            confidence: mean(confidence.iter().map(|&c| f64::from(c)), n),
            ece: ece(&confidence, &correct)?,
            adaptive_ece: adaptive_ece(&confidence, &correct)?,
            brier: mean(rows.iter().map(|(row, label)| brier_of(row, label)), n),
            nll: mean(rows.iter().map(|(row, label)| nll_of(row, label)), n),
        })
    }
}

/// Fraction of rows whose likeliest class (the first of equals) is the label.
///
/// # Errors
/// As [`Scores::measure`].
pub fn accuracy(probabilities: &[f32], classes: usize, labels: &[usize]) -> Result<f64, Error> {
    let rows = Rows::check(probabilities, classes, labels)?;
    Ok(mean(rows.iter().map(|(row, label)| f64::from(u8::from(first_peak(row) == label))), labels.len()))
}

/// Brier score: mean of Σ_c (p_c − y_c)² with y the one-hot label.
///
/// # Errors
/// As [`Scores::measure`].
pub fn brier(probabilities: &[f32], classes: usize, labels: &[usize]) -> Result<f64, Error> {
    let rows = Rows::check(probabilities, classes, labels)?;
    Ok(mean(rows.iter().map(|(row, label)| brier_of(row, label)), labels.len()))
}

/// Mean −ln p of the label, in nats. A probability that underflowed counts as the smallest normal f32 (87.3 nats), so
/// that one certain mistake does not hide all else behind an infinity.
///
/// # Errors
/// As [`Scores::measure`].
pub fn nll(probabilities: &[f32], classes: usize, labels: &[usize]) -> Result<f64, Error> {
    let rows = Rows::check(probabilities, classes, labels)?;
    Ok(mean(rows.iter().map(|(row, label)| nll_of(row, label)), labels.len()))
}

/// Expected calibration error Σ_b (n_b / n) · |accuracy_b − confidence_b| over [`BINS`] bins of equal width, a bin
/// holding lower < confidence ≤ upper (0 belongs to the first). Guo et al. 2017.
///
/// ```
/// let confidence = [0.95, 0.93, 0.61, 0.35, 0.99, 0.72];
/// let ece = acclimate_infer::metrics::ece(&confidence, &[true, false, true, false, true, true])?;
/// assert!((ece - 0.335).abs() < 1e-6);
/// # Ok::<(), acclimate_infer::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Empty`], [`Error::Size`], or [`Error::Value`] for a confidence outside [0, 1].
pub fn ece(confidence: &[f32], correct: &[bool]) -> Result<f64, Error> {
    check_confidence(confidence, correct)?;
    let mut bins = [Bin::default(); BINS];
    for (&c, &hit) in confidence.iter().zip(correct) {
        // Compared with the bounds as f32, like the confidence: 0.2f32 lies above the real number 0.2 but belongs below.
        let upper = |b: usize| (b + 1) as f32 / BINS as f32;
        let bin = (0..BINS - 1).find(|&b| c <= upper(b)).unwrap_or(BINS - 1);
        bins[bin].add(c, hit);
    }
    Ok(gap(&bins, confidence.len()))
}

/// The same over bins of equal mass: confidences in rising order, cut into [`BINS`] runs of as equal length as
/// possible. Nixon et al. 2019 (<https://arxiv.org/abs/1904.01685>).
///
/// # Errors
/// As [`ece`].
pub fn adaptive_ece(confidence: &[f32], correct: &[bool]) -> Result<f64, Error> {
    check_confidence(confidence, correct)?;
    let mut sorted: Vec<(f32, bool)> = confidence.iter().copied().zip(correct.iter().copied()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = sorted.len();
    let mut bins = [Bin::default(); BINS];
    for (b, bin) in bins.iter_mut().enumerate() {
        for &(c, hit) in &sorted[b * n / BINS..(b + 1) * n / BINS] {
            bin.add(c, hit);
        }
    }
    Ok(gap(&bins, n))
}

/// Two methods on the same inputs: how many answers the second put right and how many it spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// Wrong before, right after.
    pub helped: usize,
    /// Right before, wrong after.
    pub harmed: usize,
    /// Right both times.
    pub both_right: usize,
    /// Wrong both times.
    pub both_wrong: usize,
}

impl Paired {
    /// Counts pairs from "was right" of each input, before and after.
    ///
    /// # Errors
    /// [`Error::Empty`] or [`Error::Size`].
    pub fn count(before: &[bool], after: &[bool]) -> Result<Self, Error> {
        non_empty("answers to compare", before.len())?;
        same_length("answers after, one for each before", before.len(), after.len())?;
        let mut counts = Self { helped: 0, harmed: 0, both_right: 0, both_wrong: 0 };
        for pair in before.iter().zip(after) {
            *match pair {
                (false, true) => &mut counts.helped,
                (true, false) => &mut counts.harmed,
                (true, true) => &mut counts.both_right,
                (false, false) => &mut counts.both_wrong,
            } += 1;
        }
        Ok(counts)
    }

    /// Exact two-sided McNemar test: how likely so uneven a split of helped and harmed is if neither is likelier.
    pub fn p_value(&self) -> f64 {
        let discordant = self.helped + self.harmed;
        let fewer = self.helped.min(self.harmed);
        // ln of C(n, k) / 2^n from k to k + 1, so that thousands of pairs do not overflow.
        let mut ln_term = -(discordant as f64) * std::f64::consts::LN_2;
        let mut tail = 0.0;
        for k in 0..=fewer {
            tail += ln_term.exp();
            ln_term += ((discordant - k) as f64).ln() - ((k + 1) as f64).ln();
        }
        (2.0 * tail).min(1.0)
    }
}

#[derive(Clone, Copy, Default)]
struct Bin {
    confidence: f64,
    hits: f64,
}

impl Bin {
    fn add(&mut self, confidence: f32, hit: bool) {
        self.confidence += f64::from(confidence);
        self.hits += f64::from(u8::from(hit));
    }
}

/// Σ_b (n_b / n) · |hits_b / n_b − confidence_b / n_b|: the n_b cancel.
fn gap(bins: &[Bin], n: usize) -> f64 {
    mean(bins.iter().map(|bin| (bin.hits - bin.confidence).abs()), n)
}

fn mean(terms: impl Iterator<Item = f64>, n: usize) -> f64 {
    terms.sum::<f64>() / n as f64
}

/// Probabilities and labels that were found to fit together.
struct Rows<'a> {
    probabilities: &'a [f32],
    classes: usize,
    labels: &'a [usize],
}

impl<'a> Rows<'a> {
    fn check(probabilities: &'a [f32], classes: usize, labels: &'a [usize]) -> Result<Self, Error> {
        non_empty("classes", classes)?;
        non_empty("labels", labels.len())?;
        match labels.len().checked_mul(classes) {
            Some(expected) => same_length("probabilities [n, classes]", expected, probabilities.len())?,
            None => return Err(Error::size("probabilities [n, classes]", "a number that fits usize", "an overflow")),
        }
        for (position, &label) in labels.iter().enumerate() {
            if label >= classes {
                let expected = format!("a class below {classes}");
                return Err(Error::Value { what: "label", position, expected, found: label.to_string() });
            }
        }
        in_unit_interval("probability", probabilities)?;
        for (position, row) in probabilities.chunks_exact(classes).enumerate() {
            let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
            if (sum - 1.0).abs() > SUM_SLACK {
                let expected = "1: give probabilities, not logits".to_owned();
                return Err(Error::Value {
                    what: "sum of a row of probabilities",
                    position,
                    expected,
                    found: sum.to_string(),
                });
            }
        }
        Ok(Self { probabilities, classes, labels })
    }

    fn iter(&self) -> impl Iterator<Item = (&'a [f32], usize)> {
        self.probabilities.chunks_exact(self.classes).zip(self.labels.iter().copied())
    }

    fn confidence_and_correct(&self) -> (Vec<f32>, Vec<bool>) {
        self.iter()
            .map(|(row, label)| {
                let peak = first_peak(row);
                // Rounding may leave a probability a hair above 1, which check() lets pass.
                (row[peak].min(1.0), peak == label)
            })
            .unzip()
    }
}

/// Index of the largest number, the first of equals.
pub(crate) fn first_peak(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, &p)| if p > row[best] { i } else { best })
}

fn brier_of(row: &[f32], label: usize) -> f64 {
    row.iter().enumerate().map(|(c, &p)| (f64::from(p) - f64::from(u8::from(c == label))).powi(2)).sum()
}

fn nll_of(row: &[f32], label: usize) -> f64 {
    -f64::from(row[label].max(f32::MIN_POSITIVE)).ln()
}

fn check_confidence(confidence: &[f32], correct: &[bool]) -> Result<(), Error> {
    non_empty("confidences", confidence.len())?;
    same_length("answers marked right or wrong, one for each confidence", confidence.len(), correct.len())?;
    in_unit_interval("confidence", confidence)
}

fn non_empty(what: &'static str, n: usize) -> Result<(), Error> {
    if n == 0 { Err(Error::Empty { what }) } else { Ok(()) }
}

fn same_length(what: &str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::size(what, expected, found)) }
}

/// Rejects NaN too: no comparison holds for it.
fn in_unit_interval(what: &'static str, values: &[f32]) -> Result<(), Error> {
    let slack = 1.0 + 4.0 * f32::EPSILON;
    match values.iter().position(|x| !(0.0..=slack).contains(x)) {
        Some(position) => Err(Error::Value {
            what,
            position,
            expected: "a number in [0, 1]".to_owned(),
            found: values[position].to_string(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn calibration_error_by_hand() {
        let confidence = [0.95, 0.93, 0.61, 0.35, 0.99, 0.72];
        let correct = [true, false, true, false, true, true];
        near(ece(&confidence, &correct).unwrap(), 0.335);
        // Fewer inputs than bins: each is a bin of its own.
        near(adaptive_ece(&confidence, &correct).unwrap(), (0.05 + 0.93 + 0.39 + 0.35 + 0.01 + 0.28) / 6.0);
    }

    /// A bin holds its upper bound: (0.2, right) and (0.15, wrong) share the third of 15 bins, (0.2 + 1e-7) does not.
    #[test]
    fn a_bin_holds_its_upper_bound_and_not_its_lower() {
        near(ece(&[0.2, 0.15], &[true, false]).unwrap(), (1.0 - 0.35) / 2.0);
        near(ece(&[0.200_001, 0.15], &[true, false]).unwrap(), (0.8 + 0.15) / 2.0);
        near(ece(&[0.0, 1.0], &[false, true]).unwrap(), 0.0);
    }

    /// 30 inputs in two clumps inside one bin of equal width: equal mass tells them apart.
    #[test]
    fn equal_mass_sees_what_equal_width_hides() {
        let confidence: Vec<f32> = (0..30).map(|i| if i < 15 { 0.94 } else { 0.96 }).collect();
        let correct: Vec<bool> = (0..30).map(|i| i % 2 == 0 || i < 15).collect();
        let (width, mass) = (ece(&confidence, &correct).unwrap(), adaptive_ece(&confidence, &correct).unwrap());
        assert!(mass > width + 0.05, "{width} {mass}");
    }

    #[test]
    fn scores_by_hand() {
        let probabilities = [0.7, 0.2, 0.1, 0.1, 0.6, 0.3];
        let scores = Scores::measure(&probabilities, 3, &[0, 2]).unwrap();
        near(scores.accuracy, 0.5);
        near(scores.confidence, 0.65);
        near(scores.brier, ((0.09 + 0.04 + 0.01) + (0.01 + 0.36 + 0.49)) / 2.0);
        near(scores.nll, -(0.7_f64.ln() + 0.3_f64.ln()) / 2.0);
        near(scores.ece, (0.3 + 0.6) / 2.0);
        near(accuracy(&probabilities, 3, &[0, 1]).unwrap(), 1.0);
        near(brier(&[1.0, 0.0], 2, &[1]).unwrap(), 2.0);
        near(nll(&[1.0, 0.0], 2, &[1]).unwrap(), 126.0 * std::f64::consts::LN_2);
    }

    #[test]
    fn mcnemar_by_hand() {
        let before = [true, false, false, false, false, true];
        let after = [false, true, true, true, true, true];
        let paired = Paired::count(&before, &after).unwrap();
        assert_eq!(paired, Paired { helped: 4, harmed: 1, both_right: 1, both_wrong: 0 });
        near(paired.p_value(), 2.0 * (1.0 + 5.0) / 32.0);
        let even = |helped, harmed| Paired { helped, harmed, both_right: 0, both_wrong: 0 }.p_value();
        near(even(0, 0), 1.0);
        near(even(3, 3), 1.0);
        assert!(even(5_000, 5_100) > 0.3 && even(5_000, 6_000) < 1e-10);
    }

    #[test]
    fn wrong_input_is_refused_with_its_place() {
        let refuse = |p: &[f32], classes, labels: &[usize], words: &str| {
            let message = Scores::measure(p, classes, labels).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        refuse(&[0.5, 0.5], 2, &[], "labels is empty");
        refuse(&[], 0, &[0], "classes is empty");
        refuse(&[0.5, 0.5, 1.0], 2, &[0, 1], "expected 4, found 3");
        refuse(&[0.5, 0.5, 0.5, 0.5], 2, &[0, 2], "label at position 1");
        refuse(&[0.5, f32::NAN], 2, &[0], "probability at position 1");
        refuse(&[0.5, 0.2], 2, &[0], "give probabilities, not logits");
        refuse(&[1.5, -0.5], 2, &[0], "in [0, 1]");
        refuse(&[1.0], usize::MAX, &[0, 0], "overflow");
        assert!(ece(&[0.5], &[]).is_err() && ece(&[], &[]).is_err() && ece(&[f32::INFINITY], &[true]).is_err());
        assert!(Paired::count(&[true], &[]).is_err() && Paired::count(&[], &[]).is_err());
    }
}
