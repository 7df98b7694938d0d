//! TTT layers: the trace of PyTorch, the two forms, a task that only a layer which learns while it reads can do.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use std::collections::BTreeMap;

use acclimate_kernels::TensorOps;
use acclimate_tensor::{Device, Tensor, compile, grad, oracle};
use acclimate_train::data::rng::Philox;
use acclimate_train::nn::{Linear, Ttt, TttForm};
use acclimate_train::optim::{self, State, StepCx};
use acclimate_train::params::Named;
use acclimate_train::{Error, Layer, Params, Pass, weights};

/// A golden file: the layer's parameters, and everything else by name.
fn golden(kind: &str, device: &Device) -> (Params, BTreeMap<String, Tensor>, Ttt) {
    let path = format!("{}/golden/ttt_{kind}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let (mut net, mut rest): (Vec<Named>, _) = (Vec::new(), BTreeMap::new());
    for (name, dims, values) in weights::read(path).unwrap() {
        match name.strip_prefix("net.") {
            Some(name) => net.push((name.to_owned(), dims, values)),
            None => {
                rest.insert(name, Tensor::from_slice(device, &values, &dims).unwrap());
            }
        }
    }
    let layer = if kind == "linear" { Ttt::linear("", 12, 2) } else { Ttt::mlp("", 12, 2) };
    let layer = layer.unwrap().chunk(4).unwrap().gated();
    let params = layer.init(device, 0).unwrap().with_values(net, kind).unwrap();
    (params, rest, layer)
}

/// The longest way has about 600 roundings in each of three chunks (products over up to 24 values, two layer norms, a
/// gelu), at random of size √1800·ε of the largest value; gradients go there and back.
fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let bound = 2.0 * 1800f32.sqrt() * f32::EPSILON * scale;
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= bound, "{what}: element {i} is {f}, expected {e}, bound {bound:e}");
    }
}

fn follows_the_trace(device: &Device) {
    for kind in ["linear", "mlp"] {
        let (params, file, layer) = golden(kind, device);
        let values = |name: &str| file[name].to_vec::<f32>().unwrap();
        for form in [TttForm::Dual, TttForm::Primal] {
            let what = |w: &str| format!("{kind} {form:?}: {w}");
            let layer = layer.clone().form(form);
            let x = file["x"].add_scalar(0.0).unwrap();
            let y = layer.forward(&params, &x).unwrap();
            let loss = y.mul(&file["weight"]).unwrap().sum(&[]).unwrap();
            let (grads, dx) = grad(&loss, (params.clone(), x)).unwrap();
            close(&what("y"), &y.to_vec::<f32>().unwrap(), &values("y"));
            close(&what("x"), &dx.to_vec::<f32>().unwrap(), &values("grad_x"));
            for (path, _, found) in grads.to_named().unwrap() {
                close(&what(&path), &found, &values(&format!("grad.{path}")));
            }
        }
    }
}

#[test]
fn values_and_gradients_are_pytorchs() {
    follows_the_trace(&Device::cpu());
}

#[test]
fn software_values_and_gradients_are_pytorchs() {
    if let Some(device) = adapter::open(Device::named) {
        follows_the_trace(&device);
    }
}

