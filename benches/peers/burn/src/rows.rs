//! The rows of `benches/src/rows.rs` in burn: the same numbers in, the same result out, on the host.

use anyhow::{Result, bail};
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// One call: its result, read back.
pub type Call = Box<dyn FnMut() -> Result<Vec<f32>>>;

/// Makes a row by name.
pub fn make(name: &str, d: &Device) -> Result<Call> {
    Ok(match name {
        "matmul_512" => matmul(d, 512),
        "matmul_1024" => matmul(d, 1024),
        "relu_chain_4m" => {
            let x = tensor::<1>(d, [1 << 22], 1);
            Box::new(move || read(relu(x.clone().mul_scalar(2.0).add_scalar(1.0))))
        }
        "sum_4m" => {
            let x = tensor::<1>(d, [1 << 22], 1);
            // `x.sum()`, and every other sum of all at once, is wrong on lavapipe: 250.24 where it should be 1139.47.
            Box::new(move || read(x.clone().reshape([2048, 2048]).sum_dim(1).sum_dim(0)))
        }
        "mlp_step" => mlp_step(&d.clone().autodiff()),
        "cnn_step" => cnn_step(&d.clone().autodiff()),
        "cnn_forward" => {
            let (model, x) = (Cnn::new(d), images(d));
            Box::new(move || read(model.forward(x.clone())))
        }
        "tent_step" => tent_step(&d.clone().autodiff()),
        _ => bail!("burn has no row `{name}`"),
    })
}

fn read<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    match x.into_data().to_vec() {
        Ok(values) => Ok(values),
        Err(e) => bail!("the result is not f32: {e:?}"),
    }
}

/// Reproducible numbers in [-0.5, 0.5), as `values` in `benches/src/row.rs`.
fn values(n: usize, salt: u32) -> Vec<f32> {
    let word = |i: usize| {
        let mut h = (i as u32).wrapping_mul(0x9E37_79B1).wrapping_add(salt.wrapping_mul(0x85EB_CA77));
        h ^= h >> 16;
        h = h.wrapping_mul(0x85EB_CA6B);
        h ^= h >> 13;
        h = h.wrapping_mul(0xC2B2_AE35);
        h ^ (h >> 16)
    };
    (0..n).map(|i| (word(i) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

fn tensor<const D: usize>(d: &Device, dims: [usize; D], salt: u32) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values(dims.iter().product(), salt), dims), d)
}

fn matmul(d: &Device, n: usize) -> Call {
    let (a, b) = (tensor::<2>(d, [n, n], 1), tensor::<2>(d, [n, n], 2));
    Box::new(move || read(a.clone().matmul(b.clone())))
}

/// Hands out the values of parameters in the order of `params` in `benches/src/rows.rs`.
struct Fill<'a> {
    device: &'a Device,
    salt: u32,
    fan_in: usize,
}

impl<'a> Fill<'a> {
    fn new(device: &'a Device) -> Self {
        Fill { device, salt: 100, fan_in: 1 }
    }

    fn next(&mut self, n: usize, scale: f32, shift: f32) -> Vec<f32> {
        self.salt += 1;
        values(n, self.salt - 1).into_iter().map(|v| v * scale + shift).collect()
    }

    fn param<const D: usize>(&self, values: Vec<f32>, dims: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, dims), self.device)
    }

    fn spread(&self) -> f32 {
        2.0 / (self.fan_in as f32).sqrt()
    }

    /// The weight is [out, in] there and [in, out] in burn.
    fn linear(&mut self, ins: usize, outs: usize) -> Linear {
        self.fan_in = ins;
        let rows = self.next(ins * outs, self.spread(), 0.0);
        let columns = (0..ins * outs).map(|at| rows[at % outs * ins + at / outs]).collect();
        let bias = self.next(outs, self.spread(), 0.0);
        let mut linear = LinearConfig::new(ins, outs).init(self.device);
        linear.weight = self.param(columns, [ins, outs]);
        linear.bias = Some(self.param(bias, [outs]));
        linear
    }

    fn conv(&mut self, ins: usize, outs: usize, stride: usize) -> Conv2d {
        self.fan_in = ins * 9;
        let weight = self.next(outs * ins * 9, self.spread(), 0.0);
        let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let config = Conv2dConfig::new([ins, outs], [3, 3]).with_stride([stride, stride]).with_padding(padding);
        let mut conv = config.with_bias(false).init(self.device);
        conv.weight = self.param(weight, [outs, ins, 3, 3]);
        conv
    }

    fn norm(&mut self, n: usize) -> BatchNorm {
        let mut norm = BatchNormConfig::new(n).init(self.device);
        let scale = self.next(n, 0.5, 1.0);
        norm.gamma = self.param(scale, [n]);
        let shift = self.next(n, 0.5, 0.0);
        norm.beta = self.param(shift, [n]);
        norm
    }
}

