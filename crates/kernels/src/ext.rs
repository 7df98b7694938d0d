//! The ops as methods of tensors: one trait, one page.

use acclimate_tensor::{DType, Result, Tensor};

use crate::composite;
use crate::ops::{self, attention::Attend, conv2d::Conv2d};
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

    /// Scaled dot-product attention of queries [.., n, d] over keys [.., m, d] with values [.., m, e], giving [.., n, e]:
    /// softmax(scale · q·kᵀ)·v, without the weights in memory. See [`Attend`] for masks; a query that may look at nothing
    /// gets zeros. Fails unless the axes in front are equal and the widths fit.
    ///
    /// ```
    /// # use acclimate_kernels::{Attend, TensorOps};
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 0.0, 0.0, 1.0], &[2, 2])?;
    /// let y = x.attention(&x, &x, &Attend { causal: true, ..Default::default() })?.to_vec::<f32>()?;
    /// assert_eq!(y[..2], [1.0, 0.0]); // The first query sees the first key alone.
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn attention(&self, k: &Tensor, v: &Tensor, how: &Attend) -> Result<Tensor> {
        ops::attention::attention(self.tensor(), k, v, how)
    }

    // -- composites -------------------------------------------------------------------------------------------------

    /// Mean over axes (all, if none are named), which go away.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// assert_eq!(x.mean(&[1])?.to_vec::<f32>()?, [2.0, 4.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn mean(&self, axes: &[isize]) -> Result<Tensor> {
        composite::mean(self.tensor(), axes)
    }

    /// Mean over axes, which stay with size 1.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// assert_eq!(x.mean_keep(&[0])?.dims(), [1, 2]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn mean_keep(&self, axes: &[isize]) -> Result<Tensor> {
        composite::mean_keep(self.tensor(), axes)
    }

    /// Variance over axes: squared deviations over n − correction.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// assert_eq!(x.var(&[1], 0.0)?.to_vec::<f32>()?, [1.0, 4.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn var(&self, axes: &[isize], correction: f32) -> Result<Tensor> {
        composite::var(self.tensor(), axes, correction)
    }

    /// As `var`; the axes stay with size 1.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// assert_eq!(x.var_keep(&[1], 1.0)?.to_vec::<f32>()?, [2.0, 8.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn var_keep(&self, axes: &[isize], correction: f32) -> Result<Tensor> {
        composite::var_keep(self.tensor(), axes, correction)
    }

    /// Position (u32) of the first largest element along an axis; NaN counts as the largest.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// assert_eq!(x.argmax(1)?.to_vec::<u32>()?, [1, 1]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn argmax(&self, axis: isize) -> Result<Tensor> {
        composite::argmax(self.tensor(), axis)
    }

    /// Position (u32) of the first smallest element along an axis; NaN counts as the smallest.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// assert_eq!(x.argmin(0)?.to_vec::<u32>()?, [0, 0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn argmin(&self, axis: isize) -> Result<Tensor> {
        composite::argmin(self.tensor(), axis)
    }

    /// exp(x) / Σ exp(x) along an axis, stable.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// let y = x.softmax(1)?.sum(&[1])?.to_vec::<f32>()?;
    /// assert!(y.iter().all(|y| (y - 1.0).abs() < 1e-6));
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn softmax(&self, axis: isize) -> Result<Tensor> {
        composite::softmax(self.tensor(), axis)
    }

    /// x − ln Σ exp(x) along an axis, stable.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// let y = x.log_softmax(1)?.to_vec::<f32>()?;
    /// assert!((y[1] + 0.126928).abs() < 1e-6);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn log_softmax(&self, axis: isize) -> Result<Tensor> {
        composite::log_softmax(self.tensor(), axis)
    }

    /// ln Σ exp(x) along an axis, which goes away.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[1.0f32, 3.0, 2.0, 6.0], &[2, 2])?;
    /// assert!((x.logsumexp(1)?.to_vec::<f32>()?[0] - 3.126928).abs() < 1e-6);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn logsumexp(&self, axis: isize) -> Result<Tensor> {
        composite::logsumexp(self.tensor(), axis)
    }

    /// x·½(1 + erf(x/√2)).
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[-1.0f32, 0.0, 8.0], &[3])?;
    /// assert!((x.gelu()?.to_vec::<f32>()?[0] + 0.158655).abs() < 1e-6);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn gelu(&self) -> Result<Tensor> {
        composite::gelu(self.tensor())
    }

    /// The approximation of `gelu` by tanh.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[-1.0f32, 0.0, 8.0], &[3])?;
    /// assert!((x.gelu_tanh()?.to_vec::<f32>()?[0] + 0.158808).abs() < 1e-6);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn gelu_tanh(&self) -> Result<Tensor> {
        composite::gelu_tanh(self.tensor())
    }

    /// x·σ(x).
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[-1.0f32, 0.0, 8.0], &[3])?;
    /// assert!((x.silu()?.to_vec::<f32>()?[0] + 0.268941).abs() < 1e-6);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn silu(&self) -> Result<Tensor> {
        composite::silu(self.tensor())
    }

    /// min(max(x, 0), 6).
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[-1.0f32, 0.0, 8.0], &[3])?;
    /// assert_eq!(x.relu6()?.to_vec::<f32>()?, [0.0, 0.0, 6.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn relu6(&self) -> Result<Tensor> {
        composite::relu6(self.tensor())
    }

    /// ln(1 + eˣ), without overflow.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[-1.0f32, 0.0, 8.0], &[3])?;
    /// assert!((x.softplus()?.to_vec::<f32>()?[1] - std::f32::consts::LN_2).abs() < 1e-6);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn softplus(&self) -> Result<Tensor> {
        composite::softplus(self.tensor())
    }

    /// min(max(x, low), high); NaN stays.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[-1.0f32, 0.0, 8.0], &[3])?;
    /// assert_eq!(x.clamp(-0.5, 2.0)?.to_vec::<f32>()?, [-0.5, 0.0, 2.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
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

    // -- index, order -----------------------------------------------------------------------------------------------

    /// Elements along an axis at `index` (u32 or i32; the shape of this but for the axis): `torch.gather`. An index out
    /// of range gives NaN (f32), false (bool) or the largest word.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let d = Device::cpu();
    /// let x = Tensor::from_slice(&d, &[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
    /// let index = Tensor::from_slice(&d, &[1u32, 0], &[2, 1])?;
    /// assert_eq!(x.gather(1, &index)?.to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn gather(&self, axis: isize, index: &Tensor) -> Result<Tensor> {
        ops::gather::gather(self.tensor(), axis, index)
    }

    /// This plus the elements of `source` at `index` along an axis; indices repeat in order. What is out of range adds
    /// to nothing.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let d = Device::cpu();
    /// let index = Tensor::from_slice(&d, &[2u32, 0, 2], &[3])?;
    /// let source = Tensor::from_slice(&d, &[1.0f32, 5.0, 10.0], &[3])?;
    /// assert_eq!(Tensor::zeros(&d, &[3])?.scatter_add(0, &index, &source)?.to_vec::<f32>()?, [5.0, 0.0, 11.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn scatter_add(&self, axis: isize, index: &Tensor, source: &Tensor) -> Result<Tensor> {
        ops::scatter_add::scatter_add(self.tensor(), axis, index, source)
    }

    /// Rows of this table [r, ..] at an index (u32 or i32) of any shape: an embedding. The index's sizes, then a row's.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let d = Device::cpu();
    /// let table = Tensor::from_slice(&d, &[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
    /// let rows = table.take(&Tensor::from_slice(&d, &[1u32, 1, 0], &[3])?)?;
    /// assert_eq!(rows.to_vec::<f32>()?, [3.0, 4.0, 3.0, 4.0, 1.0, 2.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn take(&self, index: &Tensor) -> Result<Tensor> {
        ops::take::take(self.tensor(), index)
    }

    /// Slices along an axis at an index `[m]` (u32 or i32).
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let d = Device::cpu();
    /// let x = Tensor::from_slice(&d, &[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
    /// let columns = x.index_select(1, &Tensor::from_slice(&d, &[1u32], &[1])?)?;
    /// assert_eq!(columns.to_vec::<f32>()?, [2.0, 4.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn index_select(&self, axis: isize, index: &Tensor) -> Result<Tensor> {
        composite::index_select(self.tensor(), axis, index)
    }

    /// The last axis in order, and where each element stood (u32). Stable; a NaN is larger than all numbers.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[2.0f32, 1.0, 3.0], &[3])?;
    /// let (values, index) = x.sort(false)?;
    /// assert_eq!(values.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
    /// assert_eq!(index.to_vec::<u32>()?, [1, 0, 2]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn sort(&self, descending: bool) -> Result<(Tensor, Tensor)> {
        ops::sort::sort(self.tensor(), descending)
    }

    /// The `k` largest (or smallest) of the last axis, best first, and where they stood (u32). Ties: the first wins.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[2.0f32, 1.0, 3.0], &[3])?;
    /// assert_eq!(x.topk(2, true)?.1.to_vec::<u32>()?, [2, 0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn topk(&self, k: usize, largest: bool) -> Result<(Tensor, Tensor)> {
        composite::topk(self.tensor(), k, largest)
    }

    /// Running sum along an axis.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[2.0f32, 1.0, 3.0], &[3])?;
    /// assert_eq!(x.cumsum(0)?.to_vec::<f32>()?, [2.0, 3.0, 6.0]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn cumsum(&self, axis: isize) -> Result<Tensor> {
        composite::cumsum(self.tensor(), axis)
    }

    /// Where this mask `[n]` (bool or u32) is set: the indices in order (u32 `[n]`, filled up with n), and their count
    /// (u32 `[1]`).
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let mask = Tensor::from_bools(&Device::cpu(), &[false, true, false, true], &[4])?;
    /// let (list, count) = mask.compact()?;
    /// assert_eq!(list.to_vec::<u32>()?, [1, 3, 4, 4]);
    /// assert_eq!(count.to_vec::<u32>()?, [2]);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn compact(&self) -> Result<(Tensor, Tensor)> {
        ops::compact::compact(self.tensor())
    }

    // -- storage ----------------------------------------------------------------------------------------------------

    /// To half precision, for storage: nearest, ties to even, ±∞ beyond ±65504. Gradients pass as halves.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::cpu(), &[0.1f32], &[1])?;
    /// assert_eq!(x.to_f16()?.f16_to_f32()?.item()?, 0.099975586);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn to_f16(&self) -> Result<Tensor> {
        self.tensor().cast(DType::F16)
    }

    /// From half to single precision, exact.
    ///
    /// ```
    /// # use acclimate_kernels::TensorOps;
    /// # use acclimate_tensor::{Device, Tensor, f16};
    /// let x = Tensor::from_slice(&Device::cpu(), &[f16::from_f32(1.5)], &[1])?;
    /// assert_eq!(x.f16_to_f32()?.item()?, 1.5);
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    #[track_caller]
    fn f16_to_f32(&self) -> Result<Tensor> {
        self.tensor().cast(DType::F32)
    }
}

impl TensorOps for Tensor {
    fn tensor(&self) -> &Tensor {
        self
    }
}
