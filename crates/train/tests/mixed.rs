//! Mixed precision: what is rounded and what is not, and a small network that learns as well with it as without.

#![expect(clippy::unwrap_used, reason = "tests")]

use acclimate_kernels::random::Key;
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::rng::Philox;
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Ended, Fit, Progress, Training};
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, Flatten, Linear, Mixed, Mlp, Sequential};
use acclimate_train::optim::{self, Optimizer};
use acclimate_train::{Layer, Params, Pass, Precision, loss};

fn half(x: f32) -> f32 {
    acclimate_tensor::f16::from_f32(x).to_f32()
}

/// y of a linear layer is the rounded product of rounded numbers, plus a bias that is not rounded.
#[test]
fn products_are_rounded_and_biases_are_not() {
    let device = Device::cpu();
    let named = vec![
        ("fc.weight".to_owned(), vec![1, 2], vec![0.1, 1.0 / 3.0]),
        ("fc.bias".to_owned(), vec![1], vec![0.100_01]),
    ];
    let params = Params::from_named(&device, named).unwrap();
    let x = Tensor::from_slice(&device, &[0.7f32, -0.3], &[1, 2]).unwrap();
    let layer = Linear::new("fc", 2, 1);
    let y = Mixed::new(layer.clone()).forward(&params, &x).unwrap().item().unwrap();
    assert_eq!(y, half(half(0.7) * half(0.1) + half(-0.3) * half(1.0 / 3.0)) + 0.100_01);
    // The pass alone says it too, and is single again behind a mixed part.
    let mut pass = Pass::infer().with_precision(Precision::Half);
    assert_eq!(layer.apply(&params, &x, &mut pass).unwrap().item().unwrap(), y);
    let mut pass = Pass::infer();
    Mixed::new(layer.clone()).apply(&params, &x, &mut pass).unwrap();
    assert_eq!(pass.set_precision(Precision::Half), Precision::Single);
    assert_ne!(layer.forward(&params, &x).unwrap().item().unwrap(), y);
}

/// Gradients of f32 parameters are f32, and those of weights have passed through halves.
#[test]
fn gradients_of_weights_are_halves_in_f32() {
    let device = Device::cpu();
    let model = Mixed::new(Linear::new("fc", 5, 3));
    let params = model.init(&device, 1).unwrap();
    let x = Tensor::from_slice(&device, &[0.3f32, -1.1, 0.7, 2.0, 0.01], &[1, 5]).unwrap();
    let grads = params.grad(&model.forward(&params, &x).unwrap().square().unwrap().sum(&[]).unwrap()).unwrap();
    let weight = grads.get("fc.weight").unwrap().to_vec::<f32>().unwrap();
    assert!(weight.iter().all(|&g| g != 0.0 && g == half(g)), "{weight:?}");
    let bias = grads.get("fc.bias").unwrap().to_vec::<f32>().unwrap();
    assert!(bias.iter().any(|&g| g != half(g)), "{bias:?}");
}

/// A gradient too small for a half vanishes without a scale, and is there with one.
#[test]
fn scaling_saves_small_gradients() {
    let device = Device::cpu();
    let model = Mixed::new(Linear::new("fc", 1, 1).without_bias());
    let params = Params::from_named(&device, vec![("fc.weight".into(), vec![1, 1], vec![1.0])]).unwrap();
    let x = Tensor::ones(&device, &[1, 1]).unwrap();
    let gradient = |optimizer: &Optimizer| {
        let state = optimizer.init(&params).unwrap();
        let loss = model.forward(&params, &x).unwrap().mul_scalar(1e-8).unwrap().sum(&[]).unwrap();
        let grads = params.grad(&optimizer.scaled(&loss, &state).unwrap()).unwrap();
        optimizer.unscaled(&grads, &state).unwrap().to_vec::<f32>().unwrap()[0]
    };
    assert_eq!(gradient(&optim::sgd(1.0)), 0.0);
    // A half has 11 bits.
    let scaled = gradient(&optim::sgd(1.0).scale_loss());
    assert!((scaled - 1e-8).abs() <= 1e-8 / 2048.0, "{scaled}");
}

