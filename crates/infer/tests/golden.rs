//! The first steps of every method, on the CPU engine, are those of a PyTorch float64 reimplementation.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "traces/check.rs"]
mod check;
mod traces;

use acclimate_tensor::Device;

#[test]
fn statistics() {
    check::statistics_trace(&Device::cpu());
}

#[test]
fn tent() {
    check::tent_trace(&Device::cpu());
}

#[test]
fn memo_affine() {
    check::memo_affine_trace(&Device::cpu());
}