fn images(d: &Device) -> Tensor<4> {
    tensor(d, [32, 3, 32, 32], 1)
}

fn labels(d: &Device, n: usize) -> Tensor<1, Int> {
    let labels: Vec<i32> = (0..n as i32).map(|i| (i * 7 + 3) % 10).collect();
    Tensor::from_data(TensorData::new(labels, [n]), d)
}

fn adam() -> ModuleOptimizer {
    AdamConfig::new().with_epsilon(1e-8).init()
}

/// A call that steps: the next module, and the result from before the step.
fn stepping<M, const D: usize>(d: &Device, model: M, f: impl Fn(&M) -> (Tensor<1>, Tensor<D>) + 'static) -> Call
where
    M: Module + 'static,
{
    let (mut now, mut optimizer, d) = (Some(model), adam(), d.clone());
    Box::new(move || {
        let Some(model) = now.take() else { bail!("the call before this one failed") };
        let (loss, result) = f(&model);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        now = Some(optimizer.step(1e-3, model, grads));
        let result = read(result)?;
        // The step belongs to the call, and burn runs it when somebody asks.
        d.sync()?;
        Ok(result)
    })
}

#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

fn mlp_step(d: &Device) -> Call {
    let mut fill = Fill::new(d);
    let model = Mlp { fc1: fill.linear(784, 512), fc2: fill.linear(512, 512), fc3: fill.linear(512, 10) };
    let (x, y) = (tensor::<2>(d, [128, 784], 1), labels(d, 128));
    let loss = CrossEntropyLossConfig::new().init(d);
    stepping(d, model, move |model| {
        let x = relu(model.fc2.forward(relu(model.fc1.forward(x.clone()))));
        let loss = loss.forward(model.fc3.forward(x), y.clone());
        (loss.clone(), loss.detach())
    })
}

#[derive(Module, Debug)]
struct Cnn {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Conv2d,
    bn3: BatchNorm,
    fc: Linear,
}

impl Cnn {
    fn new(d: &Device) -> Self {
        let mut fill = Fill::new(d);
        Cnn {
            conv1: fill.conv(3, 32, 1),
            bn1: fill.norm(32),
            conv2: fill.conv(32, 64, 2),
            bn2: fill.norm(64),
            conv3: fill.conv(64, 128, 2),
            bn3: fill.norm(128),
            fc: fill.linear(128, 10),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(self.conv1.forward(x)));
        let x = relu(self.bn2.forward(self.conv2.forward(x)));
        let x = relu(self.bn3.forward(self.conv3.forward(x)));
        self.fc.forward(x.flatten::<3>(2, 3).mean_dim(2).flatten(1, 2))
    }
}

fn cnn_step(d: &Device) -> Call {
    let (x, y) = (images(d), labels(d, 32));
    let loss = CrossEntropyLossConfig::new().init(d);
    stepping(d, Cnn::new(d), move |model| {
        let loss = loss.forward(model.forward(x.clone()), y.clone());
        (loss.clone(), loss.detach())
    })
}

/// TENT: entropy of the logits, a step of the affines alone, with the statistics of the batch.
fn tent_step(d: &Device) -> Call {
    let mut model = Cnn::new(d);
    model.conv1 = model.conv1.no_grad();
    model.conv2 = model.conv2.no_grad();
    model.conv3 = model.conv3.no_grad();
    model.fc = model.fc.no_grad();
    let x = images(d);
    stepping(d, model, move |model| {
        let logits = model.forward(x.clone());
        let log_p = log_softmax(logits.clone(), 1);
        let entropy = (log_p.clone().exp() * log_p).sum_dim(1).mean().neg();
        (entropy, logits.detach())
    })
}