/// Points in three rings, which no line tells apart.
fn rings(n: usize) -> (Vec<f32>, Vec<u32>) {
    let mut rng = Philox::from_seed(3).fold_name("rings").stream(0);
    let mut unit = || rng.uniform_f64();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for i in 0..n {
        let (angle, radius) = (std::f64::consts::TAU * unit(), (i % 3) as f64 + 0.6 * unit());
        x.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
        y.push(u32::try_from(i % 3).unwrap());
    }
    (x, y)
}

fn train(model: impl Layer + Clone + 'static, optimizer: Optimizer, shape: &[usize]) -> (Training, f64) {
    let device = Device::cpu();
    let (x, y) = rings(240);
    let each = x.len() / 240;
    let batch = |positions: &[usize]| {
        let data: Vec<f32> = positions.iter().flat_map(|&i| x[i * each..(i + 1) * each].iter().copied()).collect();
        let labels: Vec<u32> = positions.iter().map(|&i| y[i]).collect();
        let dims = [&[positions.len()], shape].concat();
        Ok((Tensor::from_slice(&device, &data, &dims)?, Tensor::from_slice(&device, &labels, &[labels.len()])?))
    };
    let fit = Fit::supervised(model.clone(), optimizer, loss::cross_entropy).epochs(60).progress(Progress::Silent);
    let params = model.init(&device, 5).unwrap();
    let batches = Batches::new(240, 40, 1, Tail::Keep).unwrap();
    let trained = fit.run(fit.begin(&params).unwrap(), &batches, batch).unwrap();
    let all: Vec<usize> = (0..240).collect();
    let (inputs, labels) = batch(&all).unwrap();
    let mut pass = Pass::train(Key::new(&device, 0).unwrap());
    let logits = model.apply(&trained.params, &inputs, &mut pass).unwrap();
    let loss = loss::cross_entropy(&logits, &labels).unwrap().item().unwrap();
    (trained, f64::from(loss))
}

/// Both reach the same loss. They differ by what roundings to 11 bits do to 360 steps, which a twentieth of what was learned
/// (from ln 3) covers; a network that does not learn, or whose steps are left out, is far outside.
#[test]
fn mixed_precision_learns_as_well() {
    let mlp = Mlp::new("net", 2, &[32, 32], 3);
    let conv = Sequential::new()
        .then(Conv2d::new("conv", 2, 24, 1).without_bias())
        .then(BatchNorm::new("bn", 24))
        .then(Activation::Relu)
        .then(Flatten)
        .then(Linear::new("fc", 24, 3));
    let learned = |single: f64, half: f64, training: &Training| {
        assert_eq!(training.run.ended, Some(Ended::Done));
        assert!(single < 0.3, "f32 itself reaches {single}");
        assert!((single - half).abs() < 0.05 * (3f64.ln() - single), "f32 {single}, half {half}");
        let read = |what: &str| training.state.get(&format!("0/loss_scale/{what}")).unwrap().item().unwrap();
        // The scale fell a few times at most: nearly all steps were taken.
        assert!(read("skipped") <= 6.0 && read("scale") >= 1024.0, "{} {}", read("skipped"), read("scale"));
    };
    let (_, single) = train(mlp.clone(), optim::adam(1e-2), &[2]);
    let (training, half) = train(Mixed::new(mlp), optim::adam(1e-2).scale_loss(), &[2]);
    learned(single, half, &training);
    let (_, single) = train(conv.clone(), optim::adam(1e-2), &[2, 1, 1]);
    let (training, half) = train(Mixed::new(conv), optim::adam(1e-2).scale_loss(), &[2, 1, 1]);
    learned(single, half, &training);
}
