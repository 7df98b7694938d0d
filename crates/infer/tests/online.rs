//! Online learning: the steps of river and of the papers, the order of events, delayed labels, replay, consolidation,
//! responses to change, and that nothing is lost.

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use std::sync::Arc;

use acclimate_infer::Error;
use acclimate_infer::online::{
    self, Aggressiveness, Event, Ewc, FtrlConfig, Keep, Learner, Loss, Method, Replay, Response, prequential,
};
use acclimate_tensor::Device;
use acclimate_train::nn::Linear;
use acclimate_train::optim::{self, Optimizer};
use acclimate_train::{Layer, Params};

type Test = Result<(), Box<dyn std::error::Error>>;

const N: usize = 120;
const D: usize = 5;

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> std::io::Result<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/online.safetensors");
        std::fs::read(path).map(Golden)
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let file = safetensors::SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let tensor = file.tensor(name).expect("a tensor of this name");
        tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

/// w·x from zero weights.
fn linear(device: &Device) -> Result<(Arc<dyn Layer>, Params), Error> {
    let params = Params::from_named(device, vec![("w.weight".into(), vec![1, D], vec![0.0; D])])?;
    Ok((Arc::new(Linear::new("w", D, 1).without_bias()), params))
}

fn learner(device: &Device, method: Method) -> Result<Learner, Error> {
    let (model, params) = linear(device)?;
    Learner::new(model, params, &[D], method)
}

fn rules() -> Vec<(&'static str, Loss, &'static str, Optimizer)> {
    let sparse = FtrlConfig { beta: 1.0, l1: 2.0, l2: 0.5 };
    vec![
        ("sgd", Loss::Logistic, "classes", optim::sgd(0.1)),
        ("adagrad", Loss::Logistic, "classes", optim::adagrad(0.3)),
        ("sgd_squared", Loss::Squared, "numbers", optim::sgd(0.02)),
        ("pa", Loss::Hinge, "classes", online::passive_aggressive(Aggressiveness::Full)),
        ("pa1", Loss::Hinge, "classes", online::passive_aggressive(Aggressiveness::AtMost(0.1))),
        ("pa2", Loss::Hinge, "classes", online::passive_aggressive(Aggressiveness::Soft(0.1))),
        ("pa1_insensitive", Loss::Insensitive(0.2), "numbers", online::passive_aggressive(Aggressiveness::AtMost(0.1))),
        ("ftrl", Loss::Logistic, "classes", online::ftrl(0.2)),
        ("ftrl_sparse", Loss::Logistic, "classes", online::ftrl_with(0.2, sparse)),
    ]
}

fn follows_the_golden_traces(device: &Device, rules: Vec<(&str, Loss, &str, Optimizer)>) -> Test {
    let golden = Golden::read()?;
    let x = golden.get("x");
    for (name, loss, labels, optimizer) in rules {
        let labels = golden.get(labels);
        let (scores, weights) = (golden.get(&format!("{name}.scores")), golden.get(&format!("{name}.weights")));
        let mut learner = learner(device, Method::new(loss, optimizer))?;
        let events: Vec<Event> = (0..N)
            .flat_map(|i| {
                let label = Event::Label { id: i as u64, label: labels[i] };
                [Event::Input(&x[i * D..(i + 1) * D]), label]
            })
            .collect();
        let report = learner.take(&events)?;
        assert_eq!((report.predicted.len(), report.labeled.len()), (N, N), "{name}");
        // The traces are f64. An f32 step adds a few roundings of weights below 4 and scores below 16; 120 steps of which
        // none amplifies (all are contractions on their input) add at most their sum, and rounding is not one-sided.
        let bound = |scale: f32| 120.0 * 4.0 * 6e-8 * scale;
        for (i, (got, want)) in report.predicted.iter().zip(&scores).enumerate() {
            assert!((got.output[0] - want).abs() < bound(16.0), "{name} {i}: {}, golden {want}", got.output[0]);
        }
        let got = learner.params().get("w.weight")?.to_vec::<f32>()?;
        for (got, want) in got.iter().zip(&weights) {
            assert!((got - want).abs() < bound(4.0), "{name}: {got}, golden {want}");
            assert_eq!(*want == 0.0, *got == 0.0, "{name}: exact zeros are exact");
        }
    }
    Ok(())
}

#[test]
fn steps_are_those_of_river_and_of_the_papers() -> Test {
    follows_the_golden_traces(&Device::cpu(), rules())
}

