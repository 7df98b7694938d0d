//! A small network for small images.

use acclimate_kernels::Pool2d;
use acclimate_tensor::Tensor;

use super::{Activation, Conv2d, Flatten, Linear, MaxPool2d, Norm, Sequential};
use crate::error::{Error, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, join};
use crate::params::Params;

/// Stages of [3 × 3 convolution `conv<i>`, normalization `bn<i>`, rectifier, 2 × 2 maximum], then a linear layer `fc`:
/// [n, c, h, w] → [n, classes].
#[derive(Clone, Debug)]
pub struct SmallCnn {
    path: String,
    image: [usize; 3],
    channels: Vec<usize>,
    classes: usize,
    norm: Norm,
    layers: Sequential,
}

impl SmallCnn {
    /// For images of [channels, height, width]; one stage for each number of `channels`, with batch normalization. Fails
    /// without stages, and if the image is too small for as many of them.
    pub fn new(path: impl Into<String>, image: [usize; 3], channels: &[usize], classes: usize) -> Result<Self> {
        let halvings = u32::try_from(channels.len()).unwrap_or(u32::MAX);
        let smallest = image[1].min(image[2]).checked_shr(halvings).unwrap_or(0);
        if channels.is_empty() || smallest == 0 {
            let found = format!("{} stages for images of {} × {}", channels.len(), image[1], image[2]);
            return Err(Error::argument(
                "small CNN",
                "at least one stage, and an image that can be halved in each",
                found,
            ));
        }
        let (channels, layers) = (channels.to_vec(), Sequential::new());
        Ok(SmallCnn { path: path.into(), image, channels, classes, norm: Norm::Batch, layers }.built())
    }

    /// With another normalization; the paths stay.
    #[must_use]
    pub fn with_norm(self, norm: Norm) -> Self {
        SmallCnn { norm, ..self }.built()
    }

    fn built(mut self) -> Self {
        let mut layers = Sequential::new();
        let [mut c, mut h, mut w] = self.image;
        for (i, &outputs) in self.channels.iter().enumerate() {
            let name = |what: &str| join(&self.path, &format!("{what}{}", i + 1));
            layers = layers.then(Conv2d::new(name("conv"), c, outputs, 3).same().without_bias());
            layers = self.norm.of_images(layers, name("bn"), outputs).then(Activation::Relu);
            layers = layers.then(MaxPool2d(Pool2d::new(2)));
            (c, h, w) = (outputs, h / 2, w / 2);
        }
        // The product of sizes that overflow is refused when the parameters are declared.
        let inputs = c.saturating_mul(h).saturating_mul(w);
        self.layers = layers.then(Flatten).then(Linear::new(join(&self.path, "fc"), inputs, self.classes));
        self
    }
}

impl Layer for SmallCnn {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.layers.declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.layers.apply(params, x, pass)
    }

    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        self.layers.narrowed(kept, x)
    }
}
