//! The adapter that GPU tests run on: the one that `ACCLIMATE_DEVICE` names, else a software one. Tests of other packages
//! include this file by its path.

use acclimate_tensor::{Device, Error, Result};

/// Opens the adapter in some way; without one the test is skipped, unless it was asked for.
#[allow(clippy::panic)]
pub fn open(with: impl Fn(&str) -> Result<Device>) -> Option<Device> {
    let asked = std::env::var("ACCLIMATE_DEVICE").unwrap_or_default();
    let name = if ["", "auto", "cpu", "null"].contains(&asked.as_str()) { "software" } else { &asked };
    match with(name) {
        Ok(device) => Some(device),
        Err(Error::NoDevice { .. }) if asked != name => {
            println!("skipped: no adapter");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
