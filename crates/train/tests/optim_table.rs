//! Every preset through the same table: it descends, freezes, accumulates, skips, clips, survives save and load in the
//! middle, and from the second step on plans and allocates nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

use acclimate_tensor::{Compiled, Device, Tensor, compile};
use acclimate_train::checkpoint::{self, Snapshot};
use acclimate_train::optim::{self, Optimizer, Schedule, State, StepCx};
use acclimate_train::{Error, Params, Result};

const STEPS: u64 = 400;

fn presets(rate: f32) -> Vec<(&'static str, Optimizer)> {
    let falling = Schedule::cosine(rate, STEPS);
    // Momentum of 0.9 makes steps ten times as long.
    let gentle = Schedule::cosine(0.2 * rate, STEPS);
    vec![
        ("sgd", optim::sgd(falling.clone())),
        ("momentum", optim::sgd(gentle.clone()).momentum(0.9)),
        ("nesterov", optim::sgd(gentle.clone()).momentum(0.9).nesterov()),
        ("adam", optim::adam(falling.clone())),
        ("adamw", optim::adamw(falling.clone()).decay(1e-4)),
        ("amsgrad", optim::amsgrad(falling.clone())),
        ("rmsprop", optim::rmsprop(falling.clone())),
        ("rmsprop centered", optim::rmsprop(falling.clone()).centered()),
        ("rmsprop momentum", optim::rmsprop(gentle).momentum(0.9)),
        ("adagrad", optim::adagrad(Schedule::constant(30.0 * rate))),
        ("lion", optim::lion(falling)),
    ]
}

fn params(device: &Device, a: &[f32], b: &[f32]) -> Params {
    let named = |path: &str, x: &[f32]| (path.to_owned(), vec![x.len()], x.to_vec());
    Params::from_named(device, vec![named("layer.a", a), named("layer.b", b)]).unwrap()
}

/// ½ Σ c (x − 1)², c from 1 to 4; minimum 0 at ones.
fn parabola(p: &Params) -> Result<Tensor> {
    let (a, b) = (p.get("layer.a")?.add_scalar(-1.0)?, p.get("layer.b")?.add_scalar(-1.0)?);
    Ok(a.square()?.sum(&[])?.add(&b.square()?.mul_scalar(4.0)?.sum(&[])?)?.mul_scalar(0.5)?)
}

/// (1 − a)² + 10 (b − a²)²; minimum 0 at (1, 1), along a bent valley (Rosenbrock 1960, with 10 for 100).
fn rosenbrock(p: &Params) -> Result<Tensor> {
    let (a, b) = (p.get("layer.a")?, p.get("layer.b")?);
    let across = b.sub(&a.square()?)?.square()?.mul_scalar(10.0)?;
    Ok(a.neg()?.add_scalar(1.0)?.square()?.add(&across)?.sum(&[])?)
}

type Loss = fn(&Params) -> Result<Tensor>;

struct Run {
    params: Params,
    state: State,
    losses: Vec<f32>,
}

type Step = Compiled<(Params, State, Tensor), ((Params, State), Tensor), Error>;

fn compiled(o: &Optimizer, loss: Loss) -> Step {
    let chain = o.clone();
    compile(move |(params, state, rate): (Params, State, Tensor)| {
        let loss = loss(&params)?;
        let grads = params.grad(&loss)?;
        Ok((chain.step(params, &grads, state, &StepCx::new(&rate))?, loss))
    })
}

/// Steps of a range, compiled.
fn run(o: &Optimizer, loss: Loss, mut params: Params, mut state: State, steps: std::ops::Range<u64>) -> Run {
    let device = params.device().clone();
    let step = compiled(o, loss);
    let mut losses = Vec::new();
    for i in steps {
        let ((p, s), now) = step.call((params, state, o.rate_tensor(&device, i).unwrap())).unwrap();
        (params, state) = (p, s);
        losses.push(now.item().unwrap());
    }
    Run { params, state, losses }
}

