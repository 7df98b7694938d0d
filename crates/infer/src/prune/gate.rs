//! Channels by input: a convolutional network that computes, for each input, only the channels that its gates choose.
//!
//! Gao et al. 2019, "Dynamic Channel Pruning: Feature Boosting and Suppression". Of each layer with input x a small linear
//! map predicts how salient its output channels will be, from the input channels' mean magnitudes:
//!
//! s_c = mean over pixels of |x_c|, g = ReLU(s·φᵀ + ρ), y = ReLU(wta_k(g) ⊙ BN(W ∗ x)),
//!
//! where wta_k keeps the k largest and sets the others to 0, k = ⌈density · channels⌉. When answering, channels that are 0
//! are neither computed nor read: each input gathers its own k × k' kernels from the weight and convolves only those.

use acclimate_kernels::{Conv2d, TensorOps};
use acclimate_tensor::Tensor;
use acclimate_train::error::InLayer;
use acclimate_train::layer::{Init, Start, join};
use acclimate_train::nn::{BatchNorm, Linear};
use acclimate_train::params::Kind;
use acclimate_train::{Error, Layer, Params, Pass, Result};

/// A layer of a [`GatedCnn`].
#[derive(Clone, Debug)]
struct Stage {
    path: String,
    inputs: usize,
    outputs: usize,
    stride: usize,
    norm: BatchNorm,
}

/// Feature maps of which only some channels are there.
struct Sparse {
    /// [n, k, h, w].
    x: Tensor,
    /// Which channels these are (u32) [n, k]; none if all are there.
    index: Option<Tensor>,
}

/// 3 × 3 convolutions `conv<i>` with normalizations `bn<i>` and gates `gate<i>`, the mean over the image, a linear layer
/// `fc`: [n, c, h, w] → [n, classes]. One set of parameters serves every density; train it at those that it will run at.
#[derive(Clone, Debug)]
pub struct GatedCnn {
    stages: Vec<Stage>,
    head: Linear,
    density: f32,
}

impl GatedCnn {
    /// For images of `channels` channels; a layer for each of `layers`, (channels, stride). Density 1.
    pub fn new(path: &str, channels: usize, layers: &[(usize, usize)], classes: usize) -> Self {
        let mut inputs = channels;
        let mut stages = Vec::with_capacity(layers.len());
        for (i, &(outputs, stride)) in layers.iter().enumerate() {
            let norm = BatchNorm::new(join(path, &format!("bn{}", i + 1)), outputs);
            stages.push(Stage { path: join(path, &(i + 1).to_string()), inputs, outputs, stride, norm });
            inputs = outputs;
        }
        GatedCnn { stages, head: Linear::new(join(path, "fc"), inputs, classes), density: 1.0 }
    }

    /// The same network at another density in (0, 1]: the knob. At 1 the gates scale channels and nothing is left out.
    ///
    /// # Errors
    /// If the density is not in (0, 1].
    pub fn at_density(&self, density: f32) -> Result<Self> {
        if density > 0.0 && density <= 1.0 {
            return Ok(GatedCnn { density, ..self.clone() });
        }
        Err(Error::argument("density of channels", "a number in (0, 1]", density))
    }

    /// The density.
    pub fn density(&self) -> f32 {
        self.density
    }

    /// Channels that a layer of `outputs` computes.
    fn winners(&self, outputs: usize) -> usize {
        ((self.density * outputs as f32).ceil() as usize).clamp(1, outputs)
    }
}

impl Stage {
    /// `<path>/<what><number>`, as in `conv1.weight`.
    fn name(&self, what: &str, value: &str) -> String {
        let (front, number) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
        join(front, &format!("{what}{number}.{value}"))
    }

    fn sliding(&self) -> Conv2d {
        Conv2d::same(3).strided(self.stride)
    }

    /// Saliencies [n, outputs] of the output channels.
    fn saliency(&self, params: &Params, x: &Sparse) -> Result<Tensor> {
        let (phi, rho) = (params.get(&self.name("gate", "weight"))?, params.get(&self.name("gate", "bias"))?);
        let mean = x.x.abs()?.mean(&[2, 3])?;
        let product = match &x.index {
            None => mean.matmul_nt(&phi)?,
            Some(index) => {
                // The columns of φ that belong to the channels that are there: [n, k, outputs].
                let &[n, k] = index.dims() else { return Err(unshaped(index)) };
                let columns = phi.transpose(0, 1)?.take(index)?;
                mean.reshape(&[n, 1, k])?.matmul(&columns)?.reshape(&[n, self.outputs])?
            }
        };
        Ok(product.add(&rho)?.relu()?)
    }

    /// All channels, with those that lose set to 0: how it is trained.
    fn dense(&self, params: &Params, x: &Tensor, k: usize, pass: &mut Pass) -> Result<Tensor> {
        let g = self.saliency(params, &Sparse { x: x.clone(), index: None })?;
        let n = x.dims().first().copied().unwrap_or(0);
        let g = if k < self.outputs {
            let least = g.detach()?.topk(k, true)?.0.narrow(1, k - 1, 1)?;
            g.ge(&least.expand(&[n, self.outputs])?)?.select(&g, &g.zeros_like()?)?
        } else {
            g
        };
        let y = x.conv2d(&params.get(&self.name("conv", "weight"))?, &self.sliding())?;
        let y = self.norm.apply(params, &y, pass)?;
        Ok(y.mul(&g.reshape(&[n, self.outputs, 1, 1])?)?.relu()?)
    }

