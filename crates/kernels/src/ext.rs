//! The ops as methods of tensors: one trait, one page.

use acclimate_tensor::{Result, Tensor};

use crate::ops::{self, conv2d::Conv2d};

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
}

impl TensorOps for Tensor {
    fn tensor(&self) -> &Tensor {
        self
    }
}
