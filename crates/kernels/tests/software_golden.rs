//! The ops on a software adapter (or the one that `ACCLIMATE_DEVICE` names) against golden vectors from PyTorch.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod vectors;

use acclimate_tensor::Device;

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let Some(device) = adapter::open(Device::named) else { return };
    let mut n = 0;
    for name in vectors::names().iter().filter(|n| vectors::is_here(n)) {
        // Shading languages may assume that there are neither NaN nor infinities, and flush what is denormal.
        let plain = |c: &vectors::Case| !c.flag("nonfinite") && !c.flag("edges");
        for case in vectors::cases(name).iter().filter(|c| plain(c)).step_by(2) {
            n += vectors::check(name, case, &device);
        }
    }
    assert!(n > 250, "{n} arrays were compared");
}
