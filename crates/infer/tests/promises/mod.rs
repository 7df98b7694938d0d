//! What a session promises on every engine: frozen is frozen, a reset is exact, slots are apart, a fault stays in its
//! slot, replay computes every answer again, one submission per batch, nothing is lost to a wrong input.

#![allow(dead_code, unused_macros, reason = "each test binary uses its part")]

use std::sync::Arc;

use acclimate_infer::adapt::{Form, calibrate, frozen, memo, memo_affine, statistics, stretch, tent, vote};
use acclimate_infer::receipt::{Action, Inputs, Outcome, replay, verify};
use acclimate_infer::{Adaptation, Answered, Error, Guard, Moves, Objective, Reset, Session, SourceStatistics, Window};
use acclimate_tensor::Device;
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Sequential};
use acclimate_train::{Layer, Params, optim};

/// Every promise, given to a macro that makes tests of them.
macro_rules! promises {
    ($make:ident) => {
        $make! {
            an_answer_is_the_same_bits_in_any_slot,
            a_fault_stays_in_its_slot,
            a_reset_is_exact_and_the_source_never_changes,
            one_submission_and_nothing_new_from_the_second_batch_on,
            tent_lowers_the_entropy_of_its_batch,
            replay_holds_and_finds_what_was_altered,
            gates_and_guards_fire_and_do_not,
            wrong_input_is_an_error_that_says_what,
            awaiting_equals_waiting,
            a_restored_session_goes_on_bit_for_bit,
        }
    };
}

pub type Test = Result<(), Box<dyn std::error::Error>>;

pub const DIMS: [usize; 3] = [1, 8, 8];
pub const SIZE: usize = 64;

