//! The residual networks of He et al. 2016 for CIFAR-10 (section 4.2 of the paper), with option-A shortcuts.

use acclimate_tensor::Tensor;

use crate::error::{Error, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Residual, Sequential, Shortcut, Standardize};
use crate::params::Params;

/// Mean of red, green and blue over ImageNet, for pixels in [0, 1].
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of red, green and blue over ImageNet.
pub const IMAGENET_DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// A 3 × 3 convolution, three stages of (depth − 2)/6 residual blocks with 16, 32 and 64 channels, the mean over the
/// image, a linear layer: [n, 3, h, w] → [n, classes]. Paths: `conv1`, `bn1`, `layer<s>.<i>.{conv1,bn1,conv2,bn2}`,
/// `linear`.
#[derive(Clone, Debug)]
pub struct CifarResNet {
    layers: Sequential,
}

impl CifarResNet {
    /// For standardized images. `depth` is 20, 56 or another 6n + 2.
    pub fn new(depth: usize, classes: usize) -> Result<Self> {
        if depth < 8 || depth % 6 != 2 {
            return Err(Error::argument("residual network", "a depth of 6n + 2 with n at least 1, as 20 or 56", depth));
        }
        let n_blocks = (depth - 2) / 6;
        let mut layers = normalized(Sequential::new(), "conv1", "bn1", [3, 16], 1).then(Activation::Relu);
        let mut inputs = 16;
        for (stage, outputs) in [16, 32, 64].into_iter().enumerate() {
            for i in 0..n_blocks {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                layers = layers.then(block(&format!("layer{}.{i}", stage + 1), inputs, outputs, stride));
                inputs = outputs;
            }
        }
        let layers = layers.then(GlobalAvgPool2d).then(Linear::new("linear", inputs, classes));
        Ok(CifarResNet { layers })
    }

    /// For images with pixels in [0, 1]: standardized by ImageNet's constants, as the published weights expect.
    pub fn for_pixels(depth: usize, classes: usize) -> Result<Self> {
        let standardize = Standardize::new(&IMAGENET_MEAN, &IMAGENET_DEVIATION)?;
        Ok(CifarResNet { layers: Sequential::new().then(standardize).then(Self::new(depth, classes)?) })
    }
}

/// A 3 × 3 convolution and a normalization after `layers`.
fn normalized(layers: Sequential, conv: &str, norm: &str, [from, to]: [usize; 2], stride: usize) -> Sequential {
    layers.then(Conv2d::new(conv, from, to, 3).same().strided(stride).without_bias()).then(BatchNorm::new(norm, to))
}

fn block(path: &str, inputs: usize, outputs: usize, stride: usize) -> Residual {
    let name = |what: &str| format!("{path}.{what}");
    let body = normalized(Sequential::new(), &name("conv1"), &name("bn1"), [inputs, outputs], stride);
    let body = normalized(body.then(Activation::Relu), &name("conv2"), &name("bn2"), [outputs, outputs], 1);
    let block = Residual::new(path, body);
    if stride == 1 && inputs == outputs {
        return block;
    }
    block.with_shortcut(Shortcut::Pad { stride, channels: [(outputs - inputs) / 2; 2] })
}

impl Layer for CifarResNet {
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
