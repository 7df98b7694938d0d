//! Sixty steps with a scaled loss, against PyTorch's GradScaler (golden/README.md): the scale and which steps are left out
//! are the same, step by step; parameters stay within the bound of the step rules (optim_traces.rs), of which both sides are
//! f32 here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod trace;

use acclimate_tensor::{DType, Device, Tensor, compile};
use acclimate_train::optim::{self, LossScale, Optimizer, State, StepCx};
use acclimate_train::{Params, checkpoint};
use trace::Trace;

const BOUND: f64 = 1e-5;
const N_STEPS: usize = 60;

fn scaler() -> LossScale {
    LossScale { growth_interval: 6, ..LossScale::default() }
}

fn optimizers() -> [(&'static str, Optimizer); 2] {
    let sgd = optim::sgd(0.02).gate(scaler()).momentum(0.9);
    [("sgd_momentum", sgd), ("adamw", optim::adamw(0.01).gate(scaler()))]
}

/// One step on Σ w · half(θ), as a loop compiles it.
type In = (Params, State, Vec<Tensor>, Tensor);

fn step(optimizer: &Optimizer, (params, state, w, rate): In) -> acclimate_train::Result<(Params, State)> {
    let half =
        |path: &str| -> acclimate_train::Result<Tensor> { Ok(params.get(path)?.cast(DType::F16)?.cast(DType::F32)?) };
    let loss = half("a")?.mul(&w[0])?.sum(&[])?.add(&half("b")?.mul(&w[1])?.sum(&[])?)?;
    let grads = params.grad(&optimizer.scaled(&loss, &state)?)?;
    optimizer.step(params, &grads, state, &StepCx::new(&rate).with_loss(&loss).scaled())
}

fn follow(device: &Device, name: &str, optimizer: &Optimizer) {
    let trace = Trace::read(&format!("scaler_{name}"));
    let mut params = Params::from_named(device, trace.named("theta0", None)).unwrap();
    let mut state = optimizer.init(&params).unwrap();
    let (_, scales) = trace.values("scale");
    let (_, skipped) = trace.values("skipped");
    assert!(
        skipped.iter().sum::<f32>() > 8.0 && scales.windows(2).any(|pair| pair[1] > pair[0]),
        "{name} shows nothing"
    );
    let chain = optimizer.clone();
    let step = compile(move |inputs: In| step(&chain, inputs));
    let mut n_skipped = 0.0;
    let mut plans = 0;
    for t in 0..N_STEPS {
        let w = trace.named("w", Some(t));
        let w = w.iter().map(|(_, dims, values)| Tensor::from_slice(device, values, dims).unwrap()).collect();
        let before = params.arena().to_vec::<f32>().unwrap();
        let rate = optimizer.rate_tensor(device, 0).unwrap();
        (params, state) = step.call((params, state, w, rate)).unwrap();
        n_skipped += skipped[t];
        let read = |what: &str| state.get(&format!("0/loss_scale/{what}")).unwrap().item().unwrap();
        assert_eq!((read("scale"), read("skipped")), (scales[t], n_skipped), "{name}, step {t}");
        if skipped[t] == 1.0 {
            assert_eq!(params.arena().to_vec::<f32>().unwrap(), before, "{name}, step {t}");
        }
        for ((path, _, got), (_, _, want)) in params.to_named().unwrap().iter().zip(trace.named("theta", Some(t))) {
            let square: f64 = want.iter().map(|&x| f64::from(x).powi(2)).sum();
            let size = (square / want.len() as f64).sqrt();
            for (&got, &want) in got.iter().zip(&want) {
                let off = (f64::from(got) - f64::from(want)).abs() / f64::from(want).abs().max(size);
                assert!(off <= BOUND, "{name}, step {t}, {path}: {got}, PyTorch {want}");
            }
        }
        // Steps that are left out have the plan of all others.
        match t {
            0 | 1 => plans = device.stats().plans_built,
            _ => assert_eq!(device.stats().plans_built, plans, "{name}, step {t}"),
        }
    }
}

#[test]
fn the_scale_follows_pytorch() {
    for (name, optimizer) in optimizers() {
        follow(&Device::cpu(), name, &optimizer);
    }
}

#[test]
fn software_the_scale_follows_pytorch() {
    if let Some(device) = adapter::open(Device::named) {
        let [(name, optimizer), _] = optimizers();
        follow(&device, name, &optimizer);
    }
}

/// A checkpoint between two steps that are left out: the scale and its count go on from where they were.
#[test]
fn the_scale_is_saved_and_restored() {
    let device = Device::cpu();
    let optimizer = optim::adamw(0.01).gate(scaler());
    let trace = Trace::read("scaler_adamw");
    let like = Params::from_named(&device, trace.named("theta0", None)).unwrap();
    let run = |from: usize, to: usize, mut params: Params, mut state: State| {
        for t in from..to {
            let w = trace.named("w", Some(t));
            let w = w.iter().map(|(_, dims, values)| Tensor::from_slice(&device, values, dims).unwrap()).collect();
            let rate = optimizer.rate_tensor(&device, 0).unwrap();
            (params, state) = step(&optimizer, (params, state, w, rate)).unwrap();
        }
        (params, state)
    };
    let (straight, _) = run(0, 30, like.clone(), optimizer.init(&like).unwrap());
    let (params, state) = run(0, 9, like.clone(), optimizer.init(&like).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let snapshot = checkpoint::Snapshot { params: &params, state: &state, step: 9, seed: 0, run: &() };
    checkpoint::save(folder.path(), &snapshot).unwrap();
    let saved = checkpoint::load(folder.path()).unwrap();
    let state = saved.state(&optimizer.init(&like).unwrap(), &device).unwrap();
    let (resumed, _) = run(9, 30, saved.params(&like).unwrap(), state);
    assert_eq!(resumed.arena().to_vec::<f32>().unwrap(), straight.arena().to_vec::<f32>().unwrap());
}

#[test]
fn a_loop_that_does_not_scale_is_told_so() {
    let device = Device::cpu();
    let theta = Tensor::ones(&device, &[3]).unwrap();
    let optimizer = optim::sgd(0.1).scale_loss();
    let state = optimizer.init(&theta).unwrap();
    let cx = StepCx::new(&optimizer.rate_tensor(&device, 0).unwrap());
    let error = optimizer.step(theta.clone(), &theta, state, &cx).unwrap_err().to_string();
    assert!(error.contains("loss_scale") && error.contains("Optimizer::scaled"), "{error}");
    let late = optim::sgd(0.1).clip_norm(1.0).scale_loss().check().unwrap_err().to_string();
    assert!(late.contains("the first link") && late.contains("clip_norm, loss_scale"), "{late}");
    for wrong in [
        LossScale { init_scale: 0.0, ..LossScale::default() },
        LossScale { growth_factor: 1.0, ..LossScale::default() },
        LossScale { backoff_factor: 1.0, ..LossScale::default() },
        LossScale { growth_interval: 0, ..LossScale::default() },
    ] {
        assert!(optim::sgd(0.1).gate(wrong).check().is_err(), "{wrong:?}");
    }
}
