//! A session under a deadline, on a clock that a test moves: which rung it takes, how late it is at most, what its receipts
//! say, and that replay follows them and not the clock.

#![allow(clippy::unwrap_used, clippy::panic)]

mod promises;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acclimate_infer::adapt::{
    alpha_bn, calibrate, come, cotta, deyo, ema_bn, eta, forward_only, frozen, memo, memo_affine, memo_low_rank, note,
    prior_corrected, pseudo_label, rdumb, roid, roid_views, rotta, sar, shot_im, t3a, tent, vote,
};
use acclimate_infer::budget::{Clock, SimulatedClock, Work};
use acclimate_infer::receipt::{Inputs, replay};
use acclimate_infer::{Adaptation, Session};
use acclimate_tensor::Device;
use promises::{Bench, DIMS, SIZE, Test, bits, images};

/// A forward pass of one view takes 1 ms, and a step twice as long as the pass over its views.
fn pass(work: &Work) -> f64 {
    1e-3 * work.views as f64
}

fn step(work: &Work) -> f64 {
    2.0 * pass(work)
}

fn cost(work: &Work) -> f64 {
    pass(work) + step(work) * work.steps as f64
}

/// A clock whose work costs `load` times as much as above.
fn clock(load: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Arc<SimulatedClock> {
    Arc::new(SimulatedClock::new(move |work, now| Duration::from_secs_f64(cost(work) * load(now.as_secs_f64()))))
}

fn session(
    b: &Bench,
    method: Adaptation,
    deadline: f64,
    clock: Arc<dyn Clock>,
) -> Result<Session, acclimate_infer::Error> {
    let mut session = b.session(method, 2)?.deadline(Duration::from_secs_f64(deadline)).clock(clock);
    session.warm(DIMS, 2)?;
    Ok(session)
}

#[test]
fn the_first_rung_that_fits_is_taken_in_the_stated_order() -> Test {
    let b = Bench::new(&Device::cpu())?;
    // memo over 8 views: 24 ms; 4 views: 12; 2 views: 6; the pass with blended statistics: 1; frozen: 1.
    let memo = [(0.1, 0), (0.025, 0), (0.023, 1), (0.0125, 1), (0.0115, 2), (0.0061, 2), (0.005, 3), (0.0005, 4)];
    // calibrate with 6 steps: 13 ms; 3: 7; 1: 3; closed form: 1.
    let sensor = [(0.1, 0), (0.0135, 0), (0.0125, 1), (0.0071, 1), (0.0065, 2), (0.0029, 3), (0.0005, 4)];
    // One step over the batch: 3 ms; none: 1.
    let stream = [(0.1, 0), (0.0031, 0), (0.0029, 1), (0.0011, 1), (0.0005, 2)];
    let check = |method: Adaptation, table: &[(f64, usize)]| -> Test {
        for &(deadline, level) in table {
            let mut session = session(&b, method.clone(), deadline, clock(|_| 1.0))?;
            let names: Vec<String> = session.rungs().map(str::to_owned).collect();
            let plans = b.params.device().stats().plans_built;
            for i in 0..3 {
                let answers = session.answer(&images(2, i), DIMS)?;
                let rung = &answers[1].receipt.rung;
                assert_eq!((rung.level as usize, &rung.name), (level, &names[level]), "{} {deadline}", method.name());
                assert_eq!(rung.short.is_some(), level > 0);
                let receipt = &answers[0].receipt;
                assert_eq!(receipt.budget_ms.unwrap() < receipt.ms, deadline < 0.001);
            }
            assert_eq!(b.params.device().stats().plans_built, plans, "every rung was planned by `warm`");
            let latency = session.latency();
            assert_eq!((latency.calls, latency.misses), (3, if deadline < 0.001 { 3 } else { 0 }));
            assert_eq!(latency.rungs[level].1, 6);
        }
        Ok(())
    };
    check(memo_affine(8, 5e-3), &memo)?;
    check(calibrate(0.0), &sensor)?;
    check(tent(1e-2), &stream)
}

#[test]
fn without_time_for_a_step_the_answer_is_the_frozen_models() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let mut expected = b.session(frozen(), 2)?;
    for method in [memo_affine(8, 5e-3), calibrate(0.0), tent(1e-2)] {
        let mut session = session(&b, method.clone(), 0.0005, clock(|_| 1.0))?;
        let (answers, source) = (session.answer(&images(2, 1), DIMS)?, expected.answer(&images(2, 1), DIMS)?);
        // A batch method's frozen rung sums over another number of rows.
        for (a, b) in answers.iter().zip(&source) {
            for (a, b) in a.logits.iter().zip(&b.logits) {
                assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{}", method.name());
            }
            assert_eq!(a.receipt.rung.name, "frozen");
            assert_eq!(a.receipt.facts.steps, 0);
            let text = acclimate_infer::receipt::explain(&a.receipt);
            assert!(text.contains("was expected to take") && text.contains("over its budget"), "{text}");
        }
    }
    Ok(())
}

