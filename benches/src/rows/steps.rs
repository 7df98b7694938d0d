//! Steps of networks: training, answering, adaptation.

use acclimate_kernels::random::Key;
use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{Device, Tensor};
use acclimate_train::nn::zoo::EfficientNetLite0;
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Mixed, Mlp, Sequential};
use acclimate_train::optim::{self, Optimizer, State, StepCx};
use acclimate_train::{Kind, Layer, Params, Pass, Statistics, loss};
use anyhow::Result;

use super::tensor;
use crate::row::{Row, Size, values};

/// Parameters with reproducible values: salt 100 and on in their order; weights and biases spread by 1/√fan-in, norms
/// near the identity.
fn params(d: &Device, model: &dyn Layer) -> Result<Params> {
    let params = model.init(d, 1)?;
    let kinds: Vec<Kind> = params.index().entries().iter().map(|e| e.kind).collect();
    let mut named = params.to_named()?;
    let mut fan_in = 1;
    for (salt, ((_, dims, data), kind)) in (100..).zip(named.iter_mut().zip(&kinds)) {
        if *kind == Kind::Weight {
            fan_in = dims[1..].iter().product();
        }
        let (scale, shift) = match kind {
            Kind::NormScale => (0.5, 1.0),
            Kind::NormShift => (0.5, 0.0),
            _ => (2.0 / (fan_in as f32).sqrt(), 0.0),
        };
        *data = values(dims.iter().product(), salt).into_iter().map(|v| v * scale + shift).collect();
    }
    named.extend(params.buffers_to_named()?);
    Ok(params.with_values(named, "the bench")?)
}

fn labels(d: &Device, n: usize) -> Result<Tensor> {
    let labels: Vec<u32> = (0..n as u32).map(|i| (i * 7 + 3) % 10).collect();
    Ok(Tensor::from_slice(d, &labels, &[n])?)
}

/// One training step: the result is the loss before it.
fn train<L: Layer + Clone + 'static>(name: &'static str, d: &Device, model: L, x: Tensor) -> Result<Row> {
    train_by(name, d, model, x, optim::adam(1e-3))
}

fn train_by<L: Layer + Clone + 'static>(
    name: &'static str,
    d: &Device,
    model: L,
    x: Tensor,
    optimizer: Optimizer,
) -> Result<Row> {
    let params = params(d, &model)?;
    let state = optimizer.init(&params)?;
    let inputs = (x.clone(), labels(d, x.dims()[0])?, optimizer.rate_tensor(d, 0)?);
    let step = move |(params, state): (Params, State), (x, y, rate): (Tensor, Tensor, Tensor)| {
        let mut pass = Pass::train(Key::new(x.device(), 0)?);
        let loss = loss::cross_entropy(&model.apply(&params, &x, &mut pass)?, &y)?;
        let grads = params.grad(&optimizer.scaled(&loss, &state)?)?;
        let updated = params.with_buffers(pass.take_updates())?;
        Ok((optimizer.step(updated, &grads, state, &StepCx::new(&rate).scaled())?, loss))
    };
    Ok(Row::new(name, (params, state), inputs, step))
}

fn mlp(size: Size) -> Mlp {
    let width = size.of(512, 24);
    Mlp::new("net", size.of(784, 20), &[width, width], 10)
}

pub(super) fn mlp_step(d: &Device, size: Size) -> Result<Row> {
    train("mlp_step", d, mlp(size), tensor(d, &[size.of(128, 8), size.of(784, 20)], 1)?)
}

/// The same in mixed precision, with a scaled loss.
pub(super) fn mlp_step_half(d: &Device, size: Size) -> Result<Row> {
    let x = tensor(d, &[size.of(128, 8), size.of(784, 20)], 1)?;
    train_by("mlp_step_half", d, Mixed::new(mlp(size)), x, optim::adam(1e-3).scale_loss())
}

/// Convolution, batch normalization, rectifier, three times with strides 1, 2, 2; mean over the image; linear.
fn cnn(size: Size) -> Sequential {
    let mut layers = Sequential::new();
    let widths = if size == Size::Full { [3, 32, 64, 128] } else { [3, 5, 6, 8] };
    for i in 1..4 {
        let conv = Conv2d::new(format!("conv{i}"), widths[i - 1], widths[i], 3).same().without_bias();
        layers = layers.then(conv.strided(if i == 1 { 1 } else { 2 }));
        layers = layers.then(BatchNorm::new(format!("bn{i}"), widths[i])).then(Activation::Relu);
    }
    layers.then(GlobalAvgPool2d).then(Linear::new("fc", widths[3], 10))
}

fn images(d: &Device, size: Size) -> Result<Tensor> {
    let side = size.of(32, 8);
    tensor(d, &[size.of(32, 3), 3, side, side], 1)
}

pub(super) fn cnn_step(d: &Device, size: Size) -> Result<Row> {
    train("cnn_step", d, cnn(size), images(d, size)?)
}

