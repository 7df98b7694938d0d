//! The methods that the benchmark knows: one line each.

use acclimate::infer::adapt::{
    Form, Lame, alpha_bn, asr, come, cotta, deyo, eta, forward_only, lame, memo, memo_low_rank, prior_corrected,
    pseudo_label, rdumb, roid, roid_views, rpl, sar, shot_im, t3a,
};
use acclimate::prelude::*;
use anyhow::{Context, Result, bail};

/// What a method may be made of.
#[derive(Clone)]
pub struct Known {
    /// Score at or below which a source image counts as ordinary.
    pub gate: f32,
    /// What [`Adaptation::recommend`] takes for the stream, where somebody asks.
    recommended: Option<Adaptation>,
    /// Rate of steps, if another than the method's own is asked for.
    rate: Option<f64>,
}

impl Known {
    pub fn new(gate: f32, recommended: Option<Adaptation>) -> Self {
        Known { gate, recommended, rate: None }
    }

    fn rate(&self, own: f64) -> f64 {
        self.rate.unwrap_or(own)
    }
}

/// A method by name and, for those that step, at another rate than its default.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// As it was asked for: `roid`, `roid@0.003`.
    pub name: String,
    make: Make,
    rate: Option<f64>,
}

/// The name of what is recommended for the stream.
pub const RECOMMENDED: &str = "recommended";

type Make = fn(&Known) -> Adaptation;

/// Name and method. A new method is a new line. (`frozen` and the votes at the same cost run beside all of them.)
pub const METHODS: &[(&str, Make)] = &[
    (RECOMMENDED, |known| {
        let method = known.recommended.clone().unwrap_or_else(frozen);
        let name = format!("{RECOMMENDED}: {}", method.name());
        method.named(name)
    }),
    ("stretch", |_| stretch()),
    ("statistics", |_| statistics()),
    ("tent", |known| tent(known.rate(1e-3))),
    ("alpha-bn", |_| alpha_bn(0.3)),
    ("prior-corrected", |_| prior_corrected()),
    ("pseudo-label", |known| pseudo_label(known.rate(1e-3), 0.9)),
    ("rpl", |known| rpl(known.rate(1e-3))),
    ("eta", |known| eta(known.rate(1e-3), 0.4)),
    ("sar", |known| sar(known.rate(1e-3))),
    ("deyo", |known| deyo(known.rate(1e-3))),
    ("come", |known| come(known.rate(1e-3))),
    ("shot-im", |known| shot_im(known.rate(1e-3))),
    ("roid", |known| roid(known.rate(1e-3))),
    ("roid-views", |known| roid_views(known.rate(1e-3))),
    ("rdumb", |known| rdumb(known.rate(1e-3), 0.4)),
    ("asr", |known| asr(known.rate(1e-3), 0.4)),
    ("cotta", |known| cotta(known.rate(1e-3), 0.92)),
    ("lame", |_| lame(Lame::default())),
    ("t3a", |_| t3a(20)),
    ("forward-only", |_| forward_only(0.02)),
    ("memo-low-rank", |known| memo_low_rank(16, 4, known.rate(5e-3))),
    ("memo", |known| memo(16, known.rate(5e-3)).form(Form::Pairs)),
    ("memo-affine", |known| memo_affine(16, known.rate(5e-3))),
    ("calibrate", |known| calibrate(known.gate)),
];

/// The methods with these names, or all.
pub fn chosen(names: &[String]) -> Result<Vec<Chosen>> {
    if names.iter().any(|name| name == "all") {
        let named = |&(name, make): &(&str, Make)| Chosen { name: name.to_owned(), make, rate: None };
        return Ok(METHODS.iter().map(named).collect());
    }
    names.iter().map(|name| find(name)).collect()
}

fn find(asked: &str) -> Result<Chosen> {
    let (name, rate) = match asked.split_once('@') {
        Some((name, rate)) => {
            let number = rate.parse().with_context(|| format!("method: the rate of `{asked}`"))?;
            (name, Some(number))
        }
        None => (asked, None),
    };
    let Some(&(_, make)) = METHODS.iter().find(|method| method.0 == name) else {
        let known: Vec<&str> = METHODS.iter().map(|method| method.0).collect();
        bail!("method: expected `all` or some of {}, found `{name}`", known.join(", "));
    };
    Ok(Chosen { name: asked.to_owned(), make, rate })
}

impl Chosen {
    /// The method, at the rate that was asked for, under the name that was asked for.
    pub fn method(&self, known: &Known) -> Adaptation {
        let made = (self.make)(&Known { rate: self.rate, ..known.clone() });
        if self.rate.is_some() { made.named(self.name.clone()) } else { made }
    }
}
