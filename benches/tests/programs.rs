//! The small programs run, and what they assert holds: no allocation per launch, memory near the bound of lifetimes.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).env("ACCLIMATE_DEVICE", "cpu").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {text}");
    assert!(!output.stdout.is_empty(), "{program} prints nothing");
}

#[test]
fn launches_allocate_nothing() {
    run(env!("CARGO_BIN_EXE_overhead"), &["null", "cpu"]);
}

#[test]
fn plans_take_little_more_than_lifetimes_ask_for() {
    run(env!("CARGO_BIN_EXE_memory"), &[]);
}

#[test]
fn a_small_model_starts() {
    run(env!("CARGO_BIN_EXE_startup"), &["cpu"]);
}

#[test]
fn a_profile_is_printed() {
    run(env!("CARGO_BIN_EXE_speed"), &["profile", "matmul_512"]);
}
