//! Losses that adaptation and distillation take of logits. All work in log space, so that no probability underflows.

use acclimate_kernels::TensorOps;
use acclimate_tensor::{Error as TensorError, Tensor};

use super::{cross_entropy_rows, rows_of};
use crate::error::Result;
use crate::num::real;

/// H(p) = −Σ_k p_k ln p_k of each row, in nats (Wang et al. 2021, TENT). Shapes: [n, c] → `[n]`.
///
/// ```
/// use acclimate_tensor::{Device, Tensor};
/// use acclimate_train::loss;
///
/// let unsure = Tensor::zeros(&Device::cpu(), &[1, 4])?;
/// assert!((loss::entropy(&unsure)?.item()? - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), acclimate_train::Error>(())
/// ```
pub fn entropy(logits: &Tensor) -> Result<Tensor> {
    rows_of("entropy", logits)?;
    Ok(minus_p_ln_p(&logits.log_softmax(1)?)?.sum(&[1])?)
}

/// H(p̄), p̄ the mean of the probabilities over K views (Zhang, Levine, Finn 2022, MEMO). Shapes: [k, c] → scalar.
/// Fails without views.
pub fn marginal_entropy(logits: &Tensor) -> Result<Tensor> {
    let [k, _] = rows_of("marginal_entropy", logits)?;
    if k == 0 {
        return Err(TensorError::shape("marginal_entropy", "at least one view", "none").into());
    }
    let log_mean = logits.log_softmax(1)?.logsumexp(0)?.add_scalar(-real(k).ln())?;
    Ok(minus_p_ln_p(&log_mean)?.sum(&[])?)
}

/// −p ln p from ln p. What has no probability at all has ln p = −∞, and −∞ · 0 is no number, so ln p stops at the lowest
/// finite one.
pub(super) fn minus_p_ln_p(log_p: &Tensor) -> acclimate_tensor::Result<Tensor> {
    let log_p = log_p.maximum(&log_p.full_like(f32::MIN)?)?;
    log_p.exp()?.mul(&log_p)?.neg()
}

/// −ln p_y with y = argmax p of each row: cross-entropy against the model's own answer, which counts as given.
/// Shapes: [n, c] → `[n]`.
pub fn pseudo_label(logits: &Tensor) -> Result<Tensor> {
    rows_of("pseudo_label", logits)?;
    Ok(logits.log_softmax(1)?.max(&[1])?.neg()?)
}

/// −ln softmax(z/T)_y of each row: what temperature scaling minimizes over T (Guo et al. 2017). Shapes: logits [n, c],
/// labels (u32) `[n]`, T a scalar or `[1]` → `[n]`.
pub fn nll_temperature(logits: &Tensor, labels: &Tensor, temperature: &Tensor) -> Result<Tensor> {
    if temperature.numel() != 1 {
        let found = format!("shape {}", temperature.shape());
        return Err(TensorError::shape("nll_temperature", "a temperature of one element", found).into());
    }
    cross_entropy_rows(&logits.div(&temperature.reshape(&[])?)?, labels, 0.0)
}
