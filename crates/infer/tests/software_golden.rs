//! The first steps of every method on a software adapter (or the one that `ACCLIMATE_DEVICE` names).
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "traces/check.rs"]
mod check;
mod traces;

use acclimate_tensor::{Device, Error};

#[test]
fn first_steps() {
    let asked = std::env::var("ACCLIMATE_DEVICE").unwrap_or_default();
    let name =
        if ["", "auto", "cpu", "null"].contains(&asked.as_str()) { "software".to_owned() } else { asked.clone() };
    match Device::named(&name) {
        Ok(device) => check::all(&device),
        Err(Error::NoDevice { .. }) if asked != name => println!("skipped: no adapter"),
        Err(error) => panic!("{error}"),
    }
}
