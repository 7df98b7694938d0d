//! Fifty steps of every step rule along recorded gradients, against PyTorch's traces (golden/README.md).
//!
//! The bound is 1e-5 relative to max(|θ|, the tensor's root mean square at that step). The traces are f64; an f32 run
//! rounds θ fifty times (3e-6 if all errors had one sign) and its moments likewise; PyTorch's own f32 run stays within
//! 2e-6. A wrong eps, bias correction or order of operations shows at 1e-3 and more.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod trace;

use acclimate_tensor::{Device, Tensor};
use acclimate_train::Params;
use acclimate_train::optim::{self, Optimizer, StepCx};
use trace::Trace;

const BOUND: f64 = 1e-5;

/// The optimizer of each trace, by the builder that a user would call. Rates come from the file.
fn table() -> Vec<(&'static str, Optimizer)> {
    vec![
        ("sgd", optim::sgd(1.0)),
        ("sgd_momentum", optim::sgd(1.0).momentum(0.9)),
        ("sgd_nesterov", optim::sgd(1.0).momentum(0.9).nesterov()),
        ("sgd_decay", optim::sgd(1.0).momentum(0.9).decay(1e-2)),
        ("adam", optim::adam(1.0)),
        ("adam_decay", optim::adam(1.0).decay(1e-2)),
        ("adamw", optim::adamw(1.0)),
        ("adamw_schedule", optim::adamw(1.0).decay(5e-2)),
        ("amsgrad", optim::amsgrad(1.0)),
        ("rmsprop", optim::rmsprop(1.0)),
        ("rmsprop_momentum", optim::rmsprop(1.0).momentum(0.9)),
        ("rmsprop_centered", optim::rmsprop(1.0).centered()),
        ("adagrad", optim::adagrad(1.0)),
        ("lion", optim::lion(1.0).decay(1e-2)),
    ]
}

/// The largest deviation from the trace over all steps and elements, and whether the padding stayed zero.
fn deviation(device: &Device, name: &str, optimizer: &Optimizer) -> (f64, bool) {
    let trace = Trace::read(&format!("optim_{name}"));
    let mut params = Params::from_named(device, trace.named("theta0", None)).unwrap();
    let mut state = optimizer.init(&params).unwrap();
    let (_, rates) = trace.values("rate");
    let (mut worst, mut padding_is_zero) = (0.0f64, true);
    for (t, rate) in rates.iter().enumerate() {
        let grads = Params::from_named(device, trace.named("grads", Some(t))).unwrap();
        let cx = StepCx::new(&Tensor::from_slice(device, &[*rate], &[1]).unwrap());
        (params, state) = optimizer.step(params, &grads, state, &cx).unwrap();
        let moved = params.to_named().unwrap();
        for ((path, _, got), (_, _, want)) in moved.iter().zip(trace.named("theta", Some(t))) {
            let square: f64 = want.iter().map(|&x| f64::from(x).powi(2)).sum();
            let size = (square / want.len() as f64).sqrt();
            for (&got, &want) in got.iter().zip(&want) {
                let off = (f64::from(got) - f64::from(want)).abs() / f64::from(want).abs().max(size);
                assert!(off.is_finite(), "{name}, step {t}, {path}: {got}, PyTorch {want}");
                worst = worst.max(off);
            }
        }
        // a is 35 elements, b is 3: what lies between and behind is padding.
        let arena = params.arena().to_vec::<f32>().unwrap();
        let used: usize = moved.iter().map(|(_, _, x)| x.iter().filter(|x| **x != 0.0).count()).sum();
        padding_is_zero &= arena.iter().filter(|x| **x != 0.0).count() == used;
    }
    (worst, padding_is_zero)
}

fn follow(device: &Device) {
    println!("{device}");
    for (name, optimizer) in table() {
        let (off, padding_is_zero) = deviation(device, name, &optimizer);
        println!("{name}: {off:.3e}");
        assert!(off <= BOUND, "{name}: off by {off:.1e}, bound {BOUND:.0e}");
        assert!(padding_is_zero, "{name} moved the padding");
    }
}

#[test]
fn every_rule_follows_pytorch() {
    follow(&Device::cpu());
}

#[test]
fn software_every_rule_follows_pytorch() {
    if let Some(device) = adapter::open(Device::named) {
        follow(&device);
    }
}

/// The check has teeth: rules that are nearly right are far outside the bound.
#[test]
fn a_slightly_wrong_rule_is_caught() {
    let d = Device::cpu();
    for (name, wrong) in [
        ("sgd_momentum", optim::sgd(1.0).momentum(0.9).nesterov()),
        ("sgd_nesterov", optim::sgd(1.0).momentum(0.9)),
        ("sgd_decay", optim::sgd(1.0).momentum(0.9)),
        ("sgd_momentum", optim::sgd(1.0).momentum(0.9).dampening(1e-3)),
        ("adam", optim::adam(1.0).eps(1e-6)),
        ("adam", optim::adam(1.0).betas(0.9, 0.9991)),
        ("amsgrad", optim::adam(1.0)),
        ("adam_decay", optim::adamw(1.0)),
        ("adamw", optim::adam(1.0).decay(1e-2)),
        ("rmsprop", optim::rmsprop(1.0).centered()),
        ("rmsprop", optim::rmsprop(1.0).eps(1e-6)),
        ("adagrad", optim::adagrad(1.0).eps(1e-6)),
        ("lion", optim::lion(1.0)),
    ] {
        let (off, _) = deviation(&d, name, &wrong);
        assert!(off > 2.0 * BOUND, "{wrong} passes as {name}: {off:.1e}");
    }
}
