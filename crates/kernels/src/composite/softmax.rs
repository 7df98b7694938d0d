//! Softmax and its kin along any axis.

use acclimate_tensor::{Kernel, Result, Tensor, record_one};

use crate::ops::log_softmax::LogSoftmax;
use crate::ops::softmax::Softmax;

/// `f` of the tensor with `axis` moved to the end, and back.
pub(crate) fn along_last(x: &Tensor, axis: isize, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let last = x.rank() as isize - 1;
    if x.shape().axis("transpose", axis)? as isize == last {
        return f(x);
    }
    f(&x.transpose(axis, last)?)?.transpose(axis, last)
}

/// An op of rows along any axis.
fn rows<K: Kernel>(kernel: K, x: &Tensor, axis: isize) -> Result<Tensor> {
    x.shape().axis(K::NAME, axis)?;
    along_last(x, axis, |x| record_one(kernel, &[x]))
}

/// exp(x − m) / Σ exp(x − m) along an axis.
#[track_caller]
pub fn softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    rows(Softmax, x, axis)
}

/// ln softmax(x) along an axis.
#[track_caller]
pub fn log_softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    rows(LogSoftmax, x, axis)
}

/// ln Σ eˣ along an axis, which goes away. −∞ of nothing and where all are −∞.
#[track_caller]
pub fn logsumexp(x: &Tensor, axis: isize) -> Result<Tensor> {
    let at = x.shape().axis("logsumexp", axis)? as isize;
    // Where the peak is infinite nothing is subtracted: ∞ − ∞ is no number.
    let peak = x.max_keep(&[at])?.detach()?;
    let peak = peak.is_finite()?.select(&peak, &peak.zeros_like()?)?;
    let total = x.sub(&peak)?.exp()?.sum_keep(&[at])?;
    total.ln()?.add(&peak)?.squeeze(at)
}
