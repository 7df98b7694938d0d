//! Losses against targets. Numbers and gradients are PyTorch's.

use acclimate_kernels::TensorOps;
use acclimate_tensor::{DType, Error as TensorError, Tensor};

use super::{mean, require_same, rows_of};
use crate::error::{Error, Result};
use crate::num::real;

/// (x − t)², the mean over all elements. Shapes must be equal.
pub fn mse(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    mean(&mse_each(x, target)?)
}

/// (x − t)² of each element.
pub fn mse_each(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    require_same("mse", x, target)?;
    Ok(x.sub(target)?.square()?)
}

/// Huber's loss (Huber 1964), the mean over all elements: see [`huber_each`].
pub fn huber(x: &Tensor, target: &Tensor, delta: f32) -> Result<Tensor> {
    mean(&huber_each(x, target, delta)?)
}

/// ½d² where |d| = |x − t| ≤ δ, else δ·(|d| − ½δ). Fails unless δ is positive.
pub fn huber_each(x: &Tensor, target: &Tensor, delta: f32) -> Result<Tensor> {
    require_same("huber", x, target)?;
    if !(delta.is_finite() && delta > 0.0) {
        return Err(Error::argument("delta of huber", "a positive number", delta));
    }
    let d = x.sub(target)?;
    // With a the difference cut to [−δ, δ], both branches are a·(d − ½a).
    let a = d.clamp(-delta, delta)?;
    Ok(a.mul(&d.sub(&a.mul_scalar(0.5)?)?)?)
}

/// −ln softmax(z)_y, the mean over rows. Shapes: logits [n, c], labels (u32) `[n]`. Labels that come from the host are
/// checked by [`super::Labels`]; a label on the device that names no class makes its row NaN.
///
/// ```
/// use acclimate_tensor::{Device, Tensor};
/// use acclimate_train::loss::{self, Labels};
///
/// let device = Device::cpu();
/// let logits = Tensor::from_slice(&device, &[2.0f32, 2.0, 0.0, 50.0], &[2, 2])?;
/// let labels = Labels::new(&device, &[0, 1], 2)?;
/// let loss = loss::cross_entropy(&logits, &labels)?.item()?;
/// assert!((loss - 0.5 * 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), acclimate_train::Error>(())
/// ```
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    cross_entropy_smoothed(logits, labels, 0.0)
}

/// Cross-entropy with label smoothing (Szegedy et al. 2016), the mean over rows: see [`cross_entropy_rows`].
pub fn cross_entropy_smoothed(logits: &Tensor, labels: &Tensor, smoothing: f32) -> Result<Tensor> {
    mean(&cross_entropy_rows(logits, labels, smoothing)?)
}

/// Cross-entropy of each row against (1 − s)·one-hot + s/c. Shapes: logits [n, c], labels (u32) `[n]` → `[n]`. Fails unless
/// s lies in [0, 1].
pub fn cross_entropy_rows(logits: &Tensor, labels: &Tensor, smoothing: f32) -> Result<Tensor> {
    let [n, c] = rows_of("cross_entropy", logits)?;
    labels.spec().require_dtype("cross_entropy", DType::U32)?;
    if labels.dims() != [n] {
        let expected = format!("labels of shape [{n}]");
        return Err(TensorError::shape("cross_entropy", expected, format!("shape {}", labels.shape())).into());
    }
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::argument("label smoothing", "a number in [0, 1]", smoothing));
    }
    let log_p = logits.log_softmax(1)?;
    // Compared and selected, not gathered: it fuses with what stands around it, and its gradient scatters nothing.
    let classes = Tensor::iota(logits.device(), &[n, c], 1)?;
    let hit = classes.eq(&labels.reshape(&[n, 1])?)?;
    let at_label = hit.select(&log_p, &log_p.zeros_like()?)?.sum(&[1])?;
    let mut rows = at_label.mul_scalar(smoothing - 1.0)?;
    if smoothing > 0.0 {
        rows = rows.sub(&log_p.sum(&[1])?.mul_scalar(smoothing / real(c))?)?;
    }
    let n_classes = u32::try_from(c).unwrap_or(u32::MAX);
    let known = labels.lt(&Tensor::full_u32(logits.device(), &[n], n_classes)?)?;
    Ok(known.select(&rows, &rows.full_like(f32::NAN)?)?)
}

/// Binary cross-entropy of σ(x) against probabilities, the mean over all elements.
pub fn bce_with_logits(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    mean(&bce_with_logits_each(logits, target)?)
}

/// −t ln σ(x) − (1 − t) ln(1 − σ(x)) = ln(1 + e^x) − t·x of each element, for x of any size.
pub fn bce_with_logits_each(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    require_same("bce_with_logits", logits, target)?;
    Ok(logits.softplus()?.sub(&logits.mul(target)?)?)
}

/// Kullback-Leibler divergence from x, *log* probabilities, to the target probabilities; the mean over rows (PyTorch's
/// `batchmean`).
pub fn kl_div(log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
    mean(&kl_div_rows(log_p, target)?)
}

/// Σ_k t_k (ln t_k − x_k) of each row, with 0 ln 0 = 0. Shapes: both [n, c] → `[n]`.
pub fn kl_div_rows(log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
    rows_of("kl_div", log_p)?;
    require_same("kl_div", log_p, target)?;
    let positive = target.gt(&target.zeros_like()?)?;
    let log_t = positive.select(target, &target.ones_like()?)?.ln()?;
    Ok(target.mul(&log_t.sub(log_p)?)?.sum(&[1])?)
}
