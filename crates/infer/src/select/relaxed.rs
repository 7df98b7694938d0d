//! Discrete choices that gradients flow through: Gumbel noise, Concrete relaxations, k of n.

use acclimate_kernels::TensorOps;
use acclimate_kernels::random::{Key, uniform};
use acclimate_tensor::{DType, Tensor};

use crate::error::Error;

/// Uniform numbers are kept within these, so that both logarithms of the noise are finite: half the spacing of the numbers, and
/// the largest f32 below 1.
const WITHIN: (f32, f32) = (1.0 / 33_554_432.0, 1.0 - 1.0 / 16_777_216.0);

/// Standard Gumbel noise, −ln(−ln u) with u uniform: the largest of logits + noise is a draw from softmax(logits).
pub fn gumbel(key: &Key, dims: &[usize]) -> Result<Tensor, Error> {
    Ok(uniform(key, dims)?.clamp(WITHIN.0, WITHIN.1)?.ln()?.neg()?.ln()?.neg()?)
}

/// The Concrete distribution (Maddison, Mnih, Teh 2017; Jang, Gu, Poole 2017): softmax((logits + noise) / τ) along the last
/// axis. `temperature` is τ > 0, a tensor of one element, so that annealing it plans nothing anew.
pub fn concrete(logits: &Tensor, noise: &Tensor, temperature: &Tensor) -> Result<Tensor, Error> {
    Ok(logits.add(noise)?.div(temperature)?.softmax(-1)?)
}

/// L2X's relaxed choice of up to k (Chen et al. 2018, section 4): the element-wise largest of k Concrete draws. Shapes:
/// logits [n, f], noise [n, k, f] → [n, f] in (0, 1].
pub fn relaxed_k_hot(logits: &Tensor, noise: &Tensor, temperature: &Tensor) -> Result<Tensor, Error> {
    let &[n, f] = logits.dims() else { return Err(Error::size("logits", "shape [n, f]", logits.shape())) };
    Ok(concrete(&logits.reshape(&[n, 1, f])?, noise, temperature)?.max(&[1])?)
}

/// 1 at the largest of the last axis, else 0; of equal ones the first. No gradient. Shapes: [n, f] → [n, f].
pub fn one_hot_of_largest(scores: &Tensor) -> Result<Tensor, Error> {
    let &[n, f] = scores.dims() else { return Err(Error::size("scores", "shape [n, f]", scores.shape())) };
    let best = scores.detach()?.argmax(-1)?.reshape(&[n, 1])?;
    Ok(Tensor::iota(scores.device(), &[n, f], 1)?.eq(&best)?.cast(DType::F32)?)
}

/// 1 at the k largest of the last axis, else 0; of equal ones the first. No gradient. Shapes: [n, f] → [n, f].
///
/// # Errors
/// If k is above f.
pub fn k_hot(scores: &Tensor, k: usize) -> Result<Tensor, Error> {
    let &[n, f] = scores.dims() else { return Err(Error::size("scores", "shape [n, f]", scores.shape())) };
    let (_, index) = scores.detach()?.topk(k, true)?;
    let ones = Tensor::ones(scores.device(), &[n, k])?;
    Ok(Tensor::zeros(scores.device(), &[n, f])?.scatter_add(-1, &index, &ones)?)
}

/// The value of `hard` with the gradient of `soft` (Bengio, Léonard, Courville 2013).
pub fn straight_through(hard: &Tensor, soft: &Tensor) -> Result<Tensor, Error> {
    Ok(hard.detach()?.add(&soft.sub(&soft.detach()?)?)?)
}
