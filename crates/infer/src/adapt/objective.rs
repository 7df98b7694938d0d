//! Which loss. A loss is of one window: over the slots of a session it is summed, never averaged.

use acclimate_tensor::Tensor;
use acclimate_train::loss;
use acclimate_train::nn::{Masked, Masks, mask_loss, turn_loss};
use serde::Serialize;

use super::guard::Chosen;
use super::weight::Weighting;
use crate::error::Error;
use crate::views::Views;

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Objective {
    /// None: nothing is stepped.
    None,
    /// Mean entropy of the window's predictions (Wang et al. 2021).
    Entropy,
    /// Entropy of the mean prediction over the window's views (Zhang, Levine, Finn 2022).
    MarginalEntropy,
    /// Cross-entropy with the model's own answer (Lee 2013).
    PseudoLabel,
    /// Generalized cross-entropy with the model's own answer (Rusak et al. 2022).
    GeneralizedCrossEntropy(
        /// q, in (0, 1].
        f32,
    ),
    /// The entropy that keeps a mass for "unknown" (Zhang et al. 2025).
    ConservativeEntropy,
    /// Each row sure, the batch diverse (Liang, Hu, Feng 2020).
    InformationMaximization,
    /// The soft likelihood ratio, and the symmetric cross-entropy between the row and one view of it with gradients to both
    /// (Marsden, Döbler, Yang 2024). How the view is made; None leaves the second term out.
    LikelihoodRatio(Option<Views>),
    /// Cross-entropy against the teacher's answer (Wang et al. 2022).
    TeacherConsistency,
    /// Cross-entropy of the side head's guess by how many quarter turns each row was turned (Sun et al. 2020). The model must
    /// have one: [`acclimate_train::nn::TwoHeads`].
    QuarterTurns,
    /// Mean squared error of the side head's painting of patches that are hidden from it, over masks of each row (Gandelsman et
    /// al. 2022). The model must have a side head that paints: [`acclimate_train::nn::TwoHeads`].
    MaskedPatches(Masks),
    /// How unusual the layer statistics are under the source's, plus `entropy` times the entropy, plus `prior` times ‖Δ‖².
    FeatureLikelihood {
        /// Weight of the prediction's entropy.
        entropy: f32,
        /// Weight of ‖Δ‖².
        prior: f32,
    },
}

/// What a forward pass over the rows gave, as an objective sees it.
pub(super) struct Evidence<'a> {
    pub logits: &'a Tensor,
    /// Score of each row under the source statistics.
    pub score: Option<&'a Tensor>,
    /// Logits of one more view of each row, or of the side head for all turns.
    pub view: Option<&'a Tensor>,
    /// The masked rows that the view is of.
    pub masked: Option<&'a Masked>,
    /// The teacher's logits.
    pub teacher: Option<&'a Tensor>,
    /// The overlay.
    pub delta: &'a Tensor,
}

impl Objective {
    /// Whether it is a loss of each row, which guards may filter and weigh.
    pub(crate) fn is_of_rows(&self) -> bool {
        !matches!(
            self,
            Objective::None
                | Objective::MarginalEntropy
                | Objective::InformationMaximization
                | Objective::QuarterTurns
                | Objective::MaskedPatches(_)
                | Objective::FeatureLikelihood { .. }
        )
    }

    /// The loss of each row, `[n]`, if there is such a thing.
    fn rows(&self, seen: &Evidence<'_>) -> Result<Option<Tensor>, Error> {
        let z = seen.logits;
        Ok(Some(match self {
            Objective::Entropy => loss::entropy(z)?,
            Objective::PseudoLabel => loss::pseudo_label(z)?,
            Objective::GeneralizedCrossEntropy(q) => loss::generalized_cross_entropy(z, *q)?,
            Objective::ConservativeEntropy => loss::conservative_entropy(z)?,
            Objective::LikelihoodRatio(_) => {
                let own = loss::soft_likelihood_ratio(z)?;
                match seen.view {
                    Some(view) => own.add(&loss::symmetric_cross_entropy(view, z, 0.5)?)?,
                    None => own,
                }
            }
            Objective::TeacherConsistency => {
                let teacher = seen.teacher.ok_or(Error::Empty { what: "the teacher's answers" })?;
                loss::consistency(z, &teacher.detach()?)?
            }
            _ => return Ok(None),
        }))
    }

    /// Mean loss of the rows kept, without weights: what [`super::Guard::Recover`] watches.
    pub(super) fn mean_kept(&self, seen: &Evidence<'_>, chosen: &Chosen) -> Result<Tensor, Error> {
        match (self.rows(seen)?, &chosen.keep) {
            (Some(rows), Some(keep)) => Ok(loss::kept_sum(&rows, None, keep)?.div(&at_least_one(chosen)?)?),
            (Some(rows), None) => Ok(loss::mean(&rows)?),
            (None, _) => self.of(seen, chosen, Weighting::Equal),
        }
    }

    /// The objective of a window: a scalar.
    pub(super) fn of(&self, seen: &Evidence<'_>, chosen: &Chosen, weighting: Weighting) -> Result<Tensor, Error> {
        if let Some(rows) = self.rows(seen)? {
            let n = rows.dims()[0] as f32;
            let weights = chosen.weights.as_ref();
            return Ok(match (&chosen.keep, weights) {
                (Some(keep), _) => {
                    let sum = loss::kept_sum(&rows, weights, keep)?;
                    if weighting.is_over_batch() { sum.mul_scalar(1.0 / n)? } else { sum.div(&at_least_one(chosen)?)? }
                }
                (None, Some(weights)) => loss::mean(&rows.mul(weights)?)?,
                (None, None) => loss::mean(&rows)?,
            });
        }
        Ok(match self {
            Objective::MarginalEntropy => loss::marginal_entropy(seen.logits)?,
            Objective::InformationMaximization => loss::information_maximization(seen.logits)?,
            Objective::QuarterTurns => turn_loss(seen.view.ok_or(Error::Empty { what: "the side head's answers" })?)?,
            Objective::MaskedPatches(_) => {
                let none = Error::Empty { what: "the side head's paintings" };
                let (Some(painting), Some(masked)) = (seen.view, seen.masked) else { return Err(none) };
                mask_loss(painting, masked)?
            }
            Objective::FeatureLikelihood { prior, .. } => {
                let distance = seen.delta.square()?.sum(&[])?.mul_scalar(*prior)?;
                loss::mean(&self.scores(seen)?)?.add(&distance)?
            }
            _ => seen.logits.sum(&[])?.zeros_like()?,
        })
    }

    /// Feature score plus weighted entropy of each row: `[n]`.
    pub(super) fn scores(&self, seen: &Evidence<'_>) -> Result<Tensor, Error> {
        let score = seen.score.ok_or(Error::Empty { what: "the source statistics of this session" })?;
        let Objective::FeatureLikelihood { entropy, .. } = self else { return Ok(score.clone()) };
        Ok(score.add(&loss::entropy(seen.logits)?.mul_scalar(*entropy)?)?)
    }
}

/// Number of rows kept, at least 1: the divisor of a sum over them.
fn at_least_one(chosen: &Chosen) -> Result<Tensor, Error> {
    let count = chosen.count()?.ok_or(Error::Empty { what: "the marks of kept rows" })?;
    Ok(count.maximum(&count.ones_like()?)?)
}
