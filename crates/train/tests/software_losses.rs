//! The losses of adaptation on a software adapter (or the one that `ACCLIMATE_DEVICE` names): the worked examples.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod worked;

use acclimate_tensor::Device;

#[test]
fn worked_examples() {
    if let Some(device) = adapter::open(Device::named) {
        worked::check(&device);
    }
}