fn start(o: &Optimizer, loss: Loss, at: Params, steps: u64) -> Run {
    let state = o.init(&at).unwrap();
    run(o, loss, at, state, 0..steps)
}

fn bits(params: &Params) -> Vec<u32> {
    params.arena().to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

fn bits_of(state: &State) -> Vec<(String, Vec<u32>)> {
    let words = |t: &Tensor| t.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect();
    state.iter().map(|(name, t)| (name.to_owned(), words(t))).collect()
}

#[test]
fn every_preset_descends() {
    let d = Device::cpu();
    for (name, o) in presets(0.02) {
        let run = start(&o, parabola, params(&d, &[0.0, 2.0, -0.5], &[1.7]), STEPS);
        let last = *run.losses.last().unwrap();
        assert!(last < 1e-3 * run.losses[0], "{name} on the parabola: {} -> {last}", run.losses[0]);
        let run = start(&o, rosenbrock, params(&d, &[-0.5], &[0.8]), STEPS);
        let (first, last) = (run.losses[0], *run.losses.last().unwrap());
        assert!(last < 0.05 * first, "{name} on Rosenbrock: {first} -> {last}");
    }
}

#[test]
fn frozen_paths_keep_their_bits() {
    let d = Device::cpu();
    for (name, o) in presets(0.02) {
        // Decay and momentum would move a parameter whose gradient is zero.
        for o in [o.clone().freeze(["layer.b"]), o.clone().decay(0.1).freeze(["layer.b"]).clip_norm(0.5)] {
            let run = start(&o, parabola, params(&d, &[0.0, 2.0], &[1.7, -0.3]), 20);
            let named = run.params.to_named().unwrap();
            assert_eq!(named[1].2, [1.7, -0.3], "{name}");
            assert!(named[0].2[0] > 0.0 && named[0].2[1] < 2.0, "{name}: {:?}", named[0].2);
        }
    }
    let at = params(&d, &[0.0], &[1.0]);
    let layer = start(&optim::adam(0.1).freeze(["layer"]), parabola, at.clone(), 3);
    assert_eq!(bits(&layer.params), bits(&at));
    assert!(optim::adam(0.1).freeze(["lay"]).init(&at).is_err(), "a path is no prefix of letters");
    assert!(optim::adam(0.1).freeze(["layer.c"]).init(&at).is_err());
    assert!(optim::adam(0.1).freeze(Vec::<String>::new()).init(&at).is_err());
    assert!(optim::adam(0.1).freeze(["layer"]).init(at.arena()).is_err(), "a plain tensor has no paths");
}

#[test]
fn accumulated_steps_equal_one_step_with_the_mean() {
    let d = Device::cpu();
    let at = params(&d, &[0.0, 2.0], &[1.7]);
    let g = |scale: f32| params(&d, &[0.5 * scale, -scale], &[0.25 * scale]);
    for (name, o) in presets(0.02) {
        let cx = StepCx::new(&o.rate_tensor(&d, 0).unwrap());
        let three = o.clone().accumulate(3);
        let (mut one, mut one_state) = (at.clone(), o.init(&at).unwrap());
        let (mut many, mut many_state) = (at.clone(), three.init(&at).unwrap());
        for round in 0..3 {
            let before = (bits(&many), bits_of(&many_state));
            for (i, scale) in [1.0, 2.0, 6.0].into_iter().enumerate() {
                (many, many_state) = three.step(many, &g(scale), many_state, &cx).unwrap();
                if i < 2 {
                    assert_eq!(bits(&many), before.0, "{name} moved in round {round}");
                    let rule = |s: &[(String, Vec<u32>)]| -> Vec<_> {
                        s.iter().filter(|(name, _)| name.starts_with("1/")).cloned().collect()
                    };
                    assert_eq!(rule(&bits_of(&many_state)), rule(&before.1), "{name} remembers in round {round}");
                }
            }
            (one, one_state) = o.step(one, &g(3.0), one_state, &cx).unwrap();
            assert_eq!(bits(&many), bits(&one), "{name}, round {round}");
        }
    }
}

#[test]
fn a_broken_gradient_changes_no_bit() {
    let d = Device::cpu();
    let at = params(&d, &[0.0, 2.0], &[1.7]);
    let good = params(&d, &[0.5, -1.0], &[0.25]);
    for (name, o) in presets(0.02) {
        let o = o.skip_if_not_finite().clip_norm(1.0);
        let cx = StepCx::new(&o.rate_tensor(&d, 0).unwrap());
        let (p, s) = o.step(at.clone(), &good, o.init(&at).unwrap(), &cx).unwrap();
        let (before, state_before) = (bits(&p), bits_of(&s));
        assert_ne!(before, bits(&at), "{name}");
        let mut now = (p, s);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            now = o.step(now.0, &params(&d, &[0.5, bad], &[0.25]), now.1, &cx).unwrap();
        }
        assert_eq!(bits(&now.0), before, "{name}");
        let after = bits_of(&now.1);
        assert_eq!(after[0], ("0/skip_if_not_finite/skipped".to_owned(), vec![3f32.to_bits()]));
        assert_eq!(after[1..], state_before[1..], "{name}");
        let (p, _) = o.step(now.0, &good, now.1, &cx).unwrap();
        assert_ne!(bits(&p), before, "{name} goes on");
    }
}

