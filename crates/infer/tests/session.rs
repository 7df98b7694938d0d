//! What a session promises: frozen is frozen, a reset is exact, slots are apart, a fault stays in its slot, replay
//! computes every answer again, one submission per batch.

use std::sync::Arc;

use acclimate_infer::adapt::{calibrate, frozen, memo_affine, statistics, stretch, tent, vote};
use acclimate_infer::receipt::{Action, Inputs, Outcome, replay, verify};
use acclimate_infer::{Adaptation, Answered, Error, Guard, Moves, Objective, Reset, Session, SourceStatistics, Window};
use acclimate_tensor::Device;
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Sequential};
use acclimate_train::{Layer, Params, optim};

type Test = Result<(), Box<dyn std::error::Error>>;

const DIMS: [usize; 3] = [1, 8, 8];
const SIZE: usize = 64;

fn model() -> Arc<dyn Layer> {
    let layers = Sequential::new()
        .then(Conv2d::new("conv1", 1, 6, 3).same().without_bias())
        .then(BatchNorm::new("bn1", 6))
        .then(Activation::Relu)
        .then(Conv2d::new("conv2", 6, 8, 3).same().strided(2).without_bias())
        .then(BatchNorm::new("bn2", 8))
        .then(Activation::Relu)
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 8, 3));
    Arc::new(layers)
}

fn images(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..n * SIZE)
        .map(|i| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (x >> 8) as f32 / 16_777_216.0;
            let wave = ((i % SIZE) as f32 * 0.3 + (i / SIZE) as f32).sin() * 0.5 + 0.5;
            0.6 * wave + 0.4 * noise
        })
        .collect()
}

struct Bench {
    model: Arc<dyn Layer>,
    params: Params,
    source: SourceStatistics,
}

impl Bench {
    fn new(device: &Device) -> Result<Self, Error> {
        let model = model();
        let params = model.init(device, 3)?;
        let source = SourceStatistics::record(&*model, &params, &images(40, 9), DIMS)?;
        Ok(Bench { model, params, source })
    }

    fn session(&self, method: Adaptation, slots: usize) -> Result<Session, Error> {
        let source = method.needs_source_statistics().then(|| self.source.clone());
        Ok(Session::with_source(self.model.clone(), self.params.clone(), method, source)?.slots(slots).seed(5))
    }
}

fn bits(answers: &[Answered]) -> Vec<Vec<u32>> {
    answers.iter().map(|a| a.logits.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Inputs that are unusual enough for every gate.
fn per_input() -> [Adaptation; 3] {
    [memo_affine(4, 5e-3), calibrate(0.0), vote(4)]
}

#[test]
fn an_answer_is_the_same_bits_in_any_slot() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let x = images(8, 1);
    for method in per_input() {
        let mut session = b.session(method.clone(), 8)?;
        let straight = session.answer(&x, DIMS)?;
        // The same input with the same sequence number, beside others.
        for slot in [0, 3, 7] {
            let mut other = images(8, 77);
            other[slot * SIZE..(slot + 1) * SIZE].copy_from_slice(&x[slot * SIZE..(slot + 1) * SIZE]);
            let moved = b.session(method.clone(), 8)?.answer(&other, DIMS)?;
            assert_eq!(bits(&moved)[slot], bits(&straight)[slot], "{} slot {slot}", method.name());
        }
        // One input a batch, in slot 0, with the sequence number it had.
        let mut single = b.session(method.clone(), 8)?;
        for (i, image) in x.chunks(SIZE).enumerate() {
            assert_eq!(bits(&single.answer(image, DIMS)?)[0], bits(&straight)[i], "{} input {i}", method.name());
        }
        // A session of one slot may sum in another order.
        let mut one = b.session(method.clone(), 1)?;
        for (a, b) in one.answer(&x, DIMS)?.iter().zip(&straight) {
            for (a, b) in a.logits.iter().zip(&b.logits) {
                assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{}: {a} {b}", method.name());
            }
        }
    }
    Ok(())
}

#[test]
fn a_fault_stays_in_its_slot() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let x = images(6, 2);
    for method in per_input() {
        let clean = b.session(method.clone(), 6)?.answer(&x, DIMS)?;
        for poison in [f32::NAN, 1e30, f32::INFINITY] {
            let mut bad = x.clone();
            bad[2 * SIZE..3 * SIZE].fill(poison);
            let answers = b.session(method.clone(), 6)?.answer(&bad, DIMS)?;
            for slot in [0, 1, 3, 4, 5] {
                assert_eq!(bits(&answers)[slot], bits(&clean)[slot], "{} {poison}", method.name());
            }
            let mut source = b.session(frozen(), 6)?;
            let frozen_bits = bits(&source.answer(&bad, DIMS)?);
            let facts = &answers[2].receipt.facts;
            if facts.verdict.action == Action::RolledBack {
                let same = |a: &u32, b: &u32| a == b || (f32::from_bits(*a).is_nan() && f32::from_bits(*b).is_nan());
                assert!(bits(&answers)[2].iter().zip(&frozen_bits[2]).all(|(a, b)| same(a, b)), "{}", method.name());
            } else {
                assert!(poison.is_finite(), "{} {poison}: {:?}", method.name(), facts.verdict);
            }
        }
    }
    Ok(())
}