#[test]
fn never_late_by_more_than_one_step_under_a_load_that_comes_and_goes() -> Test {
    let b = Bench::new(&Device::cpu())?;
    for (method, deadline) in [(calibrate(0.0), 0.022), (memo_affine(8, 5e-3), 0.042), (tent(1e-2), 0.0052)] {
        let draws = Arc::new(AtomicU64::new(0));
        let load = move |now: f64| {
            // Slow waves between 1 and 2.4 times, and ±10 % from run to run.
            let draw = draws.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            (1.7 + 0.7 * (now * 1.5).sin()) * (0.9 + 0.2 * draw as f64 / 16_777_216.0)
        };
        let clock = clock(load);
        let mut session = session(&b, method.clone(), deadline, clock.clone())?;
        let (mut late, mut full, mut worst) = (0, 0, f64::MIN);
        let calls = 300;
        for i in 0..calls {
            let before = clock.now();
            let answers = session.answer(&images(2, i), DIMS)?;
            let took = (clock.now() - before).as_secs_f64();
            let facts = &answers[0].receipt.facts;
            let work = Work { level: 0, steps: facts.steps as usize, views: facts.views as usize, inputs: 2 };
            // What one step of this answer took, under the load there was.
            let one_step = step(&work) * took / cost(&work);
            assert!(took <= deadline + one_step, "{}: {took} at call {i}", method.name());
            late += u32::from(took > deadline);
            full += u32::from(answers[0].receipt.rung.level == 0);
            worst = worst.max(took / deadline);
            clock.advance(Duration::from_millis(20));
        }
        let latency = session.latency();
        assert_eq!(latency.misses, u64::from(late));
        assert!(late <= 15, "{}: {late} of {calls} late, the worst by {worst}", method.name());
        assert!(full > 30 && full < calls - 30, "{}: {full} of {calls} in full", method.name());
        assert!(latency.all.p50_ms <= latency.all.p95_ms && latency.all.p95_ms <= latency.all.p99_ms);
        assert!(latency.all.p95_ms <= deadline * 1e3, "{latency:?}");
        assert_eq!(latency.adapted.calls + latency.unadapted.calls, calls as usize);
    }
    Ok(())
}

#[test]
fn a_sudden_load_is_felt_after_one_answer_and_forgotten_in_time() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let clock = clock(|now| if (1.0..2.0).contains(&now) { 3.0 } else { 1.0 });
    let mut session = session(&b, calibrate(0.0), 0.015, clock.clone())?;
    let mut late = Vec::new();
    let mut levels = Vec::new();
    for i in 0..150 {
        let (at, misses) = (clock.now().as_secs_f64(), session.latency().misses);
        let answers = session.answer(&images(2, i), DIMS)?;
        levels.push((at, answers[0].receipt.rung.level));
        if session.latency().misses > misses {
            late.push(at);
        }
        clock.advance(Duration::from_millis(20));
    }
    // The jump cannot be foreseen: the answer under way is late, and no other.
    assert_eq!(late.len(), 1, "{late:?}");
    assert!(levels.iter().filter(|(at, _)| *at < 0.98).all(|(_, level)| *level == 0));
    assert!(levels.iter().filter(|(at, _)| (1.1..1.98).contains(at)).all(|(_, level)| *level > 0));
    assert_eq!(levels.last().unwrap().1, 0, "{levels:?}");
    Ok(())
}

#[test]
fn a_frame_that_waited_has_less_time() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let mut session = session(&b, memo_affine(8, 5e-3), 0.1, clock(|_| 1.0))?;
    let mut level = |left: Option<f64>| -> Result<u32, acclimate_infer::Error> {
        let left = left.map(Duration::from_secs_f64);
        Ok(session.answer_within(&images(2, 1), DIMS, left)?[0].receipt.rung.level)
    };
    assert_eq!((level(Some(0.1))?, level(Some(0.013))?, level(Some(0.0))?, level(None)?), (0, 1, 4, 0));
    Ok(())
}

