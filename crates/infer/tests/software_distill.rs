//! Distillation on a software adapter (or the one that `ACCLIMATE_DEVICE` names): PyTorch's trajectory, and a student that
//! nears its teacher on the stream that it answers.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod distilled;

use std::sync::Arc;

use acclimate_infer::adapt::distill_online;
use acclimate_infer::{Moves, Session};
use acclimate_tensor::Device;
use acclimate_train::Layer;
use acclimate_train::nn::Taught;
use distilled::{DIMS, net};

#[test]
fn a_few_steps_are_pytorchs() {
    if let Some(device) = adapter::open(Device::named) {
        distilled::a_few_steps_are_pytorchs(&device);
    }
}

#[test]
fn a_student_nears_its_teacher_and_a_hostile_batch_changes_nothing() {
    let Some(device) = adapter::open(Device::named) else { return };
    let teacher = net(5).init(&device, 1).unwrap();
    let taught = Taught::new(net(3), net(5), &teacher);
    let params = taught.params(&net(3).init(&device, 2).unwrap(), &teacher).unwrap();
    let method = distill_online(0.2, 2.0, 2.0).moves(Moves::All);
    let mut session = Session::new(Arc::new(taught), params, method).unwrap();
    let size: usize = DIMS.iter().product();
    let images =
        |seed: usize| -> Vec<f32> { (0..8 * size).map(|i| ((i * 7 + seed * 13) % 37) as f32 / 36.0).collect() };
    let mut distances = Vec::new();
    for i in 0..12 {
        let answers = session.answer(&images(i), DIMS).unwrap();
        distances.push(answers[0].receipt.facts.loss.unwrap().before);
    }
    assert!(distances[11] < distances[0], "{distances:?}");
    let delta = |session: &Session| session.carried().unwrap().delta().to_vec::<f32>().unwrap();
    let before = delta(&session);
    session.answer(&vec![f32::NAN; 8 * size], DIMS).unwrap();
    assert_eq!(delta(&session), before);
}
