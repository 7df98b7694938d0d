//! Adaptive selection on a software adapter (or the one that `ACCLIMATE_DEVICE` names).
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod selection;

use acclimate_infer::select::{Acquirer, Stop, dime};
use acclimate_tensor::Device;

#[test]
fn losses_and_words() {
    if let Some(device) = adapter::open(Device::named) {
        selection::losses_are_those_of_pytorch(&device);
        selection::words_are_those_of_pytorch(&device);
    }
}

/// Both engines buy the same features for the same inputs.
#[test]
fn purchases_are_those_of_the_cpu() {
    let Some(device) = adapter::open(Device::named) else { return };
    let x = selection::Golden::read().f32("x").1;
    let bought = |device: &Device| {
        let selector = selection::selector(dime(3));
        let params = selection::selector_params(device, &selector);
        let rows = acclimate_infer::select::Rows::new(x.clone(), vec![0; selection::N], 5).unwrap();
        let all = Acquirer::new(selector, params, Stop::never().budget(2.5)).unwrap().slots(4).on(&rows).unwrap();
        all.iter().map(|a| a.bought.iter().map(|b| b.feature).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(bought(&device), bought(&Device::cpu()));
}