/// In double precision the forms differ by rounding alone, in values and in gradients through the steps.
#[test]
fn the_dual_form_is_the_primal_one() {
    let cpu = Device::cpu();
    for layer in [Ttt::linear("", 8, 2).unwrap().chunk(5).unwrap(), Ttt::mlp("", 8, 1).unwrap().chunk(3).unwrap()] {
        let mut key = Philox::from_seed(4).stream(0);
        let x: Vec<f32> = (0..2 * 7 * 8).map(|_| key.normal() as f32).collect();
        let x = Tensor::from_slice(&cpu, &x, &[2, 7, 8]).unwrap();
        let params = layer.init(&cpu, 3).unwrap();
        // Starts of the state far from zero, rates that matter.
        let far = params.arena().mul_scalar(4.0).unwrap();
        let params =
            params.with_arena(Tensor::from_slice(&cpu, &far.to_vec::<f32>().unwrap(), far.dims()).unwrap()).unwrap();
        let run = |form| {
            let y = layer.clone().form(form).forward(&params, &x).unwrap();
            let loss = y.square().unwrap().mul(&y).unwrap().sum(&[]).unwrap();
            let slope = params.grad(&loss).unwrap();
            [y, slope.arena().clone()].map(|t| oracle::evaluate(&t, &[]).unwrap().real().to_vec())
        };
        for (dual, primal) in run(TttForm::Dual).iter().zip(&run(TttForm::Primal)) {
            let scale = primal.iter().fold(0f64, |m, v| m.max(v.abs()));
            assert!(scale > 1e-3);
            // About 2000 roundings, each of half an ulp, all in one direction.
            let bound = 2000.0 * f64::EPSILON * scale;
            let worst = dual.iter().zip(primal).map(|(a, b)| (a - b).abs()).fold(0f64, f64::max);
            assert!(worst <= bound, "{worst:e} above {bound:e}");
            assert!(worst > 0.0 || dual.len() < 10, "two ways to compute that agree to the last bit are one way");
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_later_tokens() {
    let cpu = Device::cpu();
    let layer = Ttt::linear("", 8, 2).unwrap().chunk(4).unwrap();
    let params = layer.init(&cpu, 3).unwrap();
    let mut x: Vec<f32> = (0..10 * 8).map(|i| (i as f32 * 0.37).sin()).collect();
    let run = |x: &[f32]| {
        layer.forward(&params, &Tensor::from_slice(&cpu, x, &[1, 10, 8]).unwrap()).unwrap().to_vec::<f32>().unwrap()
    };
    let before = run(&x);
    x[6 * 8..].iter_mut().for_each(|v| *v += 1.0);
    let after = run(&x);
    assert_eq!(before[..6 * 8], after[..6 * 8]);
    assert!(before[6 * 8..].iter().zip(&after[6 * 8..]).all(|(a, b)| a != b));
}

#[test]
fn wrong_sizes_are_refused() {
    for wrong in
        [Ttt::linear("a", 8, 3), Ttt::linear("a", 6, 2), Ttt::mlp("a", 8, 0), Ttt::mlp("a", 8, 2).unwrap().chunk(0)]
    {
        assert!(wrong.is_err());
    }
    assert!(Ttt::linear("a", 8, 2).unwrap().base_rate(f32::NAN).is_err());
    let cpu = Device::cpu();
    let layer = Ttt::linear("ttt", 8, 2).unwrap();
    let params = layer.init(&cpu, 1).unwrap();
    for dims in [&[2, 8][..], &[2, 3, 6], &[2, 0, 8]] {
        let error = layer.forward(&params, &Tensor::zeros(&cpu, dims).unwrap()).unwrap_err().to_string();
        assert!(error.contains("ttt"), "{error}");
    }
}

/// y = w·x with another w in each sequence: token t shows x_t, x_{t−1} and y_{t−1}, and y_t is asked for.
struct Regression {
    tokens: Vec<f32>,
    targets: Vec<f32>,
}

const DIM: usize = 4;
const TOKEN: usize = 2 * DIM + 2;
const LENGTH: usize = 40;

impl Regression {
    fn new(n: usize, seed: u64) -> Self {
        let mut key = Philox::from_seed(seed).stream(0);
        let mut draw = || key.normal() as f32;
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let w: Vec<f32> = (0..DIM).map(|_| draw() / (DIM as f32).sqrt()).collect();
            let (mut last, mut answer) = (vec![0.0; DIM], 0.0);
            for _ in 0..LENGTH {
                let x: Vec<f32> = (0..DIM).map(|_| draw()).collect();
                tokens.extend(x.iter().chain(&last).chain(&[answer, 1.0]));
                answer = x.iter().zip(&w).map(|(x, w)| x * w).sum();
                targets.push(answer);
                last = x;
            }
        }
        Regression { tokens, targets }
    }
}

/// Width in, the layer with a residual way around it, one number out.
#[derive(Clone, Debug)]
struct Reader {
    layer: Ttt,
}

impl Layer for Reader {
    fn declare(&self, init: &mut acclimate_train::layer::Init) -> Result<(), Error> {
        Linear::new("in", TOKEN, 16).declare(init)?;
        self.layer.declare(init)?;
        Linear::new("answer", 16, 1).declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        let h = Linear::new("in", TOKEN, 16).apply(params, x, pass)?;
        let h = h.add(&self.layer.apply(params, &h, pass)?)?;
        Linear::new("answer", 16, 1).apply(params, &h, pass)
    }
}

/// Squared error of each position after training, over sequences of weights never seen.
fn trained(layer: Ttt, steps: u64) -> Vec<f32> {
    let device = Device::cpu();
    let model = Reader { layer };
    let optimizer = optim::adam(5e-3).clip_norm(1.0);
    let mut params = model.init(&device, 1).unwrap();
    let mut state = optimizer.init(&params).unwrap();
    let (net, adam) = (model.clone(), optimizer.clone());
    let step = compile(move |(params, state, x, y, rate): (Params, State, Tensor, Tensor, Tensor)| {
        let loss = net.forward(&params, &x)?.sub(&y)?.square()?.mean(&[])?;
        let grads = params.grad(&loss)?;
        let (params, state) = adam.step(params, &grads, state, &StepCx::new(&rate))?;
        Ok::<_, Error>((loss, params, state))
    });
    let tensors = |n: usize, seed: u64| {
        let r = Regression::new(n, seed);
        let x = Tensor::from_slice(&device, &r.tokens, &[n, LENGTH, TOKEN]).unwrap();
        (x, Tensor::from_slice(&device, &r.targets, &[n, LENGTH, 1]).unwrap())
    };
    for i in 0..steps {
        let (x, y) = tensors(32, 100 + i);
        let rate = optimizer.rate_tensor(&device, i).unwrap();
        (_, params, state) = step.call((params, state, x, y, rate)).unwrap();
    }
    let (x, y) = tensors(256, 7);
    let error = model.forward(&params, &x).unwrap().sub(&y).unwrap().square().unwrap();
    error.mean(&[0]).unwrap().to_vec::<f32>().unwrap()
}

/// A regression whose weights are only in the sequence: no fixed map from token to answer does better than their variance,
/// and a layer that learns while it reads does, the better the longer it has read.
#[test]
fn it_learns_a_regression_from_the_sequence() {
    let mean = |e: &[f32]| e.iter().sum::<f32>() / e.len() as f32;
    for (name, steps, layer) in [("linear", 200, Ttt::linear("ttt", 16, 1)), ("mlp", 300, Ttt::mlp("ttt", 16, 1))] {
        let errors = trained(layer.unwrap().chunk(8).unwrap(), steps);
        let (first, last) = (mean(&errors[..4]), mean(&errors[LENGTH - 16..]));
        println!("{name}: squared error of the first 4 tokens {first:.3}, of the last 16 {last:.3}");
        assert!(last < 0.4 && last < 0.6 * first, "{name}: {first} {last}");
    }
    let deaf = trained(Ttt::linear("ttt", 16, 1).unwrap().chunk(8).unwrap().base_rate(0.0).unwrap(), 200);
    let last = mean(&deaf[LENGTH - 16..]);
    println!("without inner steps: the last 16 {last:.3}");
    assert!(last > 0.8, "without inner steps there is nothing to learn from: {last}");
}