#[test]
fn a_reset_is_exact_and_the_source_never_changes() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let before = b.params.hash()?;
    for method in [tent(1e-2), statistics(), memo_affine(4, 5e-3), calibrate(0.0), stretch()] {
        let mut session = b.session(method.clone(), 4)?;
        let first = session.answer(&images(8, 1), DIMS)?;
        for i in 2..6 {
            session.answer(&images(8, i), DIMS)?;
        }
        let drifted = session.answer(&images(8, 1), DIMS)?;
        if method.name() == "tent" {
            assert_ne!(bits(&first), bits(&drifted), "tent carries its state on");
        }
        // A fresh session and a reset one agree, sequence numbers apart: only views are drawn by them.
        session.reset();
        if method.name() != "memo-affine" {
            assert_eq!(bits(&session.answer(&images(8, 1), DIMS)?), bits(&first), "{}", method.name());
        }
        assert_eq!(session.base_hash_now()?, before);
    }
    Ok(())
}

#[test]
fn one_submission_and_nothing_new_from_the_second_batch_on() -> Test {
    let device = Device::cpu();
    let b = Bench::new(&device)?;
    for method in [memo_affine(4, 5e-3), calibrate(0.0), tent(1e-3)] {
        let mut session = b.session(method, 8)?;
        session.warm(DIMS, 8)?;
        session.answer(&images(8, 1), DIMS)?;
        session.answer(&images(8, 2), DIMS)?;
        let s = device.stats();
        for i in 3..8 {
            session.answer(&images(8, i), DIMS)?;
        }
        let t = device.stats();
        assert_eq!(t.submissions - s.submissions, 5, "{}", session.method().name());
        assert_eq!(
            (t.plans_built, t.buffers_allocated, t.bytes_live),
            (s.plans_built, s.buffers_allocated, s.bytes_live),
            "{}",
            session.method().name()
        );
    }
    Ok(())
}

#[test]
fn tent_lowers_the_entropy_of_its_batch() -> Test {
    // METHODS of Wang et al. 2021: for a small rate one step lowers the mean entropy of the same batch.
    let b = Bench::new(&Device::cpu())?;
    let method = Adaptation::new("tent-sgd", Objective::Entropy)
        .moves(Moves::NormAffine)
        .statistics(acclimate_train::Statistics::Batch)
        .step(optim::sgd(1e-2), 1)
        .window(Window::ThisBatch)
        .reset(Reset::Never)
        .guard(Guard::LossMustFall);
    let answers = b.session(method, 1)?.answer(&images(16, 1), DIMS)?;
    let loss = answers[0].receipt.facts.loss.ok_or("no loss")?;
    assert!(loss.after < loss.before, "{} then {}", loss.before, loss.after);
    assert!(answers.iter().all(|a| a.receipt.facts.verdict.action == Action::Accepted));
    Ok(())
}

