//! Activations: layers without parameters, element by element.

use acclimate_kernels::TensorOps;
use acclimate_tensor::Tensor;

use crate::error::Result;
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::params::Params;

/// An element-wise function between layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x·Φ(x), with Φ the normal distribution function (Hendrycks and Gimpel 2016).
    Gelu,
    /// x·σ(x) (Elfwing, Uchibe, Doya 2018).
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e^−x).
    Sigmoid,
}

impl Activation {
    /// The function's value.
    pub fn of(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Relu => x.relu()?,
            Activation::Relu6 => x.relu6()?,
            Activation::Gelu => x.gelu()?,
            Activation::Silu => x.silu()?,
            Activation::Tanh => x.tanh()?,
            Activation::Sigmoid => x.sigmoid()?,
        })
    }
}

impl Layer for Activation {
    fn declare(&self, _: &mut Init) -> Result<()> {
        Ok(())
    }

    fn apply(&self, _: &Params, x: &Tensor, _: &mut Pass) -> Result<Tensor> {
        self.of(x)
    }

    fn narrowed(&self, _: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        Narrowed::to(*self, x)
    }
}
