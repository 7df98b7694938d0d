//! The step rules: PyTorch's traces, slots, gradients of a step, donation, rejects.
#![allow(clippy::unwrap_used, clippy::panic)] // in the helpers of tests, too

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use acclimate_kernels::step::{self, AdagradConfig, AdamConfig, LionConfig, RmsPropConfig, Rule, SgdConfig};
use acclimate_tensor::{Device, Error, Result, Tensor, compile, grad, oracle, vmap};
use safetensors::SafeTensors;
use serde_json::Value;

const NAMES: [&str; 14] = [
    "sgd",
    "sgd_momentum",
    "sgd_nesterov",
    "sgd_decay",
    "adam",
    "adam_decay",
    "adamw",
    "adamw_schedule",
    "amsgrad",
    "rmsprop",
    "rmsprop_momentum",
    "rmsprop_centered",
    "adagrad",
    "lion",
];

/// A step of the rule that a golden file names.
enum Any {
    Sgd(SgdConfig),
    Adam(AdamConfig),
    RmsProp(RmsPropConfig),
    Adagrad(AdagradConfig),
    Lion(LionConfig),
}

/// The same expression of whichever configuration it is.
macro_rules! of_any {
    ($any:expr, $c:ident => $value:expr) => {
        match $any {
            Any::Sgd($c) => $value,
            Any::Adam($c) => $value,
            Any::RmsProp($c) => $value,
            Any::Adagrad($c) => $value,
            Any::Lion($c) => $value,
        }
    };
}

impl Any {
    fn of(hyper: &Value) -> Any {
        let number = |key: &str| hyper[key].as_f64().unwrap_or_else(|| panic!("no {key} in {hyper}"));
        let flag = |key: &str| hyper[key].as_bool().unwrap_or_else(|| panic!("no {key} in {hyper}"));
        let beta = |i: usize| hyper["betas"][i].as_f64().unwrap();
        let weight_decay = number("weight_decay");
        match hyper["rule"].as_str().unwrap() {
            "SGD" => {
                let (momentum, dampening) = (number("momentum"), number("dampening"));
                Any::Sgd(SgdConfig { momentum, dampening, weight_decay, nesterov: flag("nesterov") })
            }
            rule @ ("Adam" | "AdamW") => {
                let (beta1, beta2, eps, decoupled) = (beta(0), beta(1), number("eps"), rule == "AdamW");
                Any::Adam(AdamConfig { beta1, beta2, eps, weight_decay, decoupled, amsgrad: flag("amsgrad") })
            }
            "RMSprop" => {
                let (alpha, eps, momentum) = (number("alpha"), number("eps"), number("momentum"));
                Any::RmsProp(RmsPropConfig { alpha, eps, weight_decay, momentum, centered: flag("centered") })
            }
            "Adagrad" => {
                let (rate_decay, initial_accumulator) = (number("lr_decay"), number("initial_accumulator_value"));
                Any::Adagrad(AdagradConfig { rate_decay, weight_decay, initial_accumulator, eps: number("eps") })
            }
            "Lion" => Any::Lion(LionConfig { beta1: beta(0), beta2: beta(1), weight_decay }),
            other => panic!("unknown rule {other}"),
        }
    }

    fn init(&self, theta: &Tensor) -> Result<Vec<Tensor>> {
        of_any!(self, c => step::init(c, theta))
    }

    fn step(&self, x: &Tensor, g: &Tensor, s: &[Tensor], rate: &Tensor, t: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        of_any!(self, c => step::apply(c, x, g, s, rate, t))
    }

    /// One of each kind, every flag on somewhere.
    fn all() -> Vec<Any> {
        let adam = AdamConfig { weight_decay: 0.1, ..AdamConfig::default() };
        let rms = RmsPropConfig { weight_decay: 0.1, ..RmsPropConfig::default() };
        vec![
            Any::Sgd(SgdConfig { weight_decay: 0.1, ..SgdConfig::default() }),
            Any::Sgd(SgdConfig { momentum: 0.9, dampening: 0.25, ..SgdConfig::default() }),
            Any::Sgd(SgdConfig { momentum: 0.9, nesterov: true, ..SgdConfig::default() }),
            Any::Adam(adam),
            Any::Adam(AdamConfig { decoupled: true, amsgrad: true, ..adam }),
            Any::RmsProp(rms),
            Any::RmsProp(RmsPropConfig { momentum: 0.9, centered: true, ..rms }),
            Any::RmsProp(RmsPropConfig { momentum: 0.5, ..rms }),
            Any::Adagrad(AdagradConfig { rate_decay: 0.1, initial_accumulator: 0.5, ..AdagradConfig::default() }),
            Any::Lion(LionConfig { weight_decay: 0.1, ..LionConfig::default() }),
        ]
    }
}

