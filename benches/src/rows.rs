//! The table: products, element-wise chains, sums, training steps, adaptation steps. Weights are inputs of the compiled
//! work, never folded constants.

use acclimate_kernels::{self as kernels, TensorOps};
use acclimate_tensor::transform::grad::grad;
use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{DType, Device, Tensor};
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Mixed, Mlp, Sequential};
use acclimate_train::optim::{self, Optimizer, State, StepCx};
use acclimate_train::{Kind, Layer, Params, Pass, Statistics, loss};
use anyhow::Result;

use crate::row::{Row, Size, values};

/// Makes a row.
pub type Make = fn(&Device, Size) -> Result<Row>;

/// Every row by name, in the order of the tables.
pub const ROWS: &[(&str, Make)] = &[
    ("matmul_512", |d, size| matmul("matmul_512", d, size.of(512, 33))),
    ("matmul_1024", |d, size| matmul("matmul_1024", d, size.of(1024, 65))),
    ("relu_chain_4m", relu_chain),
    ("sum_4m", sum),
    ("mlp_step", mlp_step),
    ("cnn_step", cnn_step),
    ("cnn_forward", cnn_forward),
    ("tent_step", tent_step),
    ("slots_32", slots),
    ("depthwise", depthwise),
];

/// Rows in mixed precision: what halves change in time and memory. Their results are as exact as halves are.
pub const MIXED: &[(&str, Make)] = &[("mlp_step_half", mlp_step_half), ("cnn_step_half", cnn_step_half)];

/// Rows that run only when somebody names them: they take long where there is no GPU, or compare ways of our own.
pub const LARGE: &[(&str, Make)] = &[
    ("matmul_4096", |d, size| matmul("matmul_4096", d, size.of(4096, 67))),
    ("matmul_4096_half", matmul_half),
    ("attention", |d, size| attention("attention", d, size, fused)),
    ("attention_composite", |d, size| attention("attention_composite", d, size, composite)),
];

/// A row by name.
fn find(name: &str) -> Result<(&'static str, Make)> {
    let every = || ROWS.iter().chain(MIXED).chain(LARGE);
    match every().find(|row| row.0 == name) {
        Some(row) => Ok(*row),
        None => {
            let names: Vec<&str> = every().map(|row| row.0).collect();
            anyhow::bail!("no row is called `{name}`; there are {}", names.join(", "))
        }
    }
}

/// Makes a row by name.
pub fn make(name: &str, device: &Device, size: Size) -> Result<Row> {
    find(name)?.1(device, size)
}

/// The rows with these names; without any, `otherwise`.
pub fn named<'a>(
    names: &[String],
    otherwise: impl Iterator<Item = &'a (&'static str, Make)>,
) -> Result<Vec<(&'static str, Make)>> {
    if names.is_empty() { Ok(otherwise.copied().collect()) } else { names.iter().map(|name| find(name)).collect() }
}

fn tensor(d: &Device, dims: &[usize], salt: u32) -> Result<Tensor> {
    Ok(Tensor::from_slice(d, &values(dims.iter().product(), salt), dims)?)
}

fn matmul(name: &'static str, d: &Device, n: usize) -> Result<Row> {
    let inputs = (tensor(d, &[n, n], 1)?, tensor(d, &[n, n], 2)?);
    Ok(Row::new(name, Vec::<Tensor>::new(), inputs, |state, (a, b)| Ok((state, a.matmul(&b)?))))
}

/// Of halves, which cooperative matrices take where there are some.
fn matmul_half(d: &Device, size: Size) -> Result<Row> {
    let n = size.of(4096, 68);
    let half = |salt| Ok::<_, anyhow::Error>(tensor(d, &[n, n], salt)?.cast(DType::F16)?);
    let inputs = (half(1)?, half(2)?);
    Ok(Row::new("matmul_4096_half", Vec::<Tensor>::new(), inputs, |state, (a, b)| Ok((state, a.matmul(&b)?))))
}

fn relu_chain(d: &Device, size: Size) -> Result<Row> {
    let x = tensor(d, &[size.of(1 << 22, 1000)], 1)?;
    let f = |state, x: Tensor| Ok((state, x.mul_scalar(2.0)?.add_scalar(1.0)?.relu()?));
    Ok(Row::new("relu_chain_4m", Vec::<Tensor>::new(), x, f))
}

fn sum(d: &Device, size: Size) -> Result<Row> {
    let x = tensor(d, &[size.of(1 << 22, 1000)], 1)?;
    Ok(Row::new("sum_4m", Vec::<Tensor>::new(), x, |state, x: Tensor| Ok((state, x.sum(&[])?))))
}

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
        let mut pass = Pass::train(acclimate_kernels::random::Key::new(x.device(), 0)?);
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

fn mlp_step(d: &Device, size: Size) -> Result<Row> {
    train("mlp_step", d, mlp(size), tensor(d, &[size.of(128, 8), size.of(784, 20)], 1)?)
}

