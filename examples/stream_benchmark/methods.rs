//! The methods that the benchmark knows: one line each.

use acclimate::infer::adapt::{
    Lame, alpha_bn, asr, come, cotta, deyo, eta, forward_only, lame, memo_low_rank, prior_corrected, pseudo_label,
    rdumb, roid, rpl, sar, shot_im, t3a,
};
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
    ("alpha-bn", |_| alpha_bn(0.3)),
    ("prior-corrected", |_| prior_corrected()),
    ("pseudo-label", |_| pseudo_label(1e-3, 0.9)),
    ("rpl", |_| rpl(1e-3)),
    ("eta", |_| eta(1e-3, 0.4)),
    ("sar", |_| sar(1e-3)),
    ("deyo", |_| deyo(1e-3)),
    ("come", |_| come(1e-3)),
    ("shot-im", |_| shot_im(1e-3)),
    ("roid", |_| roid(1e-3)),
    ("rdumb", |_| rdumb(1e-3, 0.4)),
    ("asr", |_| asr(1e-3, 0.4)),
    ("cotta", |_| cotta(1e-3, 0.92)),
    ("lame", |_| lame(Lame::default())),
    ("t3a", |_| t3a(20)),
    ("forward-only", |_| forward_only(0.02)),
    ("memo-low-rank", |_| memo_low_rank(16, 4, 5e-3)),
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
