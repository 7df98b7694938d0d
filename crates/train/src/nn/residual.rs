//! Residual blocks (He et al. 2016).

use std::sync::Arc;

use acclimate_tensor::Tensor;

use super::{Activation, Sequential};
use crate::error::{Error, InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::params::Params;

/// How the input of a residual block reaches its output.
#[derive(Clone, Debug)]
pub enum Shortcut {
    /// As it is.
    Identity,
    /// Every `stride`-th pixel, and zero channels before and after: no parameters (option A of the paper).
    Pad {
        /// Pixels from one kept pixel to the next.
        stride: usize,
        /// Zero channels before and after.
        channels: [usize; 2],
    },
    /// Through layers of its own, as a 1 × 1 convolution and a normalization (option B).
    Layers(Sequential),
}

/// activation(body(x) + shortcut(x)).
#[derive(Clone, Debug)]
pub struct Residual {
    path: String,
    /// None if it gives 0.
    body: Option<Arc<dyn Layer>>,
    shortcut: Shortcut,
    activation: Option<Activation>,
}

impl Residual {
    /// Identity as shortcut, and a rectifier after the sum. The path is for error messages.
    pub fn new(path: impl Into<String>, body: Sequential) -> Self {
        let body: Option<Arc<dyn Layer>> = Some(Arc::new(body));
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
        self.body.iter().try_for_each(|body| body.declare(init))?;
        match &self.shortcut {
            Shortcut::Layers(layers) => layers.declare(init),
            _ => Ok(()),
        }
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let y = self.body.as_ref().map(|body| body.apply(params, x, pass)).transpose()?;
        let x = match &self.shortcut {
            Shortcut::Identity => x.clone(),
            Shortcut::Pad { stride, channels } => padded(x, *stride, *channels).in_layer(&self.path)?,
            Shortcut::Layers(layers) => layers.apply(params, x, pass)?,
        };
        let sum = y.map_or(Ok(x.clone()), |y| y.add(&x)).in_layer(&self.path)?;
        let y = self.activation.map_or(Ok(sum.clone()), |activation| activation.of(&sum))?;
        Ok(pass.output(&self.path, y))
    }

    /// A body of which nothing is left goes away.
    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        let Some(body) = &self.body else {
            return Narrowed::to(self.clone(), x);
        };
        let body = body.narrowed(kept, x.clone())?;
        let shortcut = match (&self.shortcut, &x, &body.channels) {
            (Shortcut::Identity, ..) => Shortcut::Identity,
            (Shortcut::Pad { stride, channels: [before, _] }, Some(x), Some(y)) => {
                let inside = *before..before + x.full;
                let through: Vec<usize> = y.kept.iter().filter(|c| inside.contains(c)).map(|c| c - before).collect();
                if through != x.kept {
                    let expected = format!("channels {:?} in the middle, as in the input", x.kept);
                    return Err(Error::argument(
                        "shortcut to narrow",
                        expected,
                        format!("{through:?} in {}", self.path),
                    ));
                }
                let front = y.kept.iter().filter(|&c| c < before).count();
                let channels = [front, y.kept.len() - front - through.len()];
                Shortcut::Pad { stride: *stride, channels }
            }
            (Shortcut::Pad { .. }, ..) => {
                let found = format!("channels that nobody knows before {}", self.path);
                return Err(Error::argument("shortcut to narrow", "the channels of the layers before it", found));
            }
            (Shortcut::Layers(layers), ..) => {
                let Some(layer) = layers.narrowed(kept, x.clone())?.layer else {
                    let found = format!("none left in {}", self.path);
                    return Err(Error::argument("shortcut to narrow", "channels", found));
                };
                Shortcut::Layers(Sequential::new().then(layer))
            }
        };
        let narrow = Residual { body: body.layer, shortcut, ..self.clone() };
        Narrowed::to(narrow, body.channels)
    }
}

/// [n, c, h, w] → [n, before + c + after, ⌈h/stride⌉, ⌈w/stride⌉].
fn padded(x: &Tensor, stride: usize, [before, after]: [usize; 2]) -> acclimate_tensor::Result<Tensor> {
    let &[n, c, h, w] = x.dims() else {
        return Err(acclimate_tensor::Error::shape("shortcut", "rank 4 [n, c, h, w]", format!("{}", x.shape())));
    };
    let step = isize::try_from(stride).ok().filter(|&s| s > 0);
    let Some(step) = step else {
        return Err(acclimate_tensor::Error::argument("shortcut", "stride", "at least 1", stride));
    };
    let x = x.strided_slice(&[0; 4], &[1, 1, step, step], &[n, c, h.div_ceil(stride), w.div_ceil(stride)])?;
    x.pad(&[(0, 0), (before, after), (0, 0), (0, 0)])
}
