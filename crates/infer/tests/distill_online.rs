//! Distillation at inference: a student nears its teacher on the stream that it answers, and nothing that comes along it
//! ruins it.
#![allow(clippy::unwrap_used, clippy::panic)]

#[macro_use]
mod promises;

use std::sync::Arc;

use acclimate_infer::adapt::{distill_online, tent};
use acclimate_infer::drift::Canary;
use acclimate_infer::receipt::{Action, Inputs, replay};
use acclimate_infer::{Adaptation, Guard, Moves, Objective, Session, Window};
use acclimate_tensor::Device;
use acclimate_train::nn::Taught;
use acclimate_train::{Layer, Params, Statistics, optim};
use promises::{DIMS, SIZE, Test, bits, images, model};

const BATCH: usize = 20;
const TRUST: f32 = 2.0;

/// A student and a teacher of one shape and other weights.
fn pair(device: &Device) -> Result<(Arc<Taught>, Params), acclimate_train::Error> {
    let teacher = model().init(device, 11)?;
    let taught = Taught::new(model(), model(), &teacher);
    let params = taught.params(&model().init(device, 3)?, &teacher)?;
    Ok((Arc::new(taught), params))
}

fn method() -> Adaptation {
    distill_online(0.2, 2.0, TRUST).moves(Moves::All)
}

fn session(device: &Device, method: Adaptation) -> Result<Session, Box<dyn std::error::Error>> {
    let (taught, params) = pair(device)?;
    Ok(Session::new(taught, params, method)?.seed(5))
}

fn norm(session: &Session) -> f64 {
    let delta = session.carried().unwrap().delta().to_vec::<f32>().unwrap();
    delta.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt()
}

