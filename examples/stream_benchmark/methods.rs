//! The methods that the benchmark knows: one line each.

use acclimate::prelude::*;
use anyhow::{Result, bail};

/// What a method may be made of.
pub struct Known {
    /// Score at or below which a source image counts as ordinary.
    pub gate: f32,
}

type Make = fn(&Known) -> Adaptation;

/// Name and method. A new method is a new line. (`frozen` and the votes at the same cost run beside all of them.)
pub const METHODS: &[(&str, Make)] = &[
    ("stretch", |_| stretch()),
    ("statistics", |_| statistics()),
    ("tent", |_| tent(1e-3)),
    ("memo-affine", |_| memo_affine(16, 5e-3)),
    ("calibrate", |known| calibrate(known.gate)),
];

/// The methods with these names, or all.
pub fn chosen(names: &[String]) -> Result<Vec<(&'static str, Make)>> {
    if names.iter().any(|name| name == "all") {
        return Ok(METHODS.to_vec());
    }
    let known: Vec<&str> = METHODS.iter().map(|method| method.0).collect();
    let find = |name: &String| match METHODS.iter().find(|method| method.0 == name) {
        Some(method) => Ok(*method),
        None => bail!("method: expected `all` or some of {}, found `{name}`", known.join(", ")),
    };
    names.iter().map(find).collect()
}
