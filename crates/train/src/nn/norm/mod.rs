//! Normalization layers.

mod batch;
mod group;
mod layer;

use acclimate_tensor::{Result, Tensor};

pub use batch::BatchNorm;
pub use group::GroupNorm;
pub use layer::LayerNorm;

use super::Sequential;
use crate::num::real;

/// A choice of normalization, for networks that leave it open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// None.
    #[default]
    None,
    /// [`BatchNorm`].
    Batch,
    /// [`LayerNorm`] over the channels of vectors; over channels and pixels of images it is [`GroupNorm`] with one group.
    Layer,
    /// [`GroupNorm`] with this many groups.
    Group(usize),
}

impl Norm {
    /// `layers` with this normalization of vectors [.., width] at the end.
    pub(crate) fn of_vectors(self, layers: Sequential, path: String, width: usize) -> Sequential {
        match self {
            Norm::Layer => layers.then(LayerNorm::new(path, &[width])),
            other => other.of_images(layers, path, width),
        }
    }

    /// `layers` with this normalization of images [n, channels, h, w] at the end.
    pub(crate) fn of_images(self, layers: Sequential, path: String, channels: usize) -> Sequential {
        match self {
            Norm::None => layers,
            Norm::Batch => layers.then(BatchNorm::new(path, channels)),
            Norm::Layer => layers.then(GroupNorm::new(path, 1, channels)),
            Norm::Group(groups) => layers.then(GroupNorm::new(path, groups, channels)),
        }
    }
}

/// Added to variances, as in PyTorch.
const EPS: f32 = 1e-5;

/// Mean and biased variance over some axes, which stay with size 1. Two passes: the variance is of the differences.
struct Moments {
    mean: Tensor,
    variance: Tensor,
    /// How many values each of them is of.
    count: usize,
}

impl Moments {
    fn of(x: &Tensor, axes: &[isize]) -> Result<Self> {
        let dims = x.dims();
        let mut count = 1;
        for &axis in axes {
            count *= dims[x.shape().axis("moments", axis)?];
        }
        let mean = x.sum_keep(axes)?.mul_scalar(1.0 / real(count.max(1)))?;
        let variance = x.sub(&mean)?.square()?.sum_keep(axes)?.mul_scalar(1.0 / real(count.max(1)))?;
        Ok(Moments { mean, variance, count })
    }

    /// The variance with n − 1 in place of n.
    fn unbiased(&self) -> Result<Tensor> {
        self.variance.mul_scalar(real(self.count) / real(self.count.saturating_sub(1).max(1)))
    }
}

/// (x − mean) / √(variance + eps).
fn normalized(x: &Tensor, mean: &Tensor, variance: &Tensor, eps: f32) -> Result<Tensor> {
    x.sub(mean)?.mul(&variance.add_scalar(eps)?.rsqrt()?)
}
