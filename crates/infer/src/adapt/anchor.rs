//! Anchors keep the overlay near the source: a penalty on Δ beside the objective.

use acclimate_tensor::{Tensor, grad};
use acclimate_train::{Layer, Params, Pass, Statistics, loss};
use serde::Serialize;

use super::Moves;
use crate::error::Error;
use crate::receipt::Digest;

/// How the importance of a parameter is estimated from unlabeled source inputs. Both square the gradient of the
/// cross-entropy with the model's own answer; a penalty's weight only makes sense with the definition it was tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FisherKind {
    /// The square of the gradient of a batch's *mean* loss, averaged over batches (what EATA's published weight of 2000
    /// was tuned for). About 1/B of the other for batches of B.
    BatchMeanSquared {
        /// B.
        batch: usize,
    },
    /// The square of each input's own gradient, averaged over inputs: the diagonal of the empirical Fisher information.
    PerSample,
}

/// Importance of each element of an overlay.
#[derive(Clone, Debug, Serialize)]
pub struct Fisher {
    kind: FisherKind,
    #[serde(skip)]
    values: Tensor,
    hash: Digest,
}

impl Fisher {
    /// Records it for `moves` on source images of `dims` [c, h, w]; what does not fill the last batch is left out. `statistics`: those of the method that will use it ([`Statistics::Batch`] for EATA); per-sample
    /// gradients are taken one input at a time, so there they must be ones that a single input can have.
    pub fn record(
        model: &dyn Layer,
        params: &Params,
        moves: &Moves,
        images: &[f32],
        dims: [usize; 3],
        kind: FisherKind,
        statistics: Statistics,
    ) -> Result<Self, Error> {
        let size: usize = dims.iter().product();
        let group = match kind {
            FisherKind::BatchMeanSquared { batch } => batch,
            FisherKind::PerSample => 1,
        };
        let n_groups = (images.len() / size.max(1)).checked_div(group).unwrap_or(0);
        if n_groups == 0 || !images.len().is_multiple_of(size.max(1)) {
            let expected = format!("at least {} of {dims:?}, whole ones", group.max(1));
            return Err(Error::size("images of the Fisher information", expected, format!("{} values", images.len())));
        }
        let overlay = moves.overlay(params, "fisher")?;
        let mut total = vec![0f64; overlay.len()];
        for part in images.chunks_exact(group * size) {
            let x = Tensor::from_slice(params.device(), part, &[group, dims[0], dims[1], dims[2]])?;
            let delta = Tensor::from_slice(params.device(), &vec![0f32; overlay.len()], &[overlay.len()])?;
            let mut pass = Pass::infer().with_statistics(statistics);
            let logits = model.apply(&overlay.applied(params, &delta)?, &x, &mut pass)?;
            let gradient = grad(&loss::mean(&loss::pseudo_label(&logits)?)?, delta)?.to_vec::<f32>()?;
            total.iter_mut().zip(&gradient).for_each(|(t, g)| *t += f64::from(*g) * f64::from(*g));
        }
        let values: Vec<f32> = total.iter().map(|t| (t / n_groups as f64) as f32).collect();
        Self::from_values(params, kind, &values)
    }

    /// From stored values, one for each element of the overlay.
    pub fn from_values(params: &Params, kind: FisherKind, values: &[f32]) -> Result<Self, Error> {
        let hash = Digest::of_tensor(&[values.len()], values);
        Ok(Fisher { kind, values: Tensor::from_slice(params.device(), values, &[values.len()])?, hash })
    }

    /// One value for each element of the overlay.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// How it was estimated.
    pub fn kind(&self) -> FisherKind {
        self.kind
    }
}

/// A penalty on Δ.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// weight·Σ F·Δ², without a factor ½ (Kirkpatrick et al. 2017; EATA).
    Fisher {
        /// The importance of each element.
        fisher: Fisher,
        /// The penalty's weight.
        weight: f32,
    },
    /// weight/2·‖Δ‖² (Li, Grandvalet, Davoine 2018).
    Distance(
        /// The penalty's weight.
        f32,
    ),
}

impl Anchor {
    /// The penalty, a scalar.
    pub(super) fn of(&self, delta: &Tensor) -> Result<Tensor, Error> {
        match self {
            Anchor::Fisher { fisher, weight } => {
                if fisher.values.shape() != delta.shape() {
                    let (expected, found) = (delta.shape().to_string(), fisher.values.shape());
                    return Err(Error::size("Fisher information of this overlay", expected, found));
                }
                Ok(delta.square()?.mul(&fisher.values)?.sum(&[])?.mul_scalar(*weight)?)
            }
            Anchor::Distance(weight) => Ok(delta.square()?.sum(&[])?.mul_scalar(0.5 * weight)?),
        }
    }
}