    /// The winners alone, from the channels that are there.
    fn sparse(&self, params: &Params, x: &Sparse, k: usize) -> Result<Sparse> {
        let g = self.saliency(params, x)?;
        let (g, winners) = g.topk(k, true)?;
        let &[n, seen, h, w] = x.x.dims() else { return Err(unshaped(&x.x)) };
        let kernels = self.kernels(params, x.index.as_ref(), &winners, [n, seen, k])?;
        // Each input is a group of one convolution.
        let sliding = self.sliding().grouped(n);
        let y = x.x.reshape(&[1, n * seen, h, w])?.conv2d(&kernels, &sliding)?;
        let &[_, _, oh, ow] = y.dims() else { return Err(unshaped(&y)) };
        let y = y.reshape(&[n, k, oh, ow])?;
        let of = |values: Tensor| values.reshape(&[self.outputs, 1])?.take(&winners)?.reshape(&[n, k, 1, 1]);
        let [mean, variance] = [self.name("bn", "running_mean"), self.name("bn", "running_var")];
        let (mean, variance) = (of(params.buffer(&mean)?)?, of(params.buffer(&variance)?)?);
        let (gamma, beta) = (of(params.get(&self.name("bn", "weight"))?)?, of(params.get(&self.name("bn", "bias"))?)?);
        let y = y.sub(&mean)?.mul(&variance.add_scalar(self.norm.eps())?.rsqrt()?.mul(&gamma)?)?.add(&beta)?;
        let y = y.mul(&g.reshape(&[n, k, 1, 1])?)?.relu()?;
        Ok(Sparse { x: y, index: Some(winners) })
    }

    /// The kernels from `seen` input channels to `k` output channels of each input: [n·k, seen, 3, 3].
    fn kernels(&self, params: &Params, from: Option<&Tensor>, to: &Tensor, [n, seen, k]: [usize; 3]) -> Result<Tensor> {
        let weight = params.get(&self.name("conv", "weight"))?;
        if from.is_none() {
            return Ok(weight.reshape(&[self.outputs, self.inputs * 9])?.take(to)?.reshape(&[n * k, seen, 3, 3])?);
        }
        let device = weight.device();
        let width = u32::try_from(self.inputs).unwrap_or(u32::MAX);
        let row = to.mul(&Tensor::full_u32(device, &[n, k], width)?)?.reshape(&[n, k, 1])?.expand(&[n, k, seen])?;
        let column = match from {
            Some(index) => index.reshape(&[n, 1, seen])?.expand(&[n, k, seen])?,
            None => Tensor::iota(device, &[n, k, seen], 2)?,
        };
        let taps = weight.reshape(&[self.outputs * self.inputs, 9])?;
        Ok(taps.take(&row.add(&column)?)?.reshape(&[n * k, seen, 3, 3])?)
    }
}

fn unshaped(x: &Tensor) -> Error {
    acclimate_tensor::Error::shape("gated convolution", "[n, c, h, w]", format!("shape {}", x.shape())).into()
}

impl Layer for GatedCnn {
    fn declare(&self, init: &mut Init) -> Result<()> {
        for stage in &self.stages {
            let start = Start::fan_in(stage.inputs.saturating_mul(9));
            init.param(stage.name("conv", "weight"), &[stage.outputs, stage.inputs, 3, 3], Kind::Weight, start)?;
            stage.norm.declare(init)?;
            let start = Start::fan_in(stage.inputs);
            init.param(stage.name("gate", "weight"), &[stage.outputs, stage.inputs], Kind::Weight, start)?;
            // So that every channel is let through before anything is learned.
            init.param(stage.name("gate", "bias"), &[stage.outputs], Kind::Bias, Start::Constant(1.0))?;
        }
        self.head.declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        if x.rank() != 4 {
            return Err(unshaped(x));
        }
        let n = x.dims()[0];
        let mut here = Sparse { x: x.clone(), index: None };
        for stage in &self.stages {
            let k = self.winners(stage.outputs);
            // Statistics are of whole layers, and at full density there is nothing to leave out.
            let all =
                pass.is_training() || pass.statistics() != acclimate_train::Statistics::Source || k == stage.outputs;
            here = if all && here.index.is_none() {
                Sparse { x: stage.dense(params, &here.x, k, pass).in_layer(&stage.path)?, index: None }
            } else {
                stage.sparse(params, &here, k).in_layer(&stage.path)?
            };
        }
        let mean = here.x.mean(&[2, 3])?;
        let Some(index) = here.index else { return self.head.apply(params, &mean, pass) };
        let (&[_, k], outputs) = (index.dims(), self.stages.last().map_or(0, |s| s.outputs)) else {
            return Err(unshaped(&index));
        };
        let zeros = Tensor::zeros(x.device(), &[n, outputs])?;
        let all = zeros.scatter_add(1, &index, &mean.reshape(&[n, k])?)?;
        self.head.apply(params, &all, pass)
    }
}