#[test]
fn saved_and_loaded_in_the_middle_it_goes_on_bit_for_bit() {
    let d = Device::cpu();
    let at = || params(&d, &[0.0, 2.0], &[1.7]);
    for (name, o) in presets(0.02) {
        for o in [o.clone(), o.clone().clip_norm(1.0).accumulate(3)] {
            let straight = start(&o, parabola, at(), 10);
            let half = start(&o, parabola, at(), 5);
            let folder = tempfile::tempdir().unwrap();
            let snapshot = Snapshot { params: &half.params, state: &half.state, step: 5, seed: 7, run: () };
            checkpoint::save(folder.path(), &snapshot).unwrap();
            drop(half);
            let saved = checkpoint::load(folder.path()).unwrap();
            let params = saved.params(&at()).unwrap();
            let state = saved.state(&o.init(&at()).unwrap(), &d).unwrap();
            let resumed = run(&o, parabola, params, state, saved.manifest.step..10);
            assert_eq!(bits(&resumed.params), bits(&straight.params), "{name}: {o}");
            assert_eq!(bits_of(&resumed.state), bits_of(&straight.state), "{name}: {o}");
        }
    }
}

#[test]
fn clipping_follows_its_formulas() {
    let d = Device::cpu();
    let at = params(&d, &[0.0, 0.0], &[0.0]);
    let step = |o: &Optimizer, g: &Params| {
        let cx = StepCx::new(&o.rate_tensor(&d, 0).unwrap());
        let (p, _) = o.step(at.clone(), g, o.init(&at).unwrap(), &cx).unwrap();
        p.to_named().unwrap().into_iter().flat_map(|(_, _, x)| x).collect::<Vec<f32>>()
    };
    let g = params(&d, &[3.0, 0.0], &[-4.0]);
    let close = |got: Vec<f32>, want: [f32; 3]| {
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5), "{got:?} for {want:?}");
    };
    close(step(&optim::sgd(1.0).clip_norm(1.0), &g), [-0.6, 0.0, 0.8]);
    close(step(&optim::sgd(1.0).clip_norm(10.0), &g), [-3.0, 0.0, 4.0]);
    close(step(&optim::sgd(1.0).clip_value(3.5), &g), [-3.0, 0.0, 3.5]);
    close(step(&optim::sgd(1.0).clip_value(1.0).clip_norm(1.0), &g), [-0.5f32.sqrt(), 0.0, 0.5f32.sqrt()]);
    let from_one = params(&d, &[1.0, 1.0], &[1.0]);
    let o = optim::sgd(0.5).add_decay(0.1);
    let cx = StepCx::new(&o.rate_tensor(&d, 0).unwrap());
    let (p, _) = o.step(from_one.clone(), &g, o.init(&from_one).unwrap(), &cx).unwrap();
    close(p.to_named().unwrap().into_iter().flat_map(|(_, _, x)| x).collect(), [-0.55, 0.95, 2.95]);
}

