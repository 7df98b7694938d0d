//! The convolution layer.

use acclimate_kernels::{Conv2d as Sliding, TensorOps};
use acclimate_tensor::Tensor;

use crate::error::{Error, InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, Start, join};
use crate::params::{Kind, Params};

/// y = W ∗ x + b over images. Shapes: x [n, inputs, h, w], W [outputs, inputs/groups, kh, kw], b `[outputs]` →
/// [n, outputs, h', w']. Paths: `weight`, `bias`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    path: String,
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    sliding: Sliding,
    has_bias: bool,
}

impl Conv2d {
    /// A kernel of k × k, stride 1, no padding, with bias.
    pub fn new(path: impl Into<String>, inputs: usize, outputs: usize, k: usize) -> Self {
        Conv2d { path: path.into(), inputs, outputs, kernel: [k; 2], sliding: Sliding::default(), has_bias: true }
    }

    /// Padded so that stride 1 keeps the image's size.
    #[must_use]
    pub fn same(self) -> Self {
        let padding = Sliding::same(self.kernel[0]).padding;
        Conv2d { sliding: Sliding { padding, ..self.sliding }, ..self }
    }

    /// With this stride both ways.
    #[must_use]
    pub fn strided(self, stride: usize) -> Self {
        Conv2d { sliding: self.sliding.strided(stride), ..self }
    }

    /// With this many groups of channels that do not see each other.
    #[must_use]
    pub fn grouped(self, groups: usize) -> Self {
        Conv2d { sliding: self.sliding.grouped(groups), ..self }
    }

    /// With another way for the kernel to slide.
    #[must_use]
    pub fn sliding(self, sliding: Sliding) -> Self {
        Conv2d { sliding, ..self }
    }

    /// Without bias, as before a normalization.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Conv2d { has_bias: false, ..self }
    }
}

impl Conv2d {
    /// A convolution to few channels, and from them to all.
    fn low_rank(&self, pass: &Pass, x: &Tensor, down: &Tensor, up: &Tensor) -> acclimate_tensor::Result<Tensor> {
        if self.sliding.groups != 1 {
            let found = format!("{} groups", self.sliding.groups);
            return Err(acclimate_tensor::Error::argument(
                "conv2d",
                "low-rank addition",
                "a convolution of one group",
                found,
            ));
        }
        let [o, r] = [up.dims()[0], up.dims()[1]];
        let x = pass.multiply(x, down, &|x, w| x.conv2d(w, &self.sliding))?;
        pass.multiply(&x, &up.reshape(&[o, r, 1, 1])?, &|x, w| x.conv2d(w, &Sliding::default()))
    }
}

impl Layer for Conv2d {
    fn declare(&self, init: &mut Init) -> Result<()> {
        let seen = self.inputs / self.sliding.groups.max(1);
        let [kh, kw] = self.kernel;
        let start = Start::fan_in(seen.saturating_mul(kh).saturating_mul(kw));
        init.param(join(&self.path, "weight"), &[self.outputs, seen, kh, kw], Kind::Weight, start)?;
        if self.has_bias {
            init.param(join(&self.path, "bias"), &[self.outputs], Kind::Bias, start)?;
        }
        Ok(())
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let path = join(&self.path, "weight");
        let slide = |x: &Tensor, w: &Tensor| x.conv2d(w, &self.sliding);
        let mut y = pass.multiply(x, &params.get(&path)?, &slide).in_layer(&self.path)?;
        pass.product(&path, x, &y, Some(self.sliding));
        if let Some((down, up)) = params.low_rank(&path) {
            y = y.add(&self.low_rank(pass, x, &down, &up).in_layer(&self.path)?).in_layer(&self.path)?;
        }
        if self.has_bias {
            let bias = params.get(&join(&self.path, "bias"))?.reshape(&[self.outputs, 1, 1])?;
            y = y.add(&bias).in_layer(&self.path)?;
        }
        Ok(pass.output(&self.path, y))
    }

    fn narrowed(&self, kept: &Kept, _: Option<Channels>) -> Result<Narrowed> {
        let (path, groups) = (join(&self.path, "weight"), self.sliding.groups.max(1));
        let seen = self.inputs / groups;
        let [outputs, now_seen] = [kept.count(&path, 0, self.outputs), kept.count(&path, 1, seen)];
        let depthwise = groups == self.inputs && self.outputs == self.inputs;
        if groups > 1 && !depthwise && [outputs, now_seen] != [self.outputs, seen] {
            let found = format!("{groups} groups in {}", self.path);
            return Err(Error::argument("convolution to narrow", "one group, or one for each channel", found));
        }
        Ok(Narrowed::of_weight(kept, &path, [self.outputs, seen], |[outputs, seen]| {
            let groups = if depthwise { outputs } else { groups };
            let sliding = Sliding { groups, ..self.sliding };
            Conv2d { inputs: seen * groups, outputs, sliding, ..self.clone() }
        }))
    }
}
