//! The ops as methods of tensors: one trait, one page.

use acclimate_tensor::{Result, Tensor};

use crate::composite;
use crate::ops::{self, conv2d::Conv2d};
use crate::window::Pool2d;

/// The ops of this crate as methods of [`Tensor`]. Everything is lazy: a method checks shapes and dtypes at once and
/// computes nothing.
///
/// ```
/// use acclimate_kernels::TensorOps;
/// use acclimate_tensor::{Device, Tensor};
///
/// let device = Device::cpu();
/// let x = Tensor::from_slice(&device, &[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
/// assert_eq!(x.matmul(&x)?.to_vec::<f32>()?, [7.0, 10.0, 15.0, 22.0]);
/// # Ok::<(), acclimate_tensor::Error>(())
/// ```
pub trait TensorOps {
    /// The tensor itself.
    fn tensor(&self) -> &Tensor;

    // -- products ---------------------------------------------------------------------------------------------------

    /// The matrix product x·w: [.., m, k] · [.., k, n] → [.., m, n]. Batch axes broadcast; a vector is refused.
    #[track_caller]
    fn matmul(&self, w: &Tensor) -> Result<Tensor> {
        ops::matmul::matmul(self.tensor(), w, false, false)
    }

    /// x·wᵀ: [.., m, k] · [.., n, k] → [.., m, n], without a transposed copy.
    #[track_caller]
    fn matmul_nt(&self, w: &Tensor) -> Result<Tensor> {
        ops::matmul::matmul(self.tensor(), w, false, true)
    }

    /// xᵀ·w: [.., k, m] · [.., k, n] → [.., m, n], without a transposed copy.
    #[track_caller]
    fn matmul_tn(&self, w: &Tensor) -> Result<Tensor> {
        ops::matmul::matmul(self.tensor(), w, true, false)
    }

    /// The convolution (cross-correlation) of images [n, c_in, h, w] with w [c_out, c_in / groups, kh, kw], giving
    /// [n, c_out, oh, ow]. Fails where channels, groups or kernel do not fit.
    #[track_caller]
    fn conv2d(&self, w: &Tensor, conv: &Conv2d) -> Result<Tensor> {
        ops::conv2d::conv2d(self.tensor(), w, conv)
    }

    // -- composites -------------------------------------------------------------------------------------------------

    /// Mean over axes (all, if none are named), which go away.
    #[track_caller]
    fn mean(&self, axes: &[isize]) -> Result<Tensor> {
        composite::mean(self.tensor(), axes)
    }

    /// Mean over axes, which stay with size 1.
    #[track_caller]
    fn mean_keep(&self, axes: &[isize]) -> Result<Tensor> {
        composite::mean_keep(self.tensor(), axes)
    }

    /// Variance over axes: squared deviations over n − correction.
    #[track_caller]
    fn var(&self, axes: &[isize], correction: f32) -> Result<Tensor> {
        composite::var(self.tensor(), axes, correction)
    }

    /// As `var`; the axes stay with size 1.
    #[track_caller]
    fn var_keep(&self, axes: &[isize], correction: f32) -> Result<Tensor> {
        composite::var_keep(self.tensor(), axes, correction)
    }

    /// Position (u32) of the first largest element along an axis; NaN counts as the largest.
    #[track_caller]
    fn argmax(&self, axis: isize) -> Result<Tensor> {
        composite::argmax(self.tensor(), axis)
    }

    /// Position (u32) of the first smallest element along an axis; NaN counts as the smallest.
    #[track_caller]
    fn argmin(&self, axis: isize) -> Result<Tensor> {
        composite::argmin(self.tensor(), axis)
    }

    /// exp(x) / Σ exp(x) along an axis, stable.
    #[track_caller]
    fn softmax(&self, axis: isize) -> Result<Tensor> {
        composite::softmax(self.tensor(), axis)
    }

    /// x − ln Σ exp(x) along an axis, stable.
    #[track_caller]
    fn log_softmax(&self, axis: isize) -> Result<Tensor> {
        composite::log_softmax(self.tensor(), axis)
    }

    /// ln Σ exp(x) along an axis, which goes away.
    #[track_caller]
    fn logsumexp(&self, axis: isize) -> Result<Tensor> {
        composite::logsumexp(self.tensor(), axis)
    }

    /// x·½(1 + erf(x/√2)).
    #[track_caller]
    fn gelu(&self) -> Result<Tensor> {
        composite::gelu(self.tensor())
    }

    /// The approximation of `gelu` by tanh.
    #[track_caller]
    fn gelu_tanh(&self) -> Result<Tensor> {
        composite::gelu_tanh(self.tensor())
    }

    /// x·σ(x).
    #[track_caller]
    fn silu(&self) -> Result<Tensor> {
        composite::silu(self.tensor())
    }

    /// min(max(x, 0), 6).
    #[track_caller]
    fn relu6(&self) -> Result<Tensor> {
        composite::relu6(self.tensor())
    }

    /// ln(1 + eˣ), without overflow.
    #[track_caller]
    fn softplus(&self) -> Result<Tensor> {
        composite::softplus(self.tensor())
    }

    /// min(max(x, low), high); NaN stays.
    #[track_caller]
    fn clamp(&self, low: f32, high: f32) -> Result<Tensor> {
        composite::clamp(self.tensor(), low, high)
    }

    // -- pooling ----------------------------------------------------------------------------------------------------

    /// The largest pixel of each window: [n, c, h, w] → [n, c, oh, ow]. NaN wins; padding never does.
    #[track_caller]
    fn max_pool2d(&self, pool: &Pool2d) -> Result<Tensor> {
        ops::max_pool2d::max_pool2d(self.tensor(), pool).map(|(y, _)| y)
    }

    /// The mean of each window: [n, c, h, w] → [n, c, oh, ow].
    #[track_caller]
    fn avg_pool2d(&self, pool: &Pool2d) -> Result<Tensor> {
        ops::avg_pool2d::avg_pool2d(self.tensor(), pool)
    }

    /// The mean of each plane: [n, c, h, w] → [n, c].
    #[track_caller]
    fn global_avg_pool2d(&self) -> Result<Tensor> {
        ops::avg_pool2d::global_avg_pool2d(self.tensor())
    }
}

impl TensorOps for Tensor {
    fn tensor(&self) -> &Tensor {
        self
    }
}