#[test]
fn the_second_step_is_free() {
    let d = Device::cpu();
    for (name, o) in presets(0.02) {
        for o in [o.clone(), o.clone().clip_norm(1.0), o.clone().skip_if_not_finite().accumulate(2)] {
            let step = compiled(&o, parabola);
            let at = params(&d, &[0.0, 2.0], &[1.7]);
            let state = o.init(&at).unwrap();
            let mut now = (at, state);
            let mut after_two = None;
            for i in 0..8 {
                let (next, _) = step.call((now.0, now.1, o.rate_tensor(&d, i * 50).unwrap())).unwrap();
                now = next;
                let s = d.stats();
                let counts = (s.plans_built, s.pipelines_compiled, s.buffers_allocated, s.bytes_live);
                if i >= 1 {
                    assert_eq!(*after_two.get_or_insert(counts), counts, "{name} at step {i}: {o}");
                }
            }
            // The compiled steps are those of a plain loop.
            let schedule: Vec<f32> = (0..8).map(|i| o.rate(i * 50)).collect();
            let (mut p, mut s) = (params(&d, &[0.0, 2.0], &[1.7]), o.init(&now.0).unwrap());
            for rate in schedule {
                let grads = p.grad(&parabola(&p).unwrap()).unwrap();
                let cx = StepCx::new(&Tensor::from_slice(&d, &[rate], &[1]).unwrap());
                (p, s) = o.step(p, &grads, s, &cx).unwrap();
                Tensor::realize(&[p.arena()]).unwrap();
            }
            let (got, want) = (now.0.arena().to_vec::<f32>().unwrap(), p.arena().to_vec::<f32>().unwrap());
            assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= 1e-6), "{name}: {got:?} {want:?}");
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_before_the_first_step() {
    let at = params(&Device::cpu(), &[0.0], &[1.0]);
    for o in [
        optim::sgd(f32::NAN),
        optim::adam(-1e-3),
        optim::sgd(0.1).momentum(-0.5),
        optim::sgd(0.1).momentum(f32::NAN),
        optim::sgd(0.1).nesterov(),
        optim::adam(0.1).momentum(0.9),
        optim::adam(0.1).betas(1.0, 0.999),
        optim::adam(0.1).eps(0.0),
        optim::adamw(0.1).decay(-0.1),
        optim::rmsprop(0.1).eps(f64::NAN),
        optim::lion(0.1).centered(),
        optim::adam(0.1).clip_norm(0.0),
        optim::adam(0.1).clip_norm(f32::NAN),
        optim::adam(0.1).clip_value(-1.0),
        optim::adam(0.1).add_decay(f32::INFINITY),
        optim::adam(0.1).accumulate(0),
    ] {
        let error = o.init(&at).expect_err(&o.to_string()).to_string();
        assert!(error.contains("expected") && error.contains("found"), "{error}");
    }
}

#[test]
fn a_foreign_state_is_refused() {
    let d = Device::cpu();
    let at = params(&d, &[0.0], &[1.0]);
    let (sgd, adam) = (optim::sgd(0.1), optim::adam(0.1));
    let cx = StepCx::new(&sgd.rate_tensor(&d, 0).unwrap());
    assert!(adam.step(at.clone(), &at, sgd.init(&at).unwrap(), &cx).is_err());
    assert!(sgd.step(at.clone(), &at, adam.init(&at).unwrap(), &cx).is_err());
    let other = params(&d, &[0.0; 100], &[1.0]);
    assert!(sgd.step(at.clone(), &other, sgd.init(&at).unwrap(), &cx).is_err());
    let (moved, _) = sgd.step(at.clone(), &at, sgd.init(&at).unwrap(), &cx).unwrap();
    assert_eq!(moved.to_named().unwrap()[1].2, [0.9]);
}
