//! The first steps of every method, on the CPU engine, are those of a PyTorch float64 reimplementation.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "traces/check.rs"]
mod check;
mod traces;

use acclimate_infer::adapt::{Prepare, calibrate};
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

#[test]
fn streams() {
    for (name, method) in check::streams() {
        let resets = check::steps_of(&Device::cpu(), name, method);
        assert_eq!(resets > 0, ["rdumb", "asr"].contains(&name), "{name}: {resets} resets");
    }
}

#[test]
fn ttt() {
    check::ttt_trace(&Device::cpu());
}

#[test]
fn memo_by_every_form() {
    check::memo_trace(&Device::cpu());
}

#[test]
fn memo_low_rank() {
    check::memo_low_rank_trace(&Device::cpu());
}

#[test]
fn calibrate_as_it_is() {
    check::calibrate_trace(&Device::cpu(), calibrate(2.0));
}

#[test]
fn ttt_mae() {
    check::ttt_mae_trace(&Device::cpu());
}

#[test]
fn ttt_by_pairs() {
    check::ttt_by_pairs_trace(&Device::cpu());
}

#[test]
fn eata() {
    check::eata_trace(&Device::cpu());
}

#[test]
fn sar_resets_where_the_loss_falls_too_low() {
    check::sar_recover_trace(&Device::cpu());
}

/// A trace refuses a method that differs in one part.
#[test]
fn traces_have_teeth() {
    for (name, method) in check::wrong() {
        let config = method.config();
        // The thread's panic is the refusal.
        let follows = std::thread::spawn(move || check::steps_of(&Device::cpu(), name, method)).join();
        assert!(follows.is_err(), "a wrong {name} follows its trace: {config}");
    }
    let right = calibrate(2.0);
    for method in [calibrate(1.0), right.clone().without_guards(), right.prepare(Prepare::Stretch)] {
        let config = method.config();
        let follows = std::thread::spawn(move || check::calibrate_trace(&Device::cpu(), method)).join();
        assert!(follows.is_err(), "a wrong calibrate follows its trace: {config}");
    }
}
