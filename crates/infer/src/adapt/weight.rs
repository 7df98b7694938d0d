//! What each row of a batch counts in the objective. Weights carry no gradient.

use acclimate_kernels::TensorOps;
use acclimate_tensor::{DType, Tensor};
use acclimate_train::loss;
use serde::Serialize;

use super::guard::{CLASSES, Judged};
use crate::error::Error;

/// What a row counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Weighting {
    /// All the same; the objective is the mean over the rows kept.
    #[default]
    Equal,
    /// exp(share·ln C − H): sure rows count more (EATA). The objective is divided by the number of rows kept.
    Confidence(f32),
    /// exp(share·ln C − H) + exp(what the class loses when patches are shuffled) (DeYO). Divided as above.
    ConfidenceAndShape(f32),
    /// exp(diversity·certainty/temperature), both scaled to 0..1 over the batch (ROID). The objective is divided by the
    /// number of rows of the batch, kept or not.
    DiversityAndCertainty {
        /// 1/3 in the paper: the largest weight is e³.
        temperature: f32,
    },
}

impl Weighting {
    /// Whether the objective is divided by all rows, and not by those kept.
    pub(super) fn is_over_batch(self) -> bool {
        matches!(self, Weighting::DiversityAndCertainty { .. })
    }

    /// The weights of a window's rows: f32 `[n]`.
    pub(super) fn of(self, of: &Judged<'_>) -> Result<Option<Tensor>, Error> {
        let ln_c = (of.logits.dims()[1] as f32).ln();
        let sure = |share: f32| -> Result<Tensor, Error> {
            Ok(loss::entropy(of.logits)?.neg()?.add_scalar(share * ln_c)?.exp()?)
        };
        Ok(match self {
            Weighting::Equal => None,
            Weighting::Confidence(share) => Some(sure(share)?),
            Weighting::ConfidenceAndShape(share) => Some(sure(share)?.add(&drops(of)?.exp()?)?),
            Weighting::DiversityAndCertainty { temperature } => {
                let certainty = unit_range(&loss::entropy(of.logits)?.neg()?)?;
                let both = diversity(of.logits, of.state.memory(CLASSES)?)?.mul(&certainty)?;
                Some(both.mul_scalar(1.0 / temperature)?.exp()?)
            }
        })
    }
}

/// Cosine of each row's probabilities with a vector: logits [n, c], mean `[c]` → `[n]`.
pub(super) fn cosines(logits: &Tensor, mean: &Tensor) -> Result<Tensor, Error> {
    let p = logits.softmax(1)?;
    let product = p.mul(mean)?.sum(&[1])?;
    let lengths = p.square()?.sum(&[1])?.sqrt()?.mul(&mean.square()?.sum(&[])?.sqrt()?)?;
    Ok(product.div(&lengths.maximum(&lengths.full_like(1e-8)?)?)?)
}

/// 1 − cosine with the mean, scaled to 0..1 over the rows.
pub(super) fn diversity(logits: &Tensor, mean: &Tensor) -> Result<Tensor, Error> {
    unit_range(&cosines(logits, mean)?.neg()?.add_scalar(1.0)?)
}

/// (x − min)/(max − min); zeros where all are equal, as for a single row.
fn unit_range(x: &Tensor) -> Result<Tensor, Error> {
    let (low, high) = (x.min_keep(&[0])?, x.max_keep(&[0])?);
    let range = high.sub(&low)?;
    let some = range.gt(&range.zeros_like()?)?;
    let scaled = x.sub(&low)?.div(&some.select(&range, &range.ones_like()?)?)?;
    Ok(some.broadcast_to(x.shape())?.select(&scaled, &x.zeros_like()?)?)
}

/// What the likeliest class of each row loses in probability when its patches are shuffled: `[n]`.
pub(super) fn drops(of: &Judged<'_>) -> Result<Tensor, Error> {
    let shuffled = of.shuffled.as_ref().ok_or(Error::Empty { what: "the shuffled rows of this window" })?;
    let [n, c] = [of.logits.dims()[0], of.logits.dims()[1]];
    let class = of.logits.argmax(1)?.reshape(&[n, 1])?;
    let hit = Tensor::iota(of.logits.device(), &[n, c], 1)?.eq(&class)?;
    debug_assert_eq!(hit.dtype(), DType::Bool);
    let at = |logits: &Tensor| -> Result<Tensor, Error> {
        let p = logits.softmax(1)?;
        Ok(hit.select(&p, &p.zeros_like()?)?.sum(&[1])?)
    };
    Ok(at(of.logits)?.sub(&at(shuffled)?)?)
}