struct Golden {
    hyper: Value,
    bytes: Vec<u8>,
}

impl Golden {
    fn open(name: &str) -> Golden {
        let file = format!("{}/../train/golden/optim_{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(file).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let hyper = serde_json::from_str(&header.metadata().as_ref().unwrap()["optimizer"]).unwrap();
        Golden { hyper, bytes }
    }

    fn get(&self, key: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(key).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

/// 50 steps along recorded gradients: within 1e-5 of PyTorch relative to max(|θ|, the tensor's root mean square).
fn follows_pytorch(d: &Device) -> Result<()> {
    for name in NAMES {
        let golden = Golden::open(name);
        let rule = Any::of(&golden.hyper);
        let rates = golden.get("rate");
        assert_eq!(rates.len(), 50);
        for part in ["a", "b"] {
            let theta0 = golden.get(&format!("theta0.{part}"));
            let (grads, want) = (golden.get(&format!("grads.{part}")), golden.get(&format!("theta.{part}")));
            let n = theta0.len();
            let mut theta = Tensor::from_slice(d, &theta0, &[n])?;
            let mut states = rule.init(&theta)?;
            let mut worst = 0.0f64;
            for (t, &rate) in rates.iter().enumerate() {
                let g = Tensor::from_slice(d, &grads[t * n..(t + 1) * n], &[n])?;
                let (rate, count) = (Tensor::full(d, &[1], rate)?, Tensor::full(d, &[1], (t + 1) as f32)?);
                (theta, states) = rule.step(&theta, &g, &states, &rate, &count)?;
                let want = &want[t * n..(t + 1) * n];
                let rms = (want.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64).sqrt();
                for (&got, &want) in theta.to_vec::<f32>()?.iter().zip(want) {
                    let error = (f64::from(got) - f64::from(want)).abs() / f64::from(want).abs().max(rms);
                    worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
                }
            }
            println!("{name}.{part}: {worst:.1e}");
            assert!(worst < 1e-5, "{name}.{part} on {}: {worst:e}", d.info().name);
        }
    }
    Ok(())
}

/// The engine against the reference in f64, over sizes that cross the stretches and workgroups.
fn follows_the_reference(d: &Device) -> Result<()> {
    for rule in Any::all() {
        for n in [1, 3, 255, 257, 20_000] {
            let theta = wave(d, n, 1.0)?;
            // A centered rule needs a variance that is far from 0: its root would magnify any rounding.
            let state =
                |i: usize| wave(d, n, 0.3 + i as f32)?.square()?.add_scalar(0.3)?.mul_scalar(0.3f32.powi(i as i32));
            let states: Vec<Tensor> = (0..rule.init(&theta)?.len()).map(state).collect::<Result<_>>()?;
            let (rate, t) = (Tensor::full(d, &[1], 0.01)?, Tensor::full(d, &[1], 3.0)?);
            let (theta, states) = rule.step(&theta, &wave(d, n, 7.0)?, &states, &rate, &t)?;
            let all: Vec<&Tensor> = std::iter::once(&theta).chain(&states).collect();
            let want: Vec<_> = all.iter().map(|y| oracle::evaluate(y, &[])).collect::<Result<_>>()?;
            for (y, want) in all.iter().zip(want) {
                for (got, want) in y.to_vec::<f32>()?.iter().zip(want.real()) {
                    // A dozen operations of half an ulp each, and √ and / of GPUs with 2.5.
                    assert!((f64::from(*got) - want).abs() <= 2e-6 * (1.0 + want.abs()), "{n}: {got} {want}");
                }
            }
        }
    }
    Ok(())
}

fn wave(d: &Device, n: usize, phase: f32) -> Result<Tensor> {
    let data: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7 + phase).sin() + 0.1).collect();
    Tensor::from_slice(d, &data, &[n])
}

/// Each slot with its own rate and step number: the bits of a loop.
fn slots_equal_a_loop(d: &Device) -> Result<()> {
    let (slots, n) = (3, 5);
    for rule in Any::all() {
        for shared_rate in [false, true] {
            let theta = wave(d, slots * n, 1.0)?.reshape(&[slots, n])?;
            let g = wave(d, slots * n, 2.0)?.reshape(&[slots, n])?;
            let states: Vec<Tensor> = rule.init(&theta)?.iter().map(|s| s.add_scalar(0.5)).collect::<Result<_>>()?;
            let rates = Tensor::from_slice(d, &[0.1f32, 0.01, 0.3], &[3, 1])?;
            let steps = Tensor::from_slice(d, &[1.0f32, 2.0, 40.0], &[3, 1])?;
            let (rate, count) = (Tensor::full(d, &[1], 0.1)?, Tensor::full(d, &[1], 2.0)?);
            let (all, all_states) = if shared_rate {
                vmap(|(x, g, s)| rule.step(&x, &g, &s, &rate, &count), (theta.clone(), g.clone(), states.clone()))?
            } else {
                vmap(
                    |(x, g, s, rate, count)| rule.step(&x, &g, &s, &rate, &count),
                    (theta.clone(), g.clone(), states.clone(), rates.clone(), steps.clone()),
                )?
            };
            let row = |t: &Tensor, i: usize| t.narrow(0, i, 1)?.squeeze(0);
            for i in 0..slots {
                let (rate, count) =
                    if shared_rate { (rate.clone(), count.clone()) } else { (row(&rates, i)?, row(&steps, i)?) };
                let states: Vec<Tensor> = states.iter().map(|s| row(s, i)).collect::<Result<_>>()?;
                let (one, one_states) = rule.step(&row(&theta, i)?, &row(&g, i)?, &states, &rate, &count)?;
                assert_eq!(row(&all, i)?.to_vec::<f32>()?, one.to_vec::<f32>()?);
                for (all, one) in all_states.iter().zip(&one_states) {
                    assert_eq!(row(all, i)?.to_vec::<f32>()?, one.to_vec::<f32>()?);
                }
            }
        }
    }
    Ok(())
}

/// Inside a compiled step all state is updated where it lies.
fn compiled_steps_copy_nothing(d: &Device) -> Result<()> {
    let config = AdamConfig { amsgrad: true, ..AdamConfig::default() };
    let step = compile(move |(x, s, g, rate, t): (Tensor, Vec<Tensor>, Tensor, Tensor, Tensor)| {
        step::adam(&x, &g, &s, &rate, &t, config)
    });
    let refused = d.stats().refused_donations;
    let mut theta = wave(d, 300, 1.0)?;
    let mut states = Vec::new();
    for i in 0..3 {
        states.push(wave(d, 300, i as f32)?.square()?);
    }
    Tensor::realize(&states.iter().collect::<Vec<_>>())?;
    let mut before = d.stats();
    for t in 1..=5u8 {
        let (g, rate) = (wave(d, 300, f32::from(t))?, Tensor::from_slice(d, &[0.1 / f32::from(t)], &[1])?);
        let count = Tensor::from_slice(d, &[f32::from(t)], &[1])?;
        (theta, states) = step.call((theta, states, g, rate, count))?;
        if t == 2 {
            before = d.stats();
        }
    }
    let after = d.stats();
    assert_eq!(after.refused_donations, refused);
    assert_eq!((before.plans_built, before.buffers_allocated), (after.plans_built, after.buffers_allocated));
    Ok(())
}

#[test]
fn cpu_follows_pytorch() -> Result<()> {
    follows_pytorch(&Device::cpu())
}

#[test]
fn cpu_follows_the_reference() -> Result<()> {
    follows_the_reference(&Device::cpu())
}

#[test]
fn cpu_slots_equal_a_loop() -> Result<()> {
    slots_equal_a_loop(&Device::cpu())
}

#[test]
fn cpu_compiled_steps_copy_nothing() -> Result<()> {
    compiled_steps_copy_nothing(&Device::cpu())
}

#[test]
fn software_steps() -> Result<()> {
    let Some(d) = adapter::open(Device::named) else { return Ok(()) };
    follows_pytorch(&d)?;
    follows_the_reference(&d)?;
    slots_equal_a_loop(&d)?;
    compiled_steps_copy_nothing(&d)
}

/// Numeric differences in f64 of a loss after one step, by every input.
#[test]
fn the_gradient_of_a_step_follows_numeric_ones() -> Result<()> {
    let d = Device::cpu();
    for rule in Any::all() {
        let (theta, g, rate) = (wave(&d, 4, 1.0)?, wave(&d, 4, 2.0)?, Tensor::from_slice(&d, &[0.1f32, 0.2], &[2])?);
        let t = Tensor::from_slice(&d, &[2.0f32, 5.0], &[2])?;
        let n_states = rule.init(&theta)?.len();
        let mut states = Vec::new();
        for i in 0..n_states {
            // Far enough from each other that neither a maximum nor a variance is at its kink.
            let data = [1.5f32, 0.2, 2.0, 0.7].map(|x| x / (1.0 + 3.0 * i as f32));
            states.push(Tensor::from_slice(&d, &data, &[4])?);
        }
        let loss = || -> Result<Tensor> {
            let (x, s) = rule.step(&theta, &g, &states, &rate, &t)?;
            let mut loss = x.square()?.sum(&[])?;
            for s in &s {
                loss = loss.add(&s.sin()?.sum(&[])?)?;
            }
            Ok(loss)
        };
        let mut wrt = vec![theta.clone(), g.clone(), rate.clone()];
        wrt.extend(states.clone());
        let grads = grad(&loss()?, wrt.clone())?;
        let mut largest = 0.0f64;
        for (x, dx) in wrt.iter().zip(&grads) {
            let base: Vec<f64> = x.to_vec::<f32>()?.iter().map(|&x| f64::from(x)).collect();
            for (i, &dx) in oracle::evaluate(dx, &[])?.real().iter().enumerate() {
                let y = loss()?;
                let at = |h: f64| {
                    let mut moved = base.clone();
                    moved[i] += h;
                    oracle::evaluate(&y, &[(x.clone(), moved)]).unwrap().real()[0]
                };
                let want = (at(1e-5) - at(-1e-5)) / 2e-5;
                // Constants of the graph are rounded to f32.
                assert!((dx - want).abs() < 2e-6 * (1.0 + want.abs()), "{x:?}[{i}]: {dx} {want}");
                largest = largest.max(want.abs());
            }
        }
        assert!(largest > 0.1);
    }
    Ok(())
}

#[test]
fn null_rejects() -> Result<()> {
    let d = Device::null();
    let (x, one) = (Tensor::zeros(&d, &[6])?, Tensor::ones(&d, &[1])?);
    let run = |c: AdamConfig, s: &[Tensor], g: &Tensor, rate: &Tensor| step::adam(&x, g, s, rate, &one, c);
    let c = AdamConfig::default();
    let s = step::init(&c, &x)?;
    assert!(run(c, &s, &x, &one).is_ok());
    let text = |e: Result<(Tensor, Vec<Tensor>)>| e.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(text(run(c, &s[..1], &x, &one)).contains("2 state tensors (first_moment, second_moment), found 1"));
    assert!(text(run(c, &s, &Tensor::zeros(&d, &[5])?, &one)).contains("shape [5]"));
    assert!(text(run(c, &s, &x, &Tensor::ones(&d, &[4])?)).contains("divides the 6 parameters"));
    let bad = run(AdamConfig { beta2: 1.0, ..c }, &s, &x, &one);
    assert!(matches!(bad, Err(Error::Argument { what: "beta2", .. })));
    let bad = run(AdamConfig { eps: f64::NAN, ..c }, &s, &x, &one);
    assert!(matches!(bad, Err(Error::Argument { what: "eps", .. })));
    assert!(SgdConfig { nesterov: true, ..SgdConfig::default() }.validate().is_err());
    Ok(())
}
