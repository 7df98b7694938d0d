//! Group normalization (Wu and He 2018).

use acclimate_tensor::{Error as TensorError, Tensor};

use super::{EPS, Moments, normalized};
use crate::error::{InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, Start, join};
use crate::params::{Kind, Params};

/// y = γ·(x − μ)/√(σ² + eps) + β, with moments over each group of channels of each row, and γ, β for each channel.
/// Shapes: x [n, c, ..] → the same. Rows are independent. Paths: `weight` (γ), `bias` (β).
#[derive(Clone, Debug)]
pub struct GroupNorm {
    path: String,
    groups: usize,
    channels: usize,
    eps: f32,
}

impl GroupNorm {
    /// With eps 1e-5. `groups` must divide `channels`.
    pub fn new(path: impl Into<String>, groups: usize, channels: usize) -> Self {
        GroupNorm { path: path.into(), groups, channels, eps: EPS }
    }

    /// With another number added to variances.
    #[must_use]
    pub fn with_eps(self, eps: f32) -> Self {
        GroupNorm { eps, ..self }
    }

    fn normalize(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        if self.groups == 0 || !self.channels.is_multiple_of(self.groups) {
            let expected = format!("a divisor of {} channels", self.channels);
            return Err(TensorError::argument("group_norm", "groups", expected, self.groups).into());
        }
        let &[n, c, ref pixels @ ..] = x.dims() else {
            return Err(TensorError::shape("group_norm", "[n, c, ..]", format!("shape {}", x.shape())).into());
        };
        let n_pixels: usize = pixels.iter().product();
        if c != self.channels || n_pixels == 0 {
            let expected = format!("[n, {}, ..] with at least one pixel", self.channels);
            return Err(TensorError::shape("group_norm", expected, format!("shape {}", x.shape())).into());
        }
        let rows = x.reshape(&[n, self.groups, c / self.groups * n_pixels])?;
        let moments = Moments::of(&rows, &[-1])?;
        let y = normalized(&rows, &moments.mean, &moments.variance, self.eps)?.reshape(x.dims())?;
        let mut dims = vec![1; x.rank()];
        dims[1] = c;
        let gamma = params.get(&join(&self.path, "weight"))?.reshape(&dims)?;
        let beta = params.get(&join(&self.path, "bias"))?.reshape(&dims)?;
        Ok(y.mul(&gamma)?.add(&beta)?)
    }
}

impl Layer for GroupNorm {
    fn declare(&self, init: &mut Init) -> Result<()> {
        init.param(join(&self.path, "weight"), &[self.channels], Kind::NormScale, Start::Constant(1.0))?;
        init.param(join(&self.path, "bias"), &[self.channels], Kind::NormShift, Start::Constant(0.0))
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        pass.tap(&self.path, x);
        let y = self.normalize(params, x).in_layer(&self.path)?;
        Ok(pass.output(&self.path, y))
    }

    fn narrowed(&self, _: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        Narrowed::to(self.clone(), x)
    }
}