/// The same in mixed precision, with a scaled loss.
pub(super) fn cnn_step_half(d: &Device, size: Size) -> Result<Row> {
    let optimizer = optim::adam(1e-3).scale_loss();
    train_by("cnn_step_half", d, Mixed::new(cnn(size)), images(d, size)?, optimizer)
}

/// A network's logits.
fn forward<L: Layer + Clone + 'static>(name: &'static str, d: &Device, model: L, x: Tensor) -> Result<Row> {
    let inputs = (params(d, &model)?, x);
    let f = move |state, (params, x): (Params, Tensor)| Ok((state, model.forward(&params, &x)?));
    Ok(Row::new(name, Vec::<Tensor>::new(), inputs, f))
}

pub(super) fn cnn_forward(d: &Device, size: Size) -> Result<Row> {
    forward("cnn_forward", d, cnn(size), images(d, size)?)
}

fn affine_paths(params: &Params) -> Vec<String> {
    params.select(|_, kind| kind.is_norm_affine())
}

/// Logits and mean entropy under moved affines, with the statistics of the rows.
fn entropy(model: &dyn Layer, params: &Params, affine: &Params, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let mut pass = Pass::infer().with_statistics(Statistics::Batch);
    let logits = model.apply(&params.overlaid(affine)?, x, &mut pass)?;
    let entropy = loss::mean(&loss::entropy(&logits)?)?;
    Ok((logits, entropy))
}

fn moved(affine: Params, entropy: &Tensor, optimizer: &Optimizer, state: State) -> Result<(Params, State)> {
    let grads = affine.grad(entropy)?;
    let rate = optimizer.rate_tensor(entropy.device(), 0)?;
    Ok(optimizer.step(affine, &grads, state, &StepCx::new(&rate))?)
}

/// TENT (Wang et al. 2021): one step on the affines of all normalizations; the result is the logits before it.
fn tent<L: Layer + Clone + 'static>(
    name: &'static str,
    d: &Device,
    model: L,
    x: Tensor,
    optimizer: Optimizer,
) -> Result<Row> {
    let params = params(d, &model)?;
    let affine = params.subset(&affine_paths(&params))?;
    let state = optimizer.init(&affine)?;
    let f = move |(affine, state): (Params, State), (params, x): (Params, Tensor)| {
        let (logits, entropy) = entropy(&model, &params, &affine, &x)?;
        Ok((moved(affine, &entropy, &optimizer, state)?, logits))
    };
    Ok(Row::new(name, (affine, state), (params, x), f))
}

pub(super) fn tent_step(d: &Device, size: Size) -> Result<Row> {
    tent("tent_step", d, cnn(size), images(d, size)?, optim::adam(1e-3))
}

/// EfficientNet-Lite0 for 1000 classes, 4.7 million parameters, and 16 images of 224 × 224.
fn mobile(d: &Device, size: Size) -> Result<(EfficientNetLite0, Tensor)> {
    let side = size.of(224, 64);
    let x = tensor(d, &[size.of(16, 4), 3, side, side], 1)?.add_scalar(0.5)?;
    Ok((EfficientNetLite0::for_pixels([side; 2], size.of(1000, 10))?, x))
}

pub(super) fn mobile_forward(d: &Device, size: Size) -> Result<Row> {
    let (model, x) = mobile(d, size)?;
    forward("mobile_forward", d, model, x)
}

/// With the optimizer that TENT takes for ImageNet.
pub(super) fn mobile_tent(d: &Device, size: Size) -> Result<Row> {
    let (model, x) = mobile(d, size)?;
    tent("mobile_tent", d, model, x, optim::sgd(2.5e-4).momentum(0.9))
}

/// Each image with affines and statistics of its own: one Adam step and a second forward pass, whose logits are the
/// result.
pub(super) fn slots(d: &Device, size: Size) -> Result<Row> {
    let model = cnn(size);
    let params = params(d, &model)?;
    let optimizer = optim::adam(1e-3);
    let f = move |state, (params, images): (Params, Tensor)| {
        let one = |x: Tensor| {
            let x = x.unsqueeze(0)?;
            let affine = params.subset(&affine_paths(&params))?;
            let fresh = optimizer.init(&affine)?;
            let before = entropy(&model, &params, &affine, &x).map_err(Wrapped)?.1;
            let (affine, _) = moved(affine, &before, &optimizer, fresh).map_err(Wrapped)?;
            Ok::<_, Wrapped>(entropy(&model, &params, &affine, &x).map_err(Wrapped)?.0)
        };
        let logits = vmap_with(one, images).map_err(|e| e.0)?;
        Ok((state, logits))
    };
    Ok(Row::new("slots_32", Vec::<Tensor>::new(), (params, images(d, size)?), f))
}

/// An error inside `vmap`.
struct Wrapped(anyhow::Error);

impl<E: Into<acclimate_train::Error>> From<E> for Wrapped {
    fn from(e: E) -> Self {
        Wrapped(e.into().into())
    }
}
