//! Static subsets, the same for every input: what adaptive selection has to beat.

use std::sync::Arc;

use acclimate_kernels::TensorOps;
use acclimate_tensor::{Compiled, Tensor, compile};
use acclimate_train::{Params, Pass};

use super::learn::Rows;
use super::selector::Selector;
use crate::error::Error;

/// Above this number of features, subsets are grown one feature at a time; up to it, all are tried.
const EXHAUSTIVE: usize = 12;
/// Rows of one call.
const CHUNK: usize = 1024;

/// 1 for the features of a subset, [features].
pub(super) fn mask(subset: &[usize], n_features: usize) -> Result<Vec<f32>, Error> {
    let mut mask = vec![0.0; n_features];
    for (position, &feature) in subset.iter().enumerate() {
        let Some(one) = mask.get_mut(feature) else {
            let (expected, found) = (format!("a feature below {n_features}"), feature.to_string());
            return Err(Error::Value { what: "the subset", position, expected, found });
        };
        *one = 1.0;
    }
    Ok(mask)
}

/// Judges one predictor on many fixed subsets: one plan.
pub struct Judge<'a> {
    rows: &'a Rows,
    step: Compiled<(Params, Tensor, Tensor), Tensor, Error>,
    n_features: usize,
}

/// How a predictor does on a subset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean −log p of the right class.
    pub loss: f64,
}

impl<'a> Judge<'a> {
    /// On these rows.
    pub fn new(selector: &Arc<Selector>, rows: &'a Rows) -> Self {
        let (net, f) = (selector.clone(), selector.features.len());
        let step = compile(move |(params, x, mask): (Params, Tensor, Tensor)| {
            let n = x.dims().first().copied().unwrap_or(0);
            let logits = net.predict(&params, &x, &mask.expand(&[n, f])?, &mut Pass::infer())?;
            Ok::<_, Error>(logits.log_softmax(1)?)
        });
        Judge { rows, step, n_features: f }
    }

    /// A predictor that sees the subset only.
    ///
    /// # Errors
    /// If the subset names no feature, a label no class, or the device fails.
    pub fn judge(&self, params: &Params, subset: &[usize]) -> Result<Judged, Error> {
        let device = params.device();
        let mask = Tensor::from_slice(device, &mask(subset, self.n_features)?, &[1, self.n_features])?;
        let (mut right, mut loss) = (0usize, 0.0);
        let positions: Vec<usize> = (0..self.rows.len()).collect();
        for chunk in positions.chunks(CHUNK) {
            let (x, y) = self.rows.batch(device, chunk)?;
            let (_, log_p) = self.step.call_read::<f32>((params.clone(), x, mask.clone()))?;
            let classes = log_p.len() / y.numel().max(1);
            for (log_p, &row) in log_p.chunks(classes.max(1)).zip(chunk) {
                let label = self.rows.y()[row] as usize;
                let Some(of_label) = log_p.get(label) else {
                    return Err(Error::size("labels", format!("classes below {classes}"), label));
                };
                right += usize::from(crate::metrics::first_peak(log_p) == label);
                loss -= f64::from(*of_label);
            }
        }
        let n = self.rows.len() as f64;
        Ok(Judged { accuracy: right as f64 / n, loss: loss / n })
    }

    /// For each size from 1 to `most` the `keep` subsets with the lowest loss under a predictor that answers from any subset
    /// ([`super::warm_up`]): of all subsets up to 12 features, of those grown greedily (a beam of `keep`) beyond.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    pub fn best_subsets(&self, params: &Params, most: usize, keep: usize) -> Result<Vec<Vec<Vec<usize>>>, Error> {
        let f = self.n_features;
        let mut sizes: Vec<Vec<Vec<usize>>> = Vec::new();
        for size in 1..=most.min(f) {
            let smaller = sizes.last().cloned().unwrap_or_else(|| vec![Vec::new()]);
            let mut candidates: Vec<Vec<usize>> = if f <= EXHAUSTIVE {
                (0u32..1 << f)
                    .filter(|bits| bits.count_ones() as usize == size)
                    .map(|bits| (0..f).filter(|j| bits >> j & 1 == 1).collect())
                    .collect()
            } else {
                let grown = |s: &Vec<usize>, j: usize| {
                    let mut larger = s.clone();
                    larger.push(j);
                    larger.sort_unstable();
                    larger
                };
                let more =
                    |s: &'_ Vec<usize>| (0..f).filter(|j| !s.contains(j)).map(|j| grown(s, j)).collect::<Vec<_>>();
                smaller.iter().flat_map(more).collect()
            };
            candidates.sort();
            candidates.dedup();
            let mut judged = Vec::with_capacity(candidates.len());
            for subset in candidates {
                judged.push((self.judge(params, &subset)?.loss, subset));
            }
            judged.sort_by(|a, b| a.0.total_cmp(&b.0));
            sizes.push(judged.into_iter().take(keep.max(1)).map(|(_, subset)| subset).collect());
        }
        Ok(sizes)
    }
}