/// Batch after batch of new images, the distance to the teacher before the step falls; so does it on images that were no
/// part of the stream. What moved is the student's: nothing of the overlay is the teacher's.
#[test]
fn a_student_nears_its_teacher_on_the_stream() -> Test {
    let device = Device::cpu();
    let mut session = session(&device, method())?;
    assert!(session.overlay().entries().iter().all(|e| !e.path.starts_with("teacher")));
    let hash = session.base_hash_now()?;
    let (mut distances, mut accepted) = (Vec::new(), 0);
    for i in 0..40 {
        let answers = session.answer(&images(BATCH, 100 + i), DIMS)?;
        let facts = &answers[0].receipt.facts;
        let loss = facts.loss.unwrap();
        if facts.verdict.action == Action::Accepted {
            accepted += 1;
            assert!(loss.after < loss.before, "{loss:?}");
        }
        distances.push(f64::from(loss.before));
        assert!(norm(&session) <= f64::from(TRUST) * 1.0001);
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (early, late) = (mean(&distances[..5]), mean(&distances[35..]));
    assert!(accepted >= 30, "{accepted}");
    assert!(late < 0.5 * early, "{early} to {late}");
    assert_eq!(session.base_hash_now()?, hash);
    Ok(())
}

/// A batch with pixels that are no numbers, or absurd ones: the step is undone, the state keeps its bits, and the stream goes
/// on as if the batch had not come.
#[test]
fn a_hostile_batch_changes_nothing() -> Test {
    let device = Device::cpu();
    for poison in [f32::NAN, f32::INFINITY, 1e30] {
        let mut one = session(&device, method())?;
        let mut other = session(&device, method())?;
        for i in 0..3 {
            one.answer(&images(BATCH, i), DIMS)?;
            other.answer(&images(BATCH, i), DIMS)?;
        }
        let mut bad = images(BATCH, 50);
        bad[4 * SIZE..5 * SIZE].fill(poison);
        let before = one.carried().unwrap().delta().to_vec::<f32>()?;
        let answers = one.answer(&bad, DIMS)?;
        if answers[0].receipt.facts.verdict.action == Action::RolledBack {
            assert_eq!(one.carried().unwrap().delta().to_vec::<f32>()?, before, "{poison}");
            // The images that are in order are answered, by the frozen student.
            assert!(answers.iter().enumerate().all(|(i, a)| i == 4 || a.logits.iter().all(|z| z.is_finite())));
        } else {
            assert!(poison.is_finite(), "a step from {poison} was accepted");
        }
        assert!(norm(&one) <= f64::from(TRUST) * 1.0001);
        let next = images(BATCH, 60);
        let (a, b) = (one.answer(&next, DIMS)?, other.answer(&next, DIMS)?);
        assert!(a.iter().flat_map(|a| &a.logits).all(|z| z.is_finite()));
        if !poison.is_finite() {
            assert_eq!(bits(&a), bits(&b), "{poison}");
        }
    }
    Ok(())
}

/// A rate that is far too large: without guards it ruins the student, with them every step is undone or within reach, and a
/// canary that gets worse resets it.
#[test]
fn guards_and_canary_hold_a_rate_that_is_far_too_large() -> Test {
    let device = Device::cpu();
    let wild = |guarded: bool| {
        let method = method().step(optim::sgd(1e4), 1);
        if guarded { method } else { method.without_guards() }
    };
    let distance = |guarded| -> Result<f64, Box<dyn std::error::Error>> {
        let mut session = session(&device, wild(guarded))?;
        for i in 0..8 {
            session.answer(&images(BATCH, i), DIMS)?;
        }
        let delta = session.carried().unwrap().delta().to_vec::<f32>()?;
        Ok(delta.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt())
    };
    assert!(distance(false)? > 100.0);
    assert!(distance(true)? <= f64::from(TRUST) * 1.0001);
    // The canary's labels are what the frozen student says: any change of mind is a loss.
    let known = images(30, 9);
    let mut frozen = session(&device, acclimate_infer::adapt::frozen())?;
    let labels: Vec<u32> = frozen.answer(&known, DIMS)?.iter().map(|a| a.label()).collect();
    let canary = Canary::new(&known, DIMS, &labels, 1, 0.1)?;
    let mut watched = session(&device, wild(false))?.canary(canary)?;
    let mut events = 0;
    for i in 0..6 {
        events += watched.answer(&images(BATCH, i), DIMS)?.iter().map(|a| a.receipt.events.len()).sum::<usize>();
    }
    assert!(events > 0, "no alarm");
    Ok(())
}

/// Per input too: each image has a student of its own, and with one view the teacher's answer is of the image alone.
#[test]
fn one_input_at_a_time() -> Test {
    let device = Device::cpu();
    let single = Adaptation::new("distill one", Objective::Distill { temperature: 2.0 })
        .moves(Moves::NormAffine)
        .step(optim::sgd(0.05), 3)
        .window(Window::ThisInput)
        .guard(Guard::LossMustFall);
    let mut session = session(&device, single)?;
    let answers = session.answer(&images(6, 4), DIMS)?;
    let nearer = |a: &&acclimate_infer::Answered| {
        let loss = a.receipt.facts.loss.unwrap();
        a.receipt.facts.verdict.action == Action::Accepted && loss.after < loss.before
    };
    assert!(answers.iter().filter(nearer).count() >= 5);
    Ok(())
}

/// Receipts hold the teacher: another one is another base, and replay computes every answer again.
#[test]
fn receipts_replay_and_know_their_teacher() -> Test {
    let device = Device::cpu();
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log.jsonl");
    let mut session = session(&device, method())?.receipts_to(&log)?.keep_inputs()?;
    for i in 0..3 {
        session.answer(&images(BATCH, i), DIMS)?;
    }
    session.finish()?;
    replay(&log, &mut session.source()?, Inputs::kept())?.require_equal()?;
    let teacher = model().init(&device, 12)?;
    let taught = Taught::new(model(), model(), &teacher);
    let params = taught.params(&model().init(&device, 3)?, &teacher)?;
    let mut other = Session::new(Arc::new(taught), params, method())?.seed(5);
    assert!(replay(&log, &mut other, Inputs::kept()).and_then(|r| r.require_equal()).is_err());
    Ok(())
}

#[test]
fn refuses_a_model_without_a_teacher_and_a_temperature_of_nothing() -> Test {
    let device = Device::cpu();
    let mut alone = Session::new(model(), model().init(&device, 3)?, method())?;
    let error = alone.answer(&images(BATCH, 0), DIMS).unwrap_err().to_string();
    assert!(error.contains("without a teacher") && error.contains("Taught"), "{error}");
    assert!(session(&device, distill_online(0.1, 0.0, 1.0)).is_err());
    // A method that knows nothing of teachers runs over the pair as over the student.
    let (taught, params) = pair(&device)?;
    let student = taught.student(&params)?;
    let mut both = Session::new(taught, params, tent(1e-2).statistics(Statistics::Batch))?.seed(5);
    let mut single = Session::new(model(), student, tent(1e-2))?.seed(5);
    let x = images(BATCH, 1);
    for _ in 0..2 {
        assert_eq!(bits(&both.answer(&x, DIMS)?), bits(&single.answer(&x, DIMS)?));
    }
    Ok(())
}
