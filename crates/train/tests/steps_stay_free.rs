//! A long run costs what a short one does: plans, pipelines, buffers and live bytes stay still from the second step on,
//! whatever the learning rate does.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use std::cell::RefCell;

use acclimate_kernels::random::Key;
use acclimate_tensor::{Device, Stats, Tensor};
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Ended, Fit, Progress};
use acclimate_train::nn::{Mlp, Norm};
use acclimate_train::optim::{self, Optimizer, Schedule, StepCx};
use acclimate_train::{Layer, Pass, Result, loss};

const STEPS: u64 = 10_000;

fn still(s: &Stats) -> [u64; 5] {
    [s.plans_built, s.pipelines_compiled, s.buffers_allocated, s.bytes_live, s.refused_donations]
}

fn batch(device: &Device) -> Result<(Tensor, Tensor)> {
    let x: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
    Ok((Tensor::from_slice(device, &x, &[8, 3])?, Tensor::from_slice(device, &[0u32, 1, 2, 0, 1, 2, 0, 1], &[8])?))
}

fn chain() -> Optimizer {
    optim::adam(Schedule::cosine(1e-2, STEPS).warm_up(50)).clip_norm(1.0)
}

/// Trains for `steps` steps, with a look at the device's statistics before each of those in `at`.
fn looks(d: &Device, steps: u64, at: &[u64]) -> Vec<Stats> {
    let model = Mlp::new("net", 3, &[8], 3).with_norm(Norm::Batch).with_dropout(0.1);
    let params = model.init(d, 1).unwrap();
    let fit = Fit::supervised(model, chain(), loss::cross_entropy).epochs(steps);
    let fit = fit.check_every(100).progress(Progress::Silent);
    let looks = RefCell::new(Vec::new());
    let n_calls = RefCell::new(0);
    let trained = fit.run(fit.begin(&params).unwrap(), &Batches::new(8, 8, 0, Tail::Keep).unwrap(), |_| {
        let mut calls = n_calls.borrow_mut();
        if at.contains(&calls) {
            looks.borrow_mut().push(d.stats());
        }
        *calls += 1;
        batch(d)
    });
    let trained = trained.unwrap();
    assert_eq!((trained.run.step, trained.run.ended), (steps, Some(Ended::Done)));
    let looks = looks.into_inner();
    for look in &looks[1..] {
        assert_eq!(still(look), still(&looks[0]), "{look:?}\n{:?}", looks[0]);
    }
    looks
}

#[test]
fn ten_thousand_steps_are_as_light_as_a_hundred() {
    let looks = looks(&Device::cpu(), STEPS, &[2, 100, 5_000, 9_999]);
    // One plan run a step, and a read-back of two numbers every hundred.
    let (first, last) = (&looks[1], &looks[3]);
    assert_eq!(last.submissions - first.submissions, 9_899);
    assert!(last.read_backs - first.read_backs <= 2 * 100, "{first:?} {last:?}");
}

#[test]
fn software_steps_are_one_submission_each() {
    if let Some(device) = adapter::open(Device::named) {
        let looks = looks(&device, 60, &[5, 55]);
        assert_eq!(looks[1].submissions - looks[0].submissions, 50, "{looks:?}");
    }
}

/// A step without `compile`.
fn plain_loop(model: &Mlp, optimizer: &Optimizer) {
    let d = Device::cpu();
    let mut params = model.init(&d, 1).unwrap();
    let mut state = optimizer.init(&params).unwrap();
    let mut first = None;
    let key = Key::new(&d, 3).unwrap();
    for step in 0..1_000 {
        let (x, y) = batch(&d).unwrap();
        let mut pass = Pass::train(key.clone());
        let loss = loss::cross_entropy(&model.apply(&params, &x, &mut pass).unwrap(), &y).unwrap();
        let grads = params.grad(&loss).unwrap();
        let with_buffers = params.with_buffers(pass.take_updates()).unwrap();
        let cx = StepCx::new(&optimizer.rate_tensor(&d, step).unwrap());
        (params, state) = optimizer.step(with_buffers, &grads, state, &cx).unwrap();
        loss.item().unwrap();
        let s = d.stats();
        let now = (s.plans_built, s.buffers_allocated, s.bytes_live);
        if step >= 12 {
            assert_eq!(*first.get_or_insert(now), now, "step {step} of {optimizer}");
        }
    }
}

#[test]
fn a_plain_loop_that_reads_only_the_loss_stays_flat() {
    let model = Mlp::new("net", 3, &[8], 3).with_norm(Norm::Layer);
    let sgd = optim::sgd(Schedule::cosine(1e-2, STEPS));
    for optimizer in [chain(), sgd.clone(), sgd.momentum(0.9).skip_if_not_finite().accumulate(4).freeze(["net.fc1"])] {
        plain_loop(&model, &optimizer);
    }
    // Running statistics are not needed for the loss, and are kept up all the same.
    plain_loop(&Mlp::new("net", 3, &[8, 8], 3).with_norm(Norm::Batch), &chain());
}
