//! Losses of logits against their own answer, another answer, or the spread of a batch: what adaptation without labels
//! minimizes. They are composites of fused rows (log-softmax and its gradient); `docs/adr/0011` says what was measured.

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{Error as TensorError, Tensor};

use super::logits::minus_p_ln_p;
use super::{entropy, marginal_entropy, mean, require_same, rows_of};
use crate::error::{Error, Result};
use crate::num::real;

/// Largest probability that the likelihood ratio sees: its logarithm ends there, and its gradient with it.
const MOST_SURE: f32 = 0.99;
/// Added to the likelihood ratio before its logarithm.
const RATIO_EPS: f32 = 1e-5;

/// (1 − p_y^q)/q with y = argmax p of each row: between cross-entropy (q → 0) and the absolute error (q = 1) of the
/// model's own answer, which counts as given (Zhang and Sabuncu 2018; on own answers Rusak et al. 2022, RPL).
/// Shapes: [n, c] → `[n]`. Fails unless q lies in (0, 1].
pub fn generalized_cross_entropy(logits: &Tensor, q: f32) -> Result<Tensor> {
    rows_of("generalized_cross_entropy", logits)?;
    if !(q > 0.0 && q <= 1.0) {
        return Err(Error::argument("q of generalized_cross_entropy", "a number in (0, 1]", q));
    }
    let powered = logits.log_softmax(1)?.max(&[1])?.mul_scalar(q)?.exp()?;
    Ok(powered.mul_scalar(-1.0 / q)?.add_scalar(1.0 / q)?)
}

/// −Σ_k p_k ln(p_k/(1 − p_k) + 1e-5) of each row, with p_k at most 0.99 (Marsden, Döbler, Yang 2024, ROID): an entropy
/// whose gradient does not fade where the model is sure. Shapes: [n, c] → `[n]`.
pub fn soft_likelihood_ratio(logits: &Tensor) -> Result<Tensor> {
    rows_of("soft_likelihood_ratio", logits)?;
    let p = logits.log_softmax(1)?.exp()?.clamp(0.0, MOST_SURE)?;
    let ratio = p.div(&p.neg()?.add_scalar(1.0)?)?.add_scalar(RATIO_EPS)?;
    Ok(p.mul(&ratio.ln()?)?.sum(&[1])?.neg()?)
}

/// −Σ_k t_k ln p_k of each row, t the teacher's probabilities: cross-entropy against another model's answer (Wang et al.
/// 2022, CoTTA). Gradients flow to both sides; detach the teacher where it counts as given. Shapes: both logits [n, c] →
/// `[n]`.
pub fn consistency(logits: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    symmetric_cross_entropy(logits, teacher, 0.0)
}

/// −(1 − α)·Σ_k t_k ln p_k − α·Σ_k p_k ln t_k of each row (Wang et al. 2019; Döbler, Marsden, Yang 2023). Gradients flow
/// to both sides; detach the teacher where it counts as given. Shapes: both logits [n, c] → `[n]`. Fails unless α lies in
/// [0, 1].
pub fn symmetric_cross_entropy(logits: &Tensor, teacher: &Tensor, alpha: f32) -> Result<Tensor> {
    rows_of("symmetric_cross_entropy", logits)?;
    require_same("symmetric_cross_entropy", logits, teacher)?;
    if !(0.0..=1.0).contains(&alpha) {
        return Err(Error::argument("alpha of symmetric_cross_entropy", "a number in [0, 1]", alpha));
    }
    let lowest = |l: Tensor| l.maximum(&l.full_like(f32::MIN)?);
    let (log_p, log_t) = (lowest(logits.log_softmax(1)?)?, lowest(teacher.log_softmax(1)?)?);
    let forward = log_t.exp()?.mul(&log_p)?;
    let both = match alpha {
        0.0 => forward,
        _ => forward.mul_scalar(1.0 - alpha)?.add(&log_p.exp()?.mul(&log_t)?.mul_scalar(alpha)?)?,
    };
    Ok(both.sum(&[1])?.neg()?)
}

/// mean_i H(p_i) − H(p̄): each row sure, the batch diverse (Liang, Hu, Feng 2020, SHOT-IM). Shapes: [n, c] → scalar.
/// Fails without rows. It needs many more rows than classes: with few, the second term asks for a uniformity that the
/// labels do not have.
pub fn information_maximization(logits: &Tensor) -> Result<Tensor> {
    Ok(mean(&entropy(logits)?)?.sub(&marginal_entropy(logits)?)?)
}

/// The entropy of c + 1 outcomes, the last of which is "unknown" with the constant logit ln c, while the length ‖z‖ of
/// each row of logits counts as given (Zhang et al. 2025, COME): minimizing it does not just scale logits up. The
/// opinion e^z/(Σe^z + c) with uncertainty c/(Σe^z + c) is exactly this softmax. Shapes: [n, c] → `[n]`.
pub fn conservative_entropy(logits: &Tensor) -> Result<Tensor> {
    let [n, c] = rows_of("conservative_entropy", logits)?;
    let square = logits.square()?.sum_keep(&[1])?;
    // A row of zeros has no direction to keep: its factor is 1, and no gradient flows through its length.
    let some = square.gt(&square.zeros_like()?)?;
    let length = some.select(&square, &square.ones_like()?)?.sqrt()?;
    let kept = logits.mul(&length.detach()?.div(&length)?)?;
    let unknown = Tensor::full(logits.device(), &[n, 1], real(c).ln())?;
    Ok(minus_p_ln_p(&concat(&[&kept, &unknown], 1)?.log_softmax(1)?)?.sum(&[1])?)
}

/// Σ_i w_i·x_i over the rows that `keep` marks, without looking at the others (a NaN there stays there). Shapes: all
/// `[n]` → scalar.
pub fn kept_sum(rows: &Tensor, weights: Option<&Tensor>, keep: &Tensor) -> Result<Tensor> {
    if rows.shape() != keep.shape() {
        let expected = format!("one mark for each of {}", rows.shape());
        return Err(TensorError::shape("kept_sum", expected, format!("shape {}", keep.shape())).into());
    }
    let zero = rows.zeros_like()?;
    let weighted = match weights {
        Some(w) => keep.select(rows, &zero)?.mul(&keep.select(w, &zero)?)?,
        None => keep.select(rows, &zero)?,
    };
    Ok(weighted.sum(&[])?)
}