#[test]
fn replay_follows_the_rung_and_never_the_clock() -> Test {
    let folder = tempfile::tempdir()?;
    let b = Bench::new(&Device::cpu())?;
    for (method, deadline) in [(memo_affine(8, 5e-3), 0.1), (calibrate(0.0), 0.06), (tent(1e-2), 0.0045)] {
        let log = folder.path().join(format!("{}.jsonl", method.name()));
        let clock = clock(|now| 1.0 + (now * 40.0).sin().abs());
        let mut session = session(&b, method.clone(), deadline, clock.clone())?.receipts_to(&log)?.keep_inputs()?;
        session.warm(DIMS, 6)?;
        let mut levels = std::collections::BTreeSet::new();
        for i in 0..12 {
            // Six inputs are three submissions of two slots, each on the rung that its share of the time allows; a batch is
            // one. A third of the calls are in a hurry.
            let left = Duration::from_secs_f64(if i % 3 == 2 { deadline / 4.0 } else { deadline * 2.0 });
            let answers = session.answer_within(&images(6, i), DIMS, Some(left))?;
            levels.extend(answers.iter().map(|a| a.receipt.rung.level));
            clock.advance(Duration::from_millis(7));
        }
        assert!(levels.len() > 1, "{}: {levels:?}", method.name());
        session.finish()?;
        // The replaying session has the machine's clock and no deadline.
        let report = replay(&log, &mut session.source()?, Inputs::kept())?;
        assert!(report.holds(), "{}: {report}", method.name());
        assert_eq!(report.outcomes.len(), 72);
    }
    Ok(())
}

#[test]
fn the_machines_clock_reports_a_distribution() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let mut session = b.session(memo_affine(4, 5e-3), 2)?.deadline(Duration::from_secs(5));
    session.warm(DIMS, 2)?;
    for i in 0..20 {
        session.answer(&images(2, i), DIMS)?;
    }
    let l = session.latency();
    assert_eq!((l.calls, l.misses, l.all.calls), (20, 0, 20), "{l:?}");
    assert!(0.0 < l.all.p50_ms && l.all.p50_ms <= l.all.p95_ms && l.all.p99_ms <= l.all.max_ms, "{l:?}");
    // Answers are those of a session without a deadline.
    let mut free = b.session(memo_affine(4, 5e-3), 2)?;
    let x = images(2, 3);
    let (mut with, without) =
        (b.session(memo_affine(4, 5e-3), 2)?.deadline(Duration::from_secs(5)), free.answer(&x, DIMS)?);
    with.warm(DIMS, 2)?;
    assert_eq!(bits(&with.answer(&x[..2 * SIZE], DIMS)?), bits(&without));
    Ok(())
}

#[test]
fn every_preset_goes_up_and_down_its_whole_ladder() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let folder = tempfile::tempdir()?;
    let mut carrying = 0;
    let methods = [
        tent(1e-2),
        pseudo_label(1e-2, 0.3),
        eta(1e-2, 0.9),
        sar(1e-2),
        deyo(1e-2),
        come(1e-2),
        shot_im(1e-2),
        roid(1e-2),
        roid_views(1e-2),
        rdumb(1e-2, 0.9),
        alpha_bn(0.1),
        ema_bn(0.1),
        t3a(5),
        prior_corrected(),
        forward_only(0.1),
        cotta(1e-2, 0.5),
        rotta(1e-2),
        note(1e-2),
        memo(4, 1e-3),
        memo_low_rank(4, 2, 1e-3),
        vote(4),
    ];
    for method in methods {
        let name = method.name().to_owned();
        let log = folder.path().join(format!("{name}.jsonl"));
        let mut session = session(&b, method.clone(), 1.0, clock(|_| 1.0))?.receipts_to(&log)?.keep_inputs()?;
        let frozen = session.rungs().count() - 2;
        let mut levels = std::collections::BTreeSet::new();
        // Down with less and less time, and up again.
        for (i, left) in [1.0, 0.02, 0.009, 0.004, 0.0015, 0.0, 0.0015, 1.0].into_iter().enumerate() {
            let left = Some(Duration::from_secs_f64(left));
            let answers =
                session.answer_within(&images(4, i as u32), DIMS, left).map_err(|e| format!("{name}: {e}"))?;
            levels.insert(answers[0].receipt.rung.level as usize);
        }
        assert!(levels.contains(&0) && levels.contains(&frozen), "{name}: {levels:?} of {frozen}");
        session.finish()?;
        let report = replay(&log, &mut session.source()?, Inputs::kept())?;
        assert!(report.holds(), "{name}: {report}");
        // What is carried survives a file.
        let snapshot = session.snapshot()?;
        carrying += usize::from(session.carried().is_some());
        snapshot.save(folder.path().join(&name))?;
        let mut resumed = b.session(method, 2)?;
        resumed
            .restore(&acclimate_infer::Snapshot::load(folder.path().join(&name))?)
            .map_err(|e| format!("{name}: {e}"))?;
        assert_eq!(
            bits(&resumed.answer(&images(4, 50), DIMS)?),
            bits(&session.answer_within(&images(4, 50), DIMS, None)?),
            "{name}"
        );
    }
    assert!(carrying > 10, "{carrying}");
    Ok(())
}