#[test]
fn replay_holds_and_finds_what_was_altered() -> Test {
    let dir = tempfile::tempdir()?;
    let b = Bench::new(&Device::cpu())?;
    for method in [memo_affine(4, 5e-3), calibrate(0.0), tent(1e-3), statistics()] {
        let name = method.name().to_owned();
        let log = dir.path().join(format!("{name}.jsonl"));
        let mut session = b.session(method.clone(), 4)?.receipts_to(&log)?.keep_inputs()?;
        for i in 1..4 {
            session.answer(&images(6, i), DIMS)?;
        }
        session.finish()?;
        let report = replay(&log, &mut session.source()?, Inputs::kept())?;
        assert!(report.holds(), "{name}: {report}");

        // One weight altered: the base hash differs, and no record passes.
        let mut named = b.params.to_named()?;
        named[0].2[0] += 1e-3;
        let altered = b.params.with_overrides([(
            named[0].0.clone(),
            acclimate_tensor::Tensor::from_slice(b.params.device(), &named[0].2, &named[0].1)?,
        )])?;
        let source = method.needs_source_statistics().then(|| b.source.clone());
        let mut other = Session::with_source(b.model.clone(), altered, method.clone(), source)?.slots(4);
        let report = replay(&log, &mut other, Inputs::kept())?;
        assert!(!report.holds(), "{name}");

        // One changed byte is found at its record.
        let text = std::fs::read_to_string(&log)?;
        let lines: Vec<&str> = text.lines().collect();
        let changed = lines[5].replacen("\"ms\":", "\"mS\":", 1);
        let mut forged: Vec<&str> = lines.clone();
        forged[5] = &changed;
        std::fs::write(&log, forged.join("\n") + "\n")?;
        assert!(!verify(&log)?.faults.is_empty(), "{name}");
        let report = replay(&log, &mut session.source()?, Inputs::kept())?;
        assert!(!report.holds(), "{name}");
        std::fs::write(&log, &text)?;

        // A missing input is missing, never a pass.
        let report = replay(&log, &mut session.source()?, Inputs::given([]))?;
        assert!(report.count(|o| matches!(o, Outcome::Missing { .. })) > 0 && !report.holds(), "{name}");
    }
    Ok(())
}

#[test]
fn gates_and_guards_fire_and_do_not() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let x = images(6, 1);
    let actions = |method: Adaptation| -> Result<Vec<Action>, Error> {
        Ok(b.session(method, 6)?.answer(&x, DIMS)?.iter().map(|a| a.receipt.facts.verdict.action).collect())
    };
    assert!(actions(calibrate(1e9))?.iter().all(|a| *a == Action::LeftAlone));
    assert!(actions(calibrate(0.0))?.contains(&Action::Accepted));
    // Steps far too large make the image less likely; small ones on views lower their entropy.
    let wild = calibrate(0.0).step(optim::adam(30.0), 3);
    assert!(actions(wild)?.contains(&Action::RolledBack));
    assert!(actions(memo_affine(4, 1e-3))?.contains(&Action::Accepted));
    let held = memo_affine(4, 10.0).guard(Guard::TrustRegion(1e-3));
    for a in b.session(held, 6)?.answer(&x, DIMS)? {
        assert!(a.receipt.facts.moved.norm <= 1.001e-3, "{}", a.receipt.facts.moved.norm);
    }
    Ok(())
}

#[test]
fn wrong_input_is_an_error_that_says_what() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let mut session = b.session(frozen(), 4)?;
    let says = |r: Result<Vec<Answered>, Error>, what: &str| {
        let text = r.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(what), "`{text}` should contain `{what}`");
    };
    says(session.answer(&[], DIMS), "empty");
    says(session.answer(&[0.0; 65], DIMS), "multiple of 64");
    says(session.answer(&[0.0; 128], [2, 8, 8]), "channel");
    assert!(b.session(tent(f64::NAN), 4).is_err());
    assert!(b.session(memo_affine(4, 1e-3).reset(Reset::Never), 4).is_err());
    assert!(Session::new(b.model.clone(), b.params.clone(), calibrate(1.0)).is_err());
    let nowhere = Adaptation::new("nowhere", Objective::Entropy).moves(Moves::Paths(vec!["bn1.wieght".into()]));
    let text = b.session(nowhere, 4).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(text.contains("bn1.weight"), "{text}");
    // The session is as it was.
    assert_eq!(session.answer(&images(2, 1), DIMS)?.len(), 2);
    Ok(())
}
