//! The losses of adaptation on a software adapter (or the one that `ACCLIMATE_DEVICE` names): the worked examples.
#![allow(clippy::unwrap_used, clippy::panic)]

mod worked;

use acclimate_tensor::{Device, Error};

#[test]
fn worked_examples() {
    let asked = std::env::var("ACCLIMATE_DEVICE").unwrap_or_default();
    let name =
        if ["", "auto", "cpu", "null"].contains(&asked.as_str()) { "software".to_owned() } else { asked.clone() };
    match Device::named(&name) {
        Ok(device) => worked::check(&device),
        Err(Error::NoDevice { .. }) if asked != name => println!("skipped: no adapter"),
        Err(error) => panic!("{error}"),
    }
}
