//! Residual blocks (He et al. 2016).

use acclimate_tensor::Tensor;

use super::{Activation, Sequential};
use crate::error::{InLayer, Result};
use crate::layer::{Init, Layer, Pass};
use crate::params::Params;

/// How the input of a residual block reaches its output.
#[derive(Clone, Debug)]
pub enum Shortcut {
    /// As it is.
    Identity,
    /// Every `stride`-th pixel, and `channels` zero channels before and after: no parameters (option A of the paper).
    Pad {
        /// Pixels from one kept pixel to the next.
        stride: usize,
        /// Zero channels on each side.
        channels: usize,
    },
    /// Through layers of its own, as a 1 × 1 convolution and a normalization (option B).
    Layers(Sequential),
}

/// activation(body(x) + shortcut(x)).
#[derive(Clone, Debug)]
pub struct Residual {
    path: String,
    body: Sequential,
    shortcut: Shortcut,
    activation: Option<Activation>,
}

impl Residual {
    /// Identity as shortcut, and a rectifier after the sum. The path is for error messages.
    pub fn new(path: impl Into<String>, body: Sequential) -> Self {
        Residual { path: path.into(), body, shortcut: Shortcut::Identity, activation: Some(Activation::Relu) }
    }

    /// With another shortcut.
    #[must_use]
    pub fn with_shortcut(self, shortcut: Shortcut) -> Self {
        Residual { shortcut, ..self }
    }

    /// With another activation after the sum, or none.
    #[must_use]
    pub fn with_activation(self, activation: Option<Activation>) -> Self {
        Residual { activation, ..self }
    }
}

impl Layer for Residual {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.body.declare(init)?;
        match &self.shortcut {
            Shortcut::Layers(layers) => layers.declare(init),
            _ => Ok(()),
        }
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let y = self.body.apply(params, x, pass)?;
        let x = match &self.shortcut {
            Shortcut::Identity => x.clone(),
            Shortcut::Pad { stride, channels } => padded(x, *stride, *channels).in_layer(&self.path)?,
            Shortcut::Layers(layers) => layers.apply(params, x, pass)?,
        };
        let sum = y.add(&x).in_layer(&self.path)?;
        let y = self.activation.map_or(Ok(sum.clone()), |activation| activation.of(&sum))?;
        Ok(pass.output(&self.path, y))
    }
}

/// [n, c, h, w] → [n, c + 2·channels, ⌈h/stride⌉, ⌈w/stride⌉].
fn padded(x: &Tensor, stride: usize, channels: usize) -> acclimate_tensor::Result<Tensor> {
    let &[n, c, h, w] = x.dims() else {
        return Err(acclimate_tensor::Error::shape("shortcut", "rank 4 [n, c, h, w]", format!("{}", x.shape())));
    };
    let step = isize::try_from(stride).ok().filter(|&s| s > 0);
    let Some(step) = step else {
        return Err(acclimate_tensor::Error::argument("shortcut", "stride", "at least 1", stride));
    };
    let x = x.strided_slice(&[0; 4], &[1, 1, step, step], &[n, c, h.div_ceil(stride), w.div_ceil(stride)])?;
    x.pad(&[(0, 0), (channels, channels), (0, 0), (0, 0)])
}
