//! Layer normalization (Ba, Kiros, Hinton 2016).

use acclimate_tensor::{Error as TensorError, Tensor};

use super::{EPS, Moments, normalized};
use crate::error::{InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, Start, join};
use crate::params::{Kind, Params};

/// y = γ·(x − μ)/√(σ² + eps) + β, with moments over the trailing axes of shape `dims` of each row. Shapes: x [.., dims] →
/// the same; γ and β have the shape `dims`. Rows are independent. Paths: `weight` (γ), `bias` (β).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    path: String,
    dims: Vec<usize>,
    eps: f32,
}

impl LayerNorm {
    /// With eps 1e-5.
    pub fn new(path: impl Into<String>, dims: &[usize]) -> Self {
        LayerNorm { path: path.into(), dims: dims.to_vec(), eps: EPS }
    }

    /// With another number added to variances.
    #[must_use]
    pub fn with_eps(self, eps: f32) -> Self {
        LayerNorm { eps, ..self }
    }

    fn normalize(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        if self.dims.is_empty() || !x.dims().ends_with(&self.dims) {
            let expected = format!("trailing axes {:?}, at least one", self.dims);
            return Err(TensorError::shape("layer_norm", expected, format!("shape {}", x.shape())).into());
        }
        let axes: Vec<isize> =
            (1..=self.dims.len()).filter_map(|axis| isize::try_from(axis).ok()).map(|a| -a).collect();
        let moments = Moments::of(x, &axes)?;
        let y = normalized(x, &moments.mean, &moments.variance, self.eps)?;
        let (gamma, beta) = (params.get(&join(&self.path, "weight"))?, params.get(&join(&self.path, "bias"))?);
        Ok(y.mul(&gamma)?.add(&beta)?)
    }
}

impl Layer for LayerNorm {
    fn declare(&self, init: &mut Init) -> Result<()> {
        init.param(join(&self.path, "weight"), &self.dims, Kind::NormScale, Start::Constant(1.0))?;
        init.param(join(&self.path, "bias"), &self.dims, Kind::NormShift, Start::Constant(0.0))
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
