//! Losses: functions of graph, lazy, differentiable to any order.
//!
//! Losses against targets come as a mean (`mse`, a scalar) and for each row or element (`mse_each`,
//! `cross_entropy_rows`). Losses of logits alone, which adaptation uses, come for each row, [n, c] → `[n]`; [`mean`] or a
//! sum makes a scalar of them.

mod distill;
mod labels;
mod logits;
mod self_training;
mod targets;

use acclimate_tensor::{Error as TensorError, Tensor};

pub use distill::{attention_rows, hint_rows, kd, soft_kl, soft_kl_rows};
pub use labels::Labels;
pub use logits::{entropy, marginal_entropy, nll_temperature, pseudo_label};
pub use self_training::{
    conservative_entropy, consistency, generalized_cross_entropy, information_maximization, kept_sum,
    soft_likelihood_ratio, symmetric_cross_entropy,
};
pub use targets::{
    bce_with_logits, bce_with_logits_each, cross_entropy, cross_entropy_rows, cross_entropy_smoothed, huber,
    huber_each, kl_div, kl_div_rows, mse, mse_each,
};

use crate::error::Result;
use crate::num::real;

/// The mean of all elements, a scalar. Fails if there are none: the mean of an empty batch is no number.
pub fn mean(x: &Tensor) -> Result<Tensor> {
    if x.numel() == 0 {
        let found = format!("an empty batch of shape {}", x.shape());
        return Err(TensorError::shape("mean", "at least one row", found).into());
    }
    Ok(x.sum(&[])?.mul_scalar(1.0 / real(x.numel()))?)
}

/// Rows and classes of logits [n, c] with c ≥ 1.
fn rows_of(op: &'static str, logits: &Tensor) -> Result<[usize; 2]> {
    match *logits.dims() {
        [n, c] if c > 0 => Ok([n, c]),
        _ => {
            Err(TensorError::shape(op, "logits [n, c] with at least one class", format!("shape {}", logits.shape()))
                .into())
        }
    }
}

/// Fails unless two tensors have one shape; a loss never broadcasts.
fn require_same(op: &'static str, x: &Tensor, target: &Tensor) -> Result<()> {
    if x.shape() == target.shape() {
        return Ok(());
    }
    let expected = format!("a target of the prediction's shape {}", x.shape());
    Err(TensorError::shape(op, expected, format!("shape {}", target.shape())).into())
}
