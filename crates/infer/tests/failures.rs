//! What can go wrong while a model adapts, why, and what guards against it: each failure is provoked and its guard seen to
//! fire, and the same guard is seen not to fire on ordinary input.

#![allow(clippy::unwrap_used, clippy::panic)]

mod trained;

use acclimate_infer::adapt::{calibrate, frozen, memo_affine, statistics, tent};
use acclimate_infer::drift::{Canary, Detector, Monitor, Signal};
use acclimate_infer::feedback::{Feedback, Judge};
use acclimate_infer::receipt::{Action, Event, Inputs, Reason, replay};
use acclimate_infer::{Adaptation, Answered, Error, Guard, Reset, Session};
use acclimate_train::{Statistics, optim};
use trained::{DIMS, Noise, SIZE, Stream, Trained, entropy, right};

type Found = Result<bool, Box<dyn std::error::Error>>;

/// One failure. `fires` runs ordinary input (`false`) or what provokes the failure (`true`), and says whether the guard
/// fired.
struct Row {
    failure: &'static str,
    cause: &'static str,
    guard: &'static str,
    fires: fn(&Trained, bool) -> Found,
}

const ROWS: &[Row] = &[
    Row {
        failure: "one class predicted for all",
        cause: "entropy has trivial minima, large rate, labels in order",
        guard: "collapse detector of the monitor, reset",
        fires: |t, provoked| {
            let (rate, stream) =
                if provoked { (0.1, Stream::sorted(300, 41, 150)) } else { (1e-4, Stream::ordinary(300, 41)) };
            let mut session = t.session(entropy(rate, 1))?.monitor(Monitor::careful());
            Ok(events(&mut session, &stream, 10)?.iter().any(|e| matches!(e, Event::Reset { .. })))
        },
    },
    Row {
        failure: "nonsense for a batch of one on batch normalization",
        cause: "statistics of one sample",
        guard: "statistics blended with the source's (16 inputs' worth)",
        // The guard fires where it brings back what batch statistics of one input lose.
        fires: |t, provoked| {
            let blended =
                Adaptation::new("blended", acclimate_infer::Objective::None).statistics(Statistics::Prior(16.0));
            let stream = Stream::ordinary(300, 42);
            let batch = if provoked { 1 } else { 100 };
            let alone = right(&mut t.session(statistics())?, &stream, batch)?;
            let guarded = right(&mut t.session(blended)?.slots(20), &stream, 20)?;
            let source = right(&mut t.session(frozen())?.slots(20), &stream, 20)?;
            assert!(guarded + 15 >= source, "blended statistics: {guarded}, frozen: {source} of 300");
            Ok(guarded > alone + 30)
        },
    },
    Row {
        failure: "NaN in loss or parameters",
        cause: "an input that is not finite",
        guard: "finite check, the slot answers frozen",
        fires: |t, provoked| {
            let mut x = Stream::ordinary(4, 43).images;
            if provoked {
                x[SIZE] = f32::NAN;
            }
            let mut fired = false;
            for method in [memo_affine(4, 5e-3), calibrate(0.0)] {
                let answers = t.session(method)?.slots(4).answer(&x, DIMS)?;
                let hit = |a: &Answered| matches!(a.receipt.facts.verdict.reason, Reason::NotFinite { .. });
                assert!(answers.iter().enumerate().all(|(i, a)| hit(a) == (provoked && i == 1)));
                fired |= answers.iter().any(hit);
            }
            Ok(fired)
        },
    },
    Row {
        failure: "NaN in what a batch carries on",
        cause: "one bad input in a batch",
        guard: "finite check, the state stays as it was",
        fires: |t, provoked| {
            let mut session = t.session(tent(1e-2))?;
            session.answer(&Stream::ordinary(8, 44).images, DIMS)?;
            let before = session.snapshot()?.digest();
            let mut x = Stream::ordinary(8, 45).images;
            if provoked {
                x[3 * SIZE] = f32::INFINITY;
            }
            session.answer(&x, DIMS)?;
            let kept = session.snapshot()?.digest() == before;
            // And the next batch is answered with numbers.
            let next = session.answer(&Stream::ordinary(8, 46).images, DIMS)?;
            assert!(next.iter().all(|a| a.logits.iter().all(|l| l.is_finite())));
            Ok(kept)
        },
    },
    Row {
        failure: "worse than the source model",
        cause: "a method that does not fit the stream",
        guard: "judge of late labels, held back",
        fires: |t, provoked| {
            let (method, stream) = if provoked {
                (entropy(0.1, 2), Stream::sorted(600, 47, 60))
            } else {
                (entropy(1e-4, 1), Stream::ordinary(600, 47))
            };
            let mut session = t.session(method)?.judge(Judge::new().on_credit());
            let mut held = false;
            for (images, labels) in stream.images.chunks(10 * SIZE).zip(stream.labels.chunks(10)) {
                for (a, label) in session.answer(images, DIMS)?.iter().zip(labels) {
                    held |= a.receipt.events.iter().any(|e| matches!(e, Event::HeldBack { .. }));
                    session.feedback(a.receipt.index, Feedback::Label(*label))?;
                }
            }
            Ok(held)
        },
    },
    Row {
        failure: "slow decay over a long stream",
        cause: "parameters drift away",
        guard: "canary set that must not get worse, reset",
        fires: |t, provoked| {
            let set = Stream::ordinary(60, 48);
            let canary = Canary::new(&set.images, DIMS, &set.labels, 3, 0.05)?;
            let mut session = t.session(entropy(if provoked { 0.05 } else { 1e-5 }, 1))?.canary(canary)?;
            Ok(events(&mut session, &Stream::sorted(600, 49, 100), 10)?
                .iter()
                .any(|e| e.to_string().contains("canary")))
        },
    },
    Row {
        failure: "slow decay over a long stream",
        cause: "parameters drift away",
        guard: "reset after every so many batches",
        fires: |t, provoked| {
            let every = if provoked { 4 } else { 1000 };
            let mut session = t.session(entropy(0.02, 1).reset(Reset::Every(every)))?;
            let mut starts = 0;
            for images in Stream::sorted(400, 50, 100).images.chunks(20 * SIZE) {
                starts += usize::from(session.answer(images, DIMS)?[0].receipt.since_reset == 0);
            }
            assert_eq!(starts, if provoked { 5 } else { 1 });
            Ok(starts > 1)
        },
    },
    Row {
        failure: "reset incomplete",
        cause: "state that a reset forgets: moments, step counts",
        guard: "everything carried is one value; its hash is a fresh session's",
        // It fires where a reset changes what there was; and what is there then is what a fresh session has.
        fires: |t, provoked| {
            let method = tent(1e-2).step(optim::adam(1e-2), 2);
            let x = Stream::ordinary(20, 51).images;
            let mut fresh = t.session(method.clone())?;
            fresh.answer(&x, DIMS)?;
            let first = fresh.snapshot()?.digest();
            let mut session = t.session(method)?;
            if provoked {
                for i in 0..5 {
                    session.answer(&Stream::dark(20, 52 + i).images, DIMS)?;
                }
            }
            let before = session.snapshot()?.digest();
            session.reset();
            let after = session.snapshot()?.digest();
            session.answer(&x, DIMS)?;
            assert_eq!(
                session.snapshot()?.digest(),
                first,
                "the first batch after a reset makes the state of a first batch"
            );
            Ok(before != after)
        },
    },
    Row {
        failure: "over-fit to one input",
        cause: "steps times rate too large",
        guard: "the loss must fall, or the change is rolled back",
        fires: |t, provoked| {
            let method = if provoked { calibrate(0.0).step(optim::adam(30.0), 3) } else { calibrate(0.0) };
            let answers = t.session(method)?.slots(6).answer(&Stream::dark(6, 53).images, DIMS)?;
            let undone = |a: &Answered| matches!(a.receipt.facts.verdict.reason, Reason::LossRose { .. });
            Ok(answers.iter().filter(|a| undone(a)).count() > 2)
        },
    },
    Row {
        failure: "over-fit to one input",
        cause: "steps times rate too large",
        guard: "trust region around the source",
        fires: |t, provoked| {
            let method = memo_affine(4, if provoked { 50.0 } else { 1e-4 }).guard(Guard::TrustRegion(0.05));
            let answers = t.session(method)?.slots(6).answer(&Stream::dark(6, 54).images, DIMS)?;
            let norms: Vec<f32> = answers.iter().map(|a| a.receipt.facts.moved.norm).collect();
            assert!(norms.iter().all(|n| *n <= 0.0501 && *n > 0.0), "{norms:?}");
            Ok(norms.iter().all(|n| *n > 0.0499))
        },
    },
    Row {
        failure: "harm where nothing is wrong",
        cause: "adapting to ordinary inputs",
        guard: "gate: an input that looks like the source's is left alone",
        // Here the provocation is the ordinary input; a dark one must be acted on.
        fires: |t, provoked| {
            let stream = if provoked { Stream::ordinary(40, 55) } else { Stream::dark(40, 55) };
            let answers = t.session(calibrate(t.source.quantile(0.95)))?.slots(20).answer(&stream.images, DIMS)?;
            let alone = answers.iter().filter(|a| a.receipt.facts.verdict.action == Action::LeftAlone).count();
            Ok(alone > 30)
        },
    },
    Row {
        failure: "an answer made worse",
        cause: "a change that suits the objective and not the input",
        guard: "the answer must be surer, or the change is rolled back",
        // Ordinary images have nothing to correct; dark ones have.
        fires: |t, provoked| {
            let stream = if provoked { Stream::ordinary(40, 57) } else { Stream::dark(40, 57) };
            let answers = t.session(calibrate(0.0))?.slots(20).answer(&stream.images, DIMS)?;
            let undone = |a: &Answered| matches!(a.receipt.facts.verdict.reason, Reason::LessSure { .. });
            let n = answers.iter().filter(|a| undone(a)).count();
            Ok(n > 10)
        },
    },
    Row {
        failure: "numbers that nobody can reproduce",
        cause: "weights, configuration or order other than recorded",
        guard: "replay from the receipts",
        fires: |t, provoked| {
            let folder = tempfile::tempdir()?;
            let log = folder.path().join("log.jsonl");
            let mut session = t.session(tent(1e-2))?.receipts_to(&log)?.keep_inputs()?;
            for images in Stream::dark(40, 56).images.chunks(20 * SIZE) {
                session.answer(images, DIMS)?;
            }
            session.finish()?;
            let mut again = session.source()?;
            if provoked {
                let mut named = t.params.to_named()?;
                named[0].2[0] += 1e-3;
                let changed = t
                    .params
                    .with_values(named.into_iter().chain(t.params.buffers_to_named()?).collect(), "a changed model")?;
                again = Session::new(t.model.clone(), changed, tent(1e-2))?;
            }
            Ok(!replay(&log, &mut again, Inputs::kept())?.holds())
        },
    },
    Row {
        failure: "the future leaks into an answer",
        cause: "an answer that is computed after its input was learned from",
        guard: "answers are given before the step: score first",
        // What comes later never changes what was said before; the guard fires where another method would have.
        fires: |t, provoked| {
            let x = Stream::dark(20, 57).images;
            let mut changed = x.clone();
            changed[10 * SIZE..].copy_from_slice(&Stream::ordinary(10, 58).images);
            let said = |x: &[f32], batch: usize| -> Result<Vec<u32>, Error> {
                let mut session = t.session(entropy(0.05, 1))?;
                let mut bits = Vec::new();
                for images in x.chunks(batch * SIZE) {
                    bits.extend(
                        session.answer(images, DIMS)?.iter().flat_map(|a| a.logits.iter().map(|l| l.to_bits())),
                    );
                }
                bits.truncate(40);
                Ok(bits)
            };
            // One batch with what is changed would share its step; two batches do not.
            if provoked {
                assert_eq!(said(&x, 10)?, said(&changed, 10)?);
            }
            let after = entropy(0.05, 1).answer(acclimate_infer::Answer::AfterStep);
            let adapted = |x: &[f32]| -> Result<Vec<f32>, Error> {
                Ok(t.session(after.clone())?.answer(x, DIMS)?[0].logits.clone())
            };
            Ok(adapted(&x)? != adapted(if provoked { &changed } else { &x })?)
        },
    },
    Row {
        failure: "an attack, or a stream of noise",
        cause: "self-training on what is no image",
        guard: "drift detector on the entropy, reset",
        fires: |t, provoked| {
            let lens = move |i: usize, image: &mut [f32], noise: &mut Noise| {
                if provoked && i >= 200 {
                    image.iter_mut().for_each(|x| *x = noise.next());
                }
            };
            let stream = Stream::new(500, 59, |_, noise| noise.below(4), lens);
            let monitor = Monitor::new().watch(Signal::Entropy, Detector::page_hinkley(15.0));
            Ok(!events(&mut t.session(entropy(1e-5, 1))?.monitor(monitor), &stream, 10)?.is_empty())
        },
    },
];

fn events(session: &mut Session, stream: &Stream, batch: usize) -> Result<Vec<Event>, Error> {
    let mut all = Vec::new();
    for images in stream.images.chunks(batch * SIZE) {
        all.extend(session.answer(images, DIMS)?.iter().flat_map(|a| a.receipt.events.clone()));
    }
    Ok(all)
}

#[test]
fn every_guard_fires_where_it_should_and_only_there() -> Result<(), Box<dyn std::error::Error>> {
    let t = Trained::new()?;
    let mut wrong = Vec::new();
    for row in ROWS {
        let (provoked, ordinary) = ((row.fires)(&t, true)?, (row.fires)(&t, false)?);
        println!("{} | {} | {} | fires {provoked}, on ordinary input {ordinary}", row.failure, row.cause, row.guard);
        if !provoked || ordinary {
            wrong.push(row.guard);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}