/// The same in mixed precision, with a scaled loss.
fn mlp_step_half(d: &Device, size: Size) -> Result<Row> {
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

fn cnn_step(d: &Device, size: Size) -> Result<Row> {
    train("cnn_step", d, cnn(size), images(d, size)?)
}

/// The same in mixed precision, with a scaled loss.
fn cnn_step_half(d: &Device, size: Size) -> Result<Row> {
    let optimizer = optim::adam(1e-3).scale_loss();
    train_by("cnn_step_half", d, Mixed::new(cnn(size)), images(d, size)?, optimizer)
}

fn cnn_forward(d: &Device, size: Size) -> Result<Row> {
    let model = cnn(size);
    let inputs = (params(d, &model)?, images(d, size)?);
    let f = move |state, (params, x): (Params, Tensor)| Ok((state, model.forward(&params, &x)?));
    Ok(Row::new("cnn_forward", Vec::<Tensor>::new(), inputs, f))
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

/// TENT (Wang et al. 2021): one Adam step on the affines of all normalizations; the result is the logits before it.
fn tent_step(d: &Device, size: Size) -> Result<Row> {
    let model = cnn(size);
    let params = params(d, &model)?;
    let affine = params.subset(&affine_paths(&params))?;
    let optimizer = optim::adam(1e-3);
    let state = optimizer.init(&affine)?;
    let f = move |(affine, state): (Params, State), (params, x): (Params, Tensor)| {
        let (logits, entropy) = entropy(&model, &params, &affine, &x)?;
        Ok((moved(affine, &entropy, &optimizer, state)?, logits))
    };
    Ok(Row::new("tent_step", (affine, state), (params, images(d, size)?), f))
}

/// Each image with affines and statistics of its own: one Adam step and a second forward pass, whose logits are the
/// result.
fn slots(d: &Device, size: Size) -> Result<Row> {
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

/// A depthwise convolution 3 × 3 and both its gradients: the gradient of Σ y²/2 by the weight, with Σ x · dx added so that
/// the other one is needed too.
fn depthwise(d: &Device, size: Size) -> Result<Row> {
    let (n, channels, side) = (size.of(32, 2), size.of(96, 3), size.of(28, 5));
    let inputs = (tensor(d, &[n, channels, side, side], 1)?, tensor(d, &[channels, 1, 3, 3], 2)?);
    let f = move |state, (x, w): (Tensor, Tensor)| {
        let y = x.conv2d(&w, &kernels::Conv2d::same(3).grouped(channels))?;
        let (dx, dw) = grad(&y.mul(&y)?.mul_scalar(0.5)?.sum(&[])?, (x.clone(), w))?;
        Ok((state, dw.add(&dx.mul(&x)?.sum(&[])?)?))
    };
    Ok(Row::new("depthwise", Vec::<Tensor>::new(), inputs, f))
}

/// Softmax attention of 8 heads of 64 over 512 tokens, causal, and the gradients of Σ y²/2; the result is that of the
/// queries with the sums of the others added.
fn attention(name: &'static str, d: &Device, size: Size, f: fn(&[Tensor; 3]) -> Result<Tensor>) -> Result<Row> {
    let dims = [size.of(8, 2), size.of(512, 7), size.of(64, 3)];
    let inputs = [1, 2, 3].map(|salt| tensor(d, &dims, salt)).into_iter().collect::<Result<Vec<_>>>()?;
    let f = move |state, x: Vec<Tensor>| {
        let y = f(&[x[0].clone(), x[1].clone(), x[2].clone()])?;
        let grads = grad(&y.mul(&y)?.mul_scalar(0.5)?.sum(&[])?, x)?;
        Ok((state, grads[0].add(&grads[1].sum(&[])?)?.add(&grads[2].sum(&[])?)?))
    };
    Ok(Row::new(name, Vec::<Tensor>::new(), inputs, f))
}

fn fused([q, k, v]: &[Tensor; 3]) -> Result<Tensor> {
    Ok(q.attention(k, v, &kernels::Attend { causal: true, ..Default::default() })?)
}

fn composite([q, k, v]: &[Tensor; 3]) -> Result<Tensor> {
    let scores = q.mul_scalar(1.0 / (q.dims()[2] as f32).sqrt())?.matmul_nt(k)?;
    let place = |axis| Tensor::iota(q.device(), scores.dims(), axis);
    let scores = place(2)?.le(&place(1)?)?.select(&scores, &scores.full_like(-1e9)?)?;
    Ok(scores.softmax(-1)?.matmul(v)?)
}

/// An error inside `vmap`.
struct Wrapped(anyhow::Error);

impl<E: Into<acclimate_train::Error>> From<E> for Wrapped {
    fn from(e: E) -> Self {
        Wrapped(e.into().into())
    }
}
