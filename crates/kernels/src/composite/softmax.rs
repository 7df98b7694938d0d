//! Softmax and its kin along any axis, stable: the largest element is subtracted first.

use acclimate_tensor::{Result, Tensor};

/// The peak along an axis, without gradient: it cancels.
fn peak(x: &Tensor, axis: isize) -> Result<Tensor> {
    let peak = x.max_keep(&[axis])?.detach()?;
    // ∞ − ∞ is no number: a row of −∞ keeps its own value.
    peak.is_finite()?.select(&peak, &peak.zeros_like()?)
}

/// exp(x) / Σ exp(x) along an axis.
#[track_caller]
pub fn softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    let e = x.sub(&peak(x, axis)?)?.exp()?;
    e.div(&e.sum_keep(&[axis])?)
}

/// x − ln Σ exp(x) along an axis.
#[track_caller]
pub fn log_softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    let shifted = x.sub(&peak(x, axis)?)?;
    shifted.sub(&shifted.exp()?.sum_keep(&[axis])?.ln()?)
}

/// ln Σ exp(x) along an axis, which goes away.
#[track_caller]
pub fn logsumexp(x: &Tensor, axis: isize) -> Result<Tensor> {
    let peak = peak(x, axis)?;
    let kept = x.sub(&peak)?.exp()?.sum_keep(&[axis])?.ln()?.add(&peak)?;
    kept.squeeze(axis)
}
