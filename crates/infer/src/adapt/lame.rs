//! Laplacian adjusted maximum-likelihood estimation (Boudiaf, Mueller, Ben Ayed, Bertinetto 2022): the answers of a batch
//! are drawn towards those of their neighbors in feature space. No parameter moves.

use acclimate_kernels::TensorOps;
use acclimate_tensor::{DType, Tensor};
use serde::Serialize;

use crate::error::Error;

/// How near two inputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// 1 for the `k` nearest others of each input, else 0; not symmetric.
    Nearest(usize),
    /// exp(−d²/2σ²) with σ the mean distance to the `k`-th nearest, oneself counted as the first; the diagonal stays.
    Gaussian(usize),
    /// The product of the features, each of length 1; the diagonal stays.
    Linear,
}

/// What LAME is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lame {
    /// Which inputs are neighbors.
    pub affinity: Affinity,
    /// Weight λ of the neighbors.
    pub weight: f32,
    /// Fixed-point steps; a batch that has settled stays where it is.
    pub iterations: usize,
}

impl Default for Lame {
    /// The reference's: five nearest, λ = 1, 100 steps.
    fn default() -> Self {
        Lame { affinity: Affinity::Nearest(5), weight: 1.0, iterations: 100 }
    }
}

/// Added to a probability before its logarithm in the unary term.
const EPS: f32 = 1e-10;

impl Lame {
    /// Logarithms of the new probabilities: Y ← softmax(ln p + λ·A·Y) from Y = p. logits [n, c], features [n, d].
    pub fn of(&self, logits: &Tensor, features: &Tensor) -> Result<Tensor, Error> {
        let p = logits.log_softmax(1)?.exp()?;
        let unary = p.add_scalar(EPS)?.ln()?;
        let near = self.affinity(features)?.mul_scalar(self.weight)?;
        let (mut y, mut log_y) = (p, unary.log_softmax(1)?);
        for _ in 0..self.iterations {
            log_y = unary.add(&near.matmul(&y)?)?.log_softmax(1)?;
            y = log_y.exp()?;
        }
        Ok(log_y)
    }

    /// A: [n, d] → [n, n].
    pub fn affinity(&self, features: &Tensor) -> Result<Tensor, Error> {
        let n = features.dims()[0];
        let length = features.square()?.sum_keep(&[1])?.sqrt()?;
        let unit = features.div(&length.maximum(&length.full_like(1e-12)?)?)?;
        let product = unit.matmul_nt(&unit)?;
        // d² of unit vectors; rounding must not make it negative.
        let square = product.neg()?.add_scalar(1.0)?.mul_scalar(2.0)?.relu()?;
        let device = features.device();
        let (row, column) = (Tensor::iota(device, &[n, n], 0)?, Tensor::iota(device, &[n, n], 1)?);
        let own = row.eq(&column)?;
        let own_distance = |far: f32| own.select(&square.full_like(far)?, &square);
        Ok(match self.affinity {
            Affinity::Linear => product,
            Affinity::Nearest(k) => {
                let k = k.min(n.saturating_sub(1));
                if k == 0 {
                    return Ok(product.zeros_like()?);
                }
                let (_, nearest) = own_distance(f32::MAX)?.topk(k, false)?;
                // [n, k, n]: whether column j is neighbor number i.
                let hit = nearest.unsqueeze(2)?.eq(&Tensor::iota(device, &[n, k, n], 2)?)?;
                hit.cast(DType::F32)?.sum(&[1])?
            }
            Affinity::Gaussian(k) => {
                let k = k.clamp(1, n);
                let (sorted, _) = own_distance(0.0)?.topk(k, false)?;
                let width = sorted.narrow(1, k - 1, 1)?.sqrt()?.mean(&[])?;
                let twice = width.square()?.mul_scalar(2.0)?;
                // All in one place (a single input, say): everything is near, and nothing is divided by zero.
                let some = twice.gt(&twice.zeros_like()?)?;
                own_distance(0.0)?.div(&some.select(&twice, &twice.ones_like()?)?)?.neg()?.exp()?
            }
        })
    }
}