#[test]
fn gpu_steps_are_those_of_river_and_of_the_papers() -> Test {
    let Some(device) = adapter::open(Device::named) else { return Ok(()) };
    follows_the_golden_traces(&device, rules().split_off(7))
}

fn stream() -> Result<(Vec<f32>, Vec<f32>), Error> {
    let golden = Golden::read().map_err(|_| Error::Empty { what: "golden" })?;
    Ok((golden.get("x"), golden.get("classes")))
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// Blocks only save submissions: answers and weights have the bits of one event at a time.
#[test]
fn a_block_is_one_at_a_time() -> Test {
    let (x, y) = stream()?;
    let replay = Replay { capacity: 16, rows: 2, keep: Keep::Sample };
    for delay in [0, 3] {
        let mut reference: Option<(Vec<u32>, Vec<u32>)> = None;
        for block in [1, 7, 32] {
            let method = Method::new(Loss::Logistic, optim::adagrad(0.3)).replay(replay).block(block);
            let mut learner = learner(&Device::cpu(), method)?;
            let measured = prequential(&mut learner, &x, &y, delay, 40)?;
            assert_eq!((measured.len(), measured.curve().len()), (120, 3));
            let losses: Vec<f32> = measured.losses().iter().map(|l| *l as f32).collect();
            let weights = learner.params().get("w.weight")?.to_vec::<f32>()?;
            let now = (bits(&losses), bits(&weights));
            let reference = reference.get_or_insert_with(|| now.clone());
            assert_eq!(*reference, now, "delay {delay}, block {block}");
            let submissions = learner.counts().submissions;
            assert!(submissions <= (N as u64).div_ceil(block as u64) + 4, "{submissions} for blocks of {block}");
        }
    }
    Ok(())
}

/// An input and the label before it are one submission, and nothing is planned or compiled from the second on.
#[test]
fn one_input_is_one_submission() -> Test {
    let device = Device::cpu();
    let mut learner = learner(&device, Method::new(Loss::Logistic, online::ftrl(0.1)))?;
    let (x, y) = stream()?;
    let mut at_start = None;
    for i in 0..20 {
        let answer = learner.predict(&x[i * D..(i + 1) * D])?;
        learner.label(answer.id, y[i])?;
        if i == 2 {
            at_start = Some((device.stats(), learner.counts().submissions));
        }
    }
    let (before, submissions) = at_start.ok_or("no statistics")?;
    let now = device.stats();
    assert_eq!(learner.counts().submissions - submissions, 17);
    assert_eq!(now.submissions - before.submissions, 17);
    assert_eq!(now.plans_built, before.plans_built);
    Ok(())
}

/// Labels come late, out of order, twice, for nobody, and too late.
#[test]
fn labels_find_their_inputs() -> Test {
    let mut learner = learner(&Device::cpu(), Method::new(Loss::Logistic, optim::sgd(0.1)).max_pending(3))?;
    let x = [1.0, 0.0, 0.0, 0.0, 1.0];
    let ids: Vec<u64> = (0..4).map(|_| learner.predict(&x).map(|p| p.id)).collect::<Result<_, _>>()?;
    assert_eq!(ids, [0, 1, 2, 3]);
    assert_eq!(learner.counts().expired, 1);
    learner.label(3, 1.0)?;
    learner.label(1, 0.0)?;
    let told = |e: Error| e.to_string();
    assert_eq!(
        told(learner.label(3, 1.0).unwrap_err()),
        "label for input 3: it has its label already, or waited too long"
    );
    assert_eq!(
        told(learner.label(0, 1.0).unwrap_err()),
        "label for input 0: it has its label already, or waited too long"
    );
    assert_eq!(told(learner.label(9, 1.0).unwrap_err()), "label for input 9: no input had this id yet");
    assert_eq!(told(learner.label(2, 0.5).unwrap_err()), "label at position 2: expected 0 or 1, found 0.5");
    assert!(learner.label(2, f32::NAN).is_err());
    assert!(matches!(learner.predict(&x[..4]), Err(Error::Size { .. })));
    let nan = [1.0, f32::NAN, 0.0, 0.0, 1.0];
    assert_eq!(told(learner.predict(&nan).unwrap_err()), "input at position 1: expected a finite number, found NaN");
    // One bad event, and none of the call is taken.
    assert!(learner.take(&[Event::Label { id: 2, label: 1.0 }, Event::Input(&nan)]).is_err());
    assert!(learner.take(&[Event::Label { id: 2, label: 1.0 }, Event::Label { id: 2, label: 1.0 }]).is_err());
    let report = learner.flush()?;
    assert_eq!(report.labeled.iter().map(|l| l.id).collect::<Vec<_>>(), [3, 1]);
    let report = learner.take(&[Event::Label { id: 2, label: 1.0 }])?;
    assert_eq!(report.labeled[0].id, 2);
    let counts = learner.counts();
    assert_eq!((counts.answered, counts.learned, counts.held_back, counts.refused), (4, 3, 0, 9));
    Ok(())
}

/// A step that would leave finite numbers is not taken, and the next one is.
#[test]
fn an_explosion_is_held_back() -> Test {
    let mut learner = learner(&Device::cpu(), Method::new(Loss::Squared, optim::sgd(0.1)))?;
    let huge = [3e38, 3e38, 0.0, 0.0, 1.0];
    let one = [0.0, 0.0, 1.0, 0.0, 1.0];
    let report = learner.take(&[
        Event::Input(&huge),
        Event::Label { id: 0, label: 3e38 },
        Event::Input(&one),
        Event::Label { id: 1, label: 1.0 },
        Event::Input(&one),
    ])?;
    assert_eq!(report.labeled.iter().map(|l| l.learned).collect::<Vec<_>>(), [false, true]);
    assert_eq!(report.predicted[1].output[0], 0.0);
    assert!((report.predicted[2].output[0] - 0.4).abs() < 1e-6);
    assert_eq!(learner.counts().held_back, 1);
    Ok(())
}

#[test]
fn a_snapshot_is_gone_back_to_exactly() -> Test {
    let (x, y) = stream()?;
    let mut learner = learner(&Device::cpu(), Method::new(Loss::Logistic, optim::adagrad(0.3)))?;
    prequential(&mut learner, &x[..50 * D], &y[..50], 0, 10)?;
    let snapshot = learner.snapshot()?;
    let straight = prequential(&mut learner, &x[50 * D..], &y[50..], 0, 10)?;
    learner.restore(&snapshot);
    let again = prequential(&mut learner, &x[50 * D..], &y[50..], 0, 10)?;
    assert_eq!(straight.losses(), again.losses());
    Ok(())
}

/// What alarms do. The signal fires at the 61st label, when the rule of the stream turns.
#[test]
fn responses_to_change() -> Test {
    let (x, y) = stream()?;
    let run = |response| -> Result<(f64, u64), Error> {
        let mut seen = 0;
        let method = Method::new(Loss::Logistic, optim::adagrad(0.3)).response(response);
        let mut learner = learner(&Device::cpu(), method)?.on_change(move |_| {
            seen += 1;
            seen == 61
        });
        let measured = prequential(&mut learner, &x, &y, 0, 10)?;
        assert_eq!(measured.alarms(), [60]);
        let late = measured.losses()[60..].iter().sum::<f64>() / 60.0;
        Ok((late, learner.counts().submissions))
    };
    let (counted, few) = run(Response::Count)?;
    for response in [Response::Restart, Response::ForgetMoments, Response::Boost { factor: 3.0, labels: 20 }] {
        let (late, many) = run(response)?;
        assert!(late < counted, "{response:?}: loss {late} after the change, without a response {counted}");
        assert!(many > few, "a signal that acts is asked before each label");
    }
    // The first label after a restart meets the first parameters: an answer of 0.
    let method = Method::new(Loss::Logistic, optim::adagrad(0.3)).response(Response::Restart);
    let mut learner = learner(&Device::cpu(), method)?.on_change(|error| error > 0.5);
    let (input, other) = (&x[..D], &x[D..2 * D]);
    learner.take(&[Event::Input(input), Event::Label { id: 0, label: y[0] }])?;
    let wrong = learner.predict(other)?;
    let against = if wrong.output[0] > 0.0 { 0.0 } else { 1.0 };
    learner.label(wrong.id, against)?;
    let after = learner.predict(other)?.output[0];
    let (model, params) = linear(&Device::cpu())?;
    let mut fresh = Learner::new(model, params, &[D], Method::new(Loss::Logistic, optim::adagrad(0.3)))?;
    fresh.take(&[Event::Input(other), Event::Label { id: 0, label: against }])?;
    assert_eq!(after.to_bits(), fresh.predict(other)?.output[0].to_bits());
    Ok(())
}

/// One task is answered by the first feature; in the next the first feature misleads and the second would do. Without
/// more, the second task undoes the first; with replay, or held by what the first depended on, it uses the second feature.
#[test]
fn replay_and_consolidation_against_forgetting() -> Test {
    let device = Device::cpu();
    let model: Arc<dyn Layer> = Arc::new(Linear::new("w", 2, 1).without_bias());
    let params = Params::from_named(&device, vec![("w.weight".into(), vec![1, 2], vec![0.0; 2])])?;
    let golden = Golden::read()?.get("x");
    let draws: Vec<f32> = golden.chunks(D).map(|r| r[0]).collect();
    let first: Vec<f32> = draws.iter().flat_map(|x| [*x, 0.0]).collect();
    let second: Vec<f32> = draws.iter().flat_map(|x| [-*x, *x]).collect();
    // One label in eight is wrong, so that the tasks stay uncertain: what is certain has no Fisher information.
    let noisy = |(i, x): (usize, &f32)| if (*x > 0.0) != (i % 8 == 0) { 1.0 } else { 0.0 };
    let labels: Vec<f32> = draws.iter().enumerate().map(noisy).collect();
    let errors = |method: Method, consolidate: bool| -> Result<(f64, f64), Error> {
        let mut learner = Learner::new(model.clone(), params.clone(), &[2], method)?;
        prequential(&mut learner, &first, &labels, 0, 10)?;
        if consolidate {
            learner.consolidate(0.0)?;
        }
        for _ in 0..3 {
            prequential(&mut learner, &second, &labels, 0, 10)?;
        }
        let mut wrong = |rows: &[f32]| -> Result<f64, Error> {
            let events: Vec<Event> = rows.chunks(2).map(Event::Input).collect();
            let answers = learner.take(&events)?.predicted;
            let wrong = answers.iter().zip(&draws).filter(|(a, x)| (a.output[0] > 0.0) != (**x > 0.0)).count();
            Ok(wrong as f64 / draws.len() as f64)
        };
        Ok((wrong(&first)?, wrong(&second)?))
    };
    let buffer = Replay { capacity: 240, rows: 3, keep: Keep::Sample };
    let plain = Method::new(Loss::Logistic, optim::sgd(0.1));
    assert_eq!(errors(plain.clone(), false)?, (1.0, 0.0), "the second task undoes the first");
    assert_eq!(errors(plain.replay(buffer), false)?, (0.0, 0.0), "replay keeps both");
    // The buffer only serves to measure the Fisher information here: no rows are replayed.
    let held = Method::new(Loss::Logistic, optim::sgd(0.1).transform(Ewc { weight: 20.0 }));
    let held = held.replay(Replay { rows: 0, ..buffer });
    assert_eq!(errors(held.clone(), true)?, (0.0, 0.0), "consolidation keeps both");
    assert_eq!(errors(held, false)?, (1.0, 0.0), "before consolidation there is nothing to hold on to");
    Ok(())
}

/// Consolidation writes the model's own Fisher information: for logistic regression the mean of p(1 − p)x².
#[test]
fn fisher_information_is_that_of_the_model() -> Test {
    let (x, y) = stream()?;
    let replay = Replay { capacity: N, rows: 0, keep: Keep::Latest };
    let method = Method::new(Loss::Logistic, optim::sgd(0.05).transform(Ewc { weight: 1.0 })).replay(replay);
    let mut learner = learner(&Device::cpu(), method)?;
    prequential(&mut learner, &x, &y, 0, 10)?;
    learner.consolidate(0.0)?;
    let w = learner.params().get("w.weight")?.to_vec::<f32>()?;
    let found = learner.fisher()?.ok_or("no Fisher information")?;
    for j in 0..D {
        let want = x.chunks(D).map(|r| {
            let z: f64 = r.iter().zip(&w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let p = 1.0 / (1.0 + (-z).exp());
            p * (1.0 - p) * f64::from(r[j]).powi(2)
        });
        let want = want.sum::<f64>() / N as f64;
        // A mean of 120 products of about ten roundings each.
        assert!((f64::from(found[j]) - want).abs() < 20.0 * 6e-8 * (want + 1.0), "{j}: {}, {want}", found[j]);
    }
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused() -> Test {
    let device = Device::cpu();
    let refused = |method: Method| learner(&device, method).err().map(|e| e.to_string()).unwrap_or_default();
    let sgd = || optim::sgd(0.1);
    assert_eq!(
        refused(Method::new(Loss::CrossEntropy, sgd())),
        "outputs of a model with the loss CrossEntropy: expected two or more, found 1"
    );
    assert!(refused(Method::new(Loss::Insensitive(-1.0), sgd())).contains("slack"));
    assert!(
        refused(Method::new(Loss::Logistic, online::ftrl_with(0.1, FtrlConfig { beta: 0.0, l1: 0.0, l2: 0.0 })))
            .contains("beta")
    );
    assert!(refused(Method::new(Loss::Hinge, online::passive_aggressive(Aggressiveness::AtMost(0.0)))).contains("C"));
    assert!(refused(Method::new(Loss::Hinge, sgd().transform(online::project(f64::NAN)))).contains("radius"));
    assert!(refused(Method::new(Loss::Hinge, sgd().transform(Ewc { weight: -1.0 }))).contains("ewc"));
    let zero = Replay { capacity: 0, rows: 1, keep: Keep::Latest };
    assert!(refused(Method::new(Loss::Hinge, sgd()).replay(zero)).contains("replay"));
    let boost = Response::Boost { factor: f32::NAN, labels: 3 };
    assert!(refused(Method::new(Loss::Hinge, sgd()).response(boost)).contains("factor"));
    let mut without = learner(&device, Method::new(Loss::Logistic, sgd()))?;
    assert!(without.consolidate(1.0).is_err());
    assert!(prequential(&mut without, &[0.0; 7], &[0.0; 2], 0, 1).is_err());
    assert!(prequential(&mut without, &[], &[], 0, 1).is_err());
    // Rows with NaN are left out and counted.
    let mut rows = [0.5; 3 * D];
    rows[D] = f32::NAN;
    let measured = prequential(&mut without, &rows, &[1.0, 1.0, 0.0], 1, 1)?;
    assert_eq!((measured.len(), measured.skipped()), (2, 1));
    Ok(())
}

/// Online gradient descent stays in its ball, and its regret below the bound (3/2)·D·G·√T of convex losses.
#[test]
fn regret_is_below_the_bound() -> Test {
    // Twice the first half, where one rule holds throughout, so that fixed weights are worth comparing with.
    let (mut x, mut y) = stream()?;
    x.truncate(N / 2 * D);
    y.truncate(N / 2);
    let (x, y) = (x.repeat(2), y.repeat(2));
    // ‖x‖ bounds the gradient of the logistic loss.
    let gradient = x.chunks(D).map(|r| r.iter().map(|v| v * v).sum::<f32>().sqrt()).fold(0.0, f32::max);
    let diameter = 2.0f32;
    let mut learner = learner(&Device::cpu(), Method::new(Loss::Logistic, online::ogd(diameter, gradient)))?;
    let measured = prequential(&mut learner, &x, &y, 0, 10)?;
    let total: f64 = measured.losses().iter().sum();
    let weights = learner.params().get("w.weight")?.to_vec::<f32>()?;
    let length = weights.iter().map(|w| w * w).sum::<f32>().sqrt();
    assert!(length <= 1.0 + 1e-6, "{length}");
    // The best fixed weights of the ball, by projected gradient descent in f64 on all losses at once.
    let mut w = [0f64; D];
    let score = |w: &[f64; D], r: &[f32]| r.iter().zip(w).map(|(a, b)| f64::from(*a) * b).sum::<f64>();
    for _ in 0..2000 {
        let mut g = [0f64; D];
        for (r, &label) in x.chunks(D).zip(&y) {
            let p = 1.0 / (1.0 + (-score(&w, r)).exp()) - f64::from(label);
            g.iter_mut().zip(r).for_each(|(g, v)| *g += p * f64::from(*v) / N as f64);
        }
        w.iter_mut().zip(&g).for_each(|(w, g)| *w -= 0.2 * g);
        let length = w.iter().map(|v| v * v).sum::<f64>().sqrt();
        w.iter_mut().for_each(|v| *v /= length.max(1.0));
    }
    let best: f64 = x.chunks(D).zip(&y).map(|(r, &l)| Loss::Logistic.of(&[score(&w, r) as f32], l)).sum();
    let bound = 1.5 * f64::from(diameter * gradient) * (N as f64).sqrt();
    assert!(total - best > 0.0 && total - best <= bound, "regret {} of at most {bound}", total - best);
    Ok(())
}
