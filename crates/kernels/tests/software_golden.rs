//! The ops on a software adapter (or the one that `ACCLIMATE_DEVICE` names) against golden vectors from PyTorch.

#![allow(clippy::unwrap_used, clippy::panic)]

mod vectors;

use acclimate_tensor::{Device, Error};

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let asked = std::env::var("ACCLIMATE_DEVICE").unwrap_or_default();
    let name =
        if ["", "auto", "cpu", "null"].contains(&asked.as_str()) { "software".to_owned() } else { asked.clone() };
    let device = match Device::named(&name) {
        Ok(device) => device,
        Err(Error::NoDevice { .. }) if asked != name => return println!("skipped: no adapter"),
        Err(error) => panic!("{error}"),
    };
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
