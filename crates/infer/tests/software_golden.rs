//! The first steps of every method on a software adapter (or the one that `ACCLIMATE_DEVICE` names).
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
#[path = "traces/check.rs"]
mod check;
mod traces;

use acclimate_tensor::Device;

#[test]
fn first_steps() {
    if let Some(device) = adapter::open(Device::named) {
        check::all(&device);
    }
}