pub fn model() -> Arc<dyn Layer> {
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

pub fn images(n: usize, seed: u32) -> Vec<f32> {
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

pub struct Bench {
    pub model: Arc<dyn Layer>,
    pub params: Params,
    pub source: SourceStatistics,
}

impl Bench {
    pub fn new(device: &Device) -> Result<Self, Error> {
        let model = model();
        let params = model.init(device, 3)?;
        let source = SourceStatistics::record(&*model, &params, &images(40, 9), DIMS)?;
        Ok(Bench { model, params, source })
    }

    pub fn session(&self, method: Adaptation, slots: usize) -> Result<Session, Error> {
        let source = method.needs_source_statistics().then(|| self.source.clone());
        Ok(Session::with_source(self.model.clone(), self.params.clone(), method, source)?.slots(slots).seed(5))
    }
}

pub fn bits(answers: &[Answered]) -> Vec<Vec<u32>> {
    answers.iter().map(|a| a.logits.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Inputs that are unusual enough for every gate.
pub fn per_input() -> [Adaptation; 4] {
    [memo_affine(4, 5e-3), memo(2, 5e-3).form(Form::AllPairs), calibrate(0.0), vote(4)]
}

pub fn an_answer_is_the_same_bits_in_any_slot(device: &Device) -> Test {
    const SLOTS: usize = 32;
    let b = Bench::new(device)?;
    let x = images(SLOTS, 1);
    for method in per_input() {
        let mut session = b.session(method.clone(), SLOTS)?;
        let straight = session.answer(&x, DIMS)?;
        // The same input with the same sequence number, beside others.
        for slot in [0, 3, SLOTS - 1] {
            let mut other = images(SLOTS, 77);
            other[slot * SIZE..(slot + 1) * SIZE].copy_from_slice(&x[slot * SIZE..(slot + 1) * SIZE]);
            let moved = b.session(method.clone(), SLOTS)?.answer(&other, DIMS)?;
            assert_eq!(bits(&moved)[slot], bits(&straight)[slot], "{} slot {slot}", method.name());
        }
        // One input a batch, in slot 0, with the sequence number it had.
        let mut single = b.session(method.clone(), SLOTS)?;
        for (i, image) in x.chunks(SIZE).enumerate().take(5) {
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

pub fn a_fault_stays_in_its_slot(device: &Device) -> Test {
    let b = Bench::new(device)?;
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

pub fn a_reset_is_exact_and_the_source_never_changes(device: &Device) -> Test {
    let b = Bench::new(device)?;
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

pub fn one_submission_and_nothing_new_from_the_second_batch_on(device: &Device) -> Test {
    let b = Bench::new(device)?;
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

pub fn tent_lowers_the_entropy_of_its_batch(device: &Device) -> Test {
    // METHODS of Wang et al. 2021: for a small rate one step lowers the mean entropy of the same batch.
    let b = Bench::new(device)?;
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

pub fn replay_holds_and_finds_what_was_altered(device: &Device) -> Test {
    let dir = tempfile::tempdir()?;
    let b = Bench::new(device)?;
    for method in [memo_affine(4, 5e-3), memo(2, 5e-3).form(Form::AllPairs), calibrate(0.0), tent(1e-3), statistics()] {
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

pub fn gates_and_guards_fire_and_do_not(device: &Device) -> Test {
    let b = Bench::new(device)?;
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

pub fn wrong_input_is_an_error_that_says_what(device: &Device) -> Test {
    let b = Bench::new(device)?;
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
    // The session is as it was, and so is what a stream carries on.
    assert_eq!(session.answer(&images(2, 1), DIMS)?.len(), 2);
    let (mut straight, mut troubled) = (b.session(tent(1e-2), 1)?, b.session(tent(1e-2), 1)?);
    for i in 1..3 {
        let expected = straight.answer(&images(4, i), DIMS)?;
        assert_eq!(bits(&troubled.answer(&images(4, i), DIMS)?), bits(&expected));
        says(troubled.answer(&[0.0; 128], [2, 8, 8]), "channel");
        says(troubled.answer(&[0.0; 65], DIMS), "multiple of 64");
    }
    let expected = straight.answer(&images(4, 5), DIMS)?;
    let found = troubled.answer(&images(4, 5), DIMS)?;
    assert_eq!(bits(&found), bits(&expected));
    assert_eq!(found[0].receipt.since_reset, 8);
    Ok(())
}

pub fn awaiting_equals_waiting(device: &Device) -> Test {
    let b = Bench::new(device)?;
    for method in [memo_affine(4, 5e-3), tent(1e-2)] {
        let (mut waits, mut awaits) = (b.session(method.clone(), 4)?, b.session(method.clone(), 4)?);
        for i in 1..4 {
            let expected = waits.answer(&images(6, i), DIMS)?;
            let found = pollster::block_on(awaits.answer_async(&images(6, i), DIMS))?;
            assert_eq!(bits(&found), bits(&expected), "{}", method.name());
            assert_eq!(found[5].receipt.index, expected[5].receipt.index);
        }
        // Dropped before it is polled: nothing happened.
        drop(awaits.answer_async(&images(6, 9), DIMS));
        let expected = waits.answer(&images(6, 4), DIMS)?;
        assert_eq!(bits(&awaits.answer(&images(6, 4), DIMS)?), bits(&expected), "{}", method.name());
    }
    Ok(())
}

pub fn a_restored_session_goes_on_bit_for_bit(device: &Device) -> Test {
    let b = Bench::new(device)?;
    let folder = tempfile::tempdir()?;
    for method in [tent(1e-2), tent(1e-2).step(optim::sgd(1e-2).momentum(0.9), 2), memo_affine(4, 5e-3)] {
        let mut straight = b.session(method.clone(), 4)?;
        straight.answer(&images(6, 1), DIMS)?;
        straight.answer(&images(6, 2), DIMS)?;
        let snapshot = straight.snapshot()?;
        snapshot.save(folder.path())?;
        let loaded = acclimate_infer::Snapshot::load(folder.path())?;
        assert_eq!(loaded, snapshot);
        assert_eq!(loaded.digest(), snapshot.digest());
        let mut resumed = b.session(method.clone(), 2)?.seed(99);
        resumed.restore(&loaded)?;
        for i in 3..6 {
            let (a, b) = (straight.answer(&images(6, i), DIMS)?, resumed.answer(&images(6, i), DIMS)?);
            assert_eq!(bits(&a), bits(&b), "{}", method.name());
            assert_eq!(a[3].receipt.index, b[3].receipt.index);
            assert_eq!(a[3].receipt.since_reset, b[3].receipt.since_reset);
        }
        // Of another method or model: refused, and nothing is changed.
        let digest = resumed.snapshot()?.digest();
        let mut other = b.session(statistics(), 4)?;
        assert!(other.restore(&loaded).is_err_and(|e| e.to_string().contains("configuration")));
        let foreign = Session::new(b.model.clone(), b.model.init(device, 4)?, method.clone())?.snapshot()?;
        assert!(resumed.restore(&foreign).is_err_and(|e| e.to_string().contains("base hash")));
        assert_eq!(resumed.snapshot()?.digest(), digest);
    }
    Ok(())
}
