//! Pruned and gated networks and fewer tokens on a software adapter (or the one that `ACCLIMATE_DEVICE` names).
#![allow(clippy::unwrap_used)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod pruning;

use acclimate_tensor::Device;

#[test]
fn pruning_does_the_same() {
    if let Some(device) = adapter::open(Device::named) {
        pruning::narrow_is_unread(&device, 2).unwrap();
        pruning::tokens_follow_the_golden(&device).unwrap();
        pruning::gates_follow_the_golden(&device).unwrap();
        pruning::norms_are_of_the_inputs(&device).unwrap();
    }
}
