//! Streams and their runner: every input once, orders that are what they say, honest comparison, and real time on a
//! clock of the test's own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acclimate_infer::adapt::{frozen, memo_affine, statistics, tent, vote};
use acclimate_infer::budget::SimulatedClock;
use acclimate_infer::evaluate::protocol::{Protocol, RealTime, Run, run};
use acclimate_infer::evaluate::stream::{Order, Part, Row, Visit, visits};
use acclimate_infer::evaluate::table::{self, COLUMNS, Compared};
use acclimate_infer::evaluate::{Labelled, evaluate};
use acclimate_infer::{Adaptation, Error, Session};
use acclimate_tensor::Device;
use acclimate_train::data::rng::Philox;
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Sequential};
use acclimate_train::{Layer, Params};

type Test = Result<(), Box<dyn std::error::Error>>;

const DIMS: [usize; 3] = [1, 6, 6];
const SIZE: usize = 36;
const N: usize = 60;
const CLASSES: u32 = 5;

/// Two parts: the second is the first with another gain.
struct Data {
    images: [Vec<f32>; 2],
    labels: Vec<u32>,
}

impl Data {
    fn new() -> Self {
        let mut stream = Philox::from_seed(4).stream(0);
        let clean: Vec<f32> = (0..N * SIZE).map(|_| stream.uniform()).collect();
        let dim = clean.iter().map(|x| 0.3 * x + 0.1).collect();
        Data { images: [clean, dim], labels: (0..N as u32).map(|i| (i * 7 + i / 9) % CLASSES).collect() }
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let names = [("clean", 0), ("dim", 5)];
        let part = |((name, severity), images)| Part {
            name,
            severity,
            data: Labelled { images, dims: DIMS, labels: &self.labels },
        };
        names.into_iter().zip(self.images.iter().map(Vec::as_slice)).map(part).collect()
    }
}

fn model() -> Result<(Arc<dyn Layer>, Params), Error> {
    let layers = Sequential::new()
        .then(Conv2d::new("conv", 1, 4, 3).same().without_bias())
        .then(BatchNorm::new("bn", 4))
        .then(Activation::Relu)
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 4, CLASSES as usize));
    let model: Arc<dyn Layer> = Arc::new(layers);
    let params = model.init(&Device::cpu(), 3)?;
    Ok((model, params))
}

fn session(method: Adaptation) -> Result<Session, Error> {
    let (model, params) = model()?;
    Ok(Session::new(model, params, method)?.slots(10).seed(1))
}

fn protocol(order: Order) -> Protocol {
    Protocol { order, batch: 16, seed: 2, real_time: None }
}

fn played(method: Adaptation, protocol: Protocol) -> Result<Run, Error> {
    run(&mut session(method)?, &Data::new().parts(), &protocol, &mut |_, _| {})
}

const ORDERS: [Order; 6] =
    [Order::Iid, Order::Continual, Order::Mixed, Order::Sorted, Order::Correlated(0.1), Order::Single];

#[test]
fn null_every_order_visits_every_input_once() -> Test {
    let data = Data::new();
    let parts = data.parts();
    for order in ORDERS {
        let plan = visits(&parts, order, 16, 2)?;
        assert_eq!(plan, visits(&parts, order, 16, 2)?, "{order}");
        let rows: Vec<Row> = plan.iter().flat_map(|v| v.rows.clone()).collect();
        let distinct: BTreeSet<(usize, usize)> = rows.iter().map(|r| (r.part, r.item)).collect();
        assert_eq!((rows.len(), distinct.len()), (2 * N, 2 * N), "{order}");
        let largest = plan.iter().map(|v| v.rows.len()).max();
        assert_eq!(largest, Some(if order == Order::Single { 1 } else { 16 }), "{order}");
        let resets: Vec<usize> = (0..plan.len()).filter(|&i| plan[i].resets).collect();
        let second = if order == Order::Single { N } else { N.div_ceil(16) };
        let expected = if matches!(order, Order::Continual | Order::Mixed) { vec![] } else { vec![0, second] };
        assert_eq!(resets, expected, "{order}");
        // The name is read back.
        assert_eq!(order.to_string().parse::<Order>()?, order);
        if order != Order::Sorted {
            assert_ne!(plan, visits(&parts, order, 16, 3)?, "{order}: the seed changes nothing");
        }
    }
    Ok(())
}

/// How many classes a batch holds, on average.
fn classes_of_batches(plan: &[Visit], labels: &[u32]) -> f64 {
    let count = |v: &Visit| v.rows.iter().map(|r| labels[r.item]).collect::<BTreeSet<_>>().len();
    plan.iter().map(|v| count(v) as f64).sum::<f64>() / plan.len() as f64
}

#[test]
fn null_orders_are_what_they_say() -> Test {
    let data = Data::new();
    let parts = data.parts();
    let plan = |order| visits(&parts, order, 8, 2);
    let mixed = plan(Order::Mixed)?;
    let both = |v: &Visit| v.rows.iter().map(|r| r.part).collect::<BTreeSet<_>>().len() == 2;
    assert!(mixed.iter().filter(|v| both(v)).count() > mixed.len() / 2);
    assert!(plan(Order::Continual)?.iter().all(|v| !both(v)));
    let sorted: Vec<u32> = plan(Order::Sorted)?.iter().flat_map(|v| &v.rows).map(|r| data.labels[r.item]).collect();
    assert!(sorted[..N].is_sorted() && sorted[N..].is_sorted());
    let classes = |order| Ok::<_, Error>(classes_of_batches(&plan(order)?, &data.labels));
    let (iid, sorted) = (classes(Order::Iid)?, classes(Order::Sorted)?);
    let (strong, weak) = (classes(Order::Correlated(0.05))?, classes(Order::Correlated(1e4))?);
    assert!(sorted < 2.5 && strong < iid - 1.0 && (weak - iid).abs() < 0.7, "{iid} {weak} {strong} {sorted}");
    Ok(())
}

#[test]
fn null_what_is_no_stream_is_refused() {
    let data = Data::new();
    let mut parts = data.parts();
    for text in ["", "iidd", "correlated", "correlated:0", "correlated:-1", "correlated:x", "iid:3", "correlated:inf"] {
        let error = text.parse::<Order>().unwrap_err().to_string();
        assert!(error.contains("correlated:δ"), "{error}");
    }
    assert!(visits(&[], Order::Iid, 16, 0).is_err());
    assert!(visits(&parts, Order::Iid, 0, 0).is_err());
    assert!(visits(&parts, Order::Correlated(f64::NAN), 16, 0).is_err());
    parts[1].data.labels = &data.labels[..N - 1];
    let mut session = session(frozen()).unwrap();
    let error = run(&mut session, &parts, &protocol(Order::Iid), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("part `dim`"), "{error}");
    let pace = RealTime { speed: -1.0, frozen_ms: 1.0 };
    let wrong = Protocol { real_time: Some(pace), ..protocol(Order::Iid) };
    assert!(run(&mut session, &data.parts(), &wrong, &mut |_, _| {}).is_err());
}

/// The runner's answers are those of the session by hand, in the part's own order.
#[test]
fn a_run_is_the_session_in_that_order() -> Test {
    let data = Data::new();
    let parts = data.parts();
    let told = std::cell::RefCell::new(Vec::new());
    let iid = run(&mut session(tent(1e-2))?, &parts, &protocol(Order::Iid), &mut |i, n| {
        told.borrow_mut().push((i, n));
    })?;
    assert_eq!(*told.borrow(), (1..=8).map(|i| (i, 8)).collect::<Vec<_>>());
    let plan = visits(&parts, Order::Iid, 16, 2)?;
    for (k, part) in parts.iter().enumerate() {
        let rows: Vec<usize> = plan.iter().flat_map(|v| &v.rows).filter(|r| r.part == k).map(|r| r.item).collect();
        let images: Vec<f32> = rows.iter().flat_map(|&i| part.data.images[i * SIZE..(i + 1) * SIZE].to_vec()).collect();
        let labels: Vec<u32> = rows.iter().map(|&i| part.data.labels[i]).collect();
        let by_hand =
            evaluate(&mut session(tent(1e-2))?, Labelled { images: &images, dims: DIMS, labels: &labels }, 16)?;
        assert!((by_hand.scores.accuracy - iid.parts[k].scores.accuracy).abs() < 1e-12);
        assert!((by_hand.scores.nll - iid.parts[k].scores.nll).abs() < 1e-9);
        for (answer, &i) in by_hand.answers.iter().zip(&rows) {
            assert_eq!(answer.label() == part.data.labels[i], iid.parts[k].right[i]);
        }
        assert_eq!(iid.parts[k].acted.iter().filter(|a| **a).count(), N);
    }
    // Never reset, the second part meets a model that the first has moved.
    let continual = played(tent(1e-2), protocol(Order::Continual))?;
    assert!((continual.parts[1].scores.nll - iid.parts[1].scores.nll).abs() > 1e-6);
    // What carries nothing on does not care about the order.
    let answers = |order| Ok::<_, Error>(played(frozen(), protocol(order))?.right());
    for order in ORDERS {
        assert_eq!(answers(order)?, answers(Order::Iid)?, "{order}");
    }
    // At least the images of a batch, the network's first layer over them, and the overlay.
    assert!(iid.bytes_per_input > 4.0 * (5 * SIZE) as f64 && iid.ms_per_input > 0.0, "{}", iid.bytes_per_input);
    let acted = |method| Ok::<_, Error>(played(method, protocol(Order::Iid))?.acted());
    assert!(acted(statistics())?.iter().all(|acted| *acted), "batch statistics change answers");
    assert!(acted(frozen())?.iter().all(|acted| !acted), "the frozen model does not act");
    Ok(())
}

#[test]
fn a_stream_that_does_not_wait() -> Test {
    let late = |method: Adaptation, ms: u64, speed: f64| -> Result<Run, Error> {
        // Sixteen inputs take the frozen model 16 ms.
        let real_time = Some(RealTime { speed, frozen_ms: 1.0 });
        // A clock by which work takes that long, whatever it takes.
        let clock = Arc::new(SimulatedClock::new(move |_, _| Duration::from_millis(ms)));
        let protocol = Protocol { real_time, ..protocol(Order::Iid) };
        run(&mut session(method)?.clock(clock), &Data::new().parts(), &protocol, &mut |_, _| {})
    };
    let counts = |run: &Run| run.parts.iter().map(|part| part.late).collect::<Vec<_>>();
    // Batches of a part: 16, 16, 16, 12. Twice as slow as the stream: every second batch is missed.
    assert_eq!(counts(&late(tent(1e-2), 16, 1.0)?), [0, 0]);
    assert_eq!(counts(&late(tent(1e-2), 32, 1.0)?), [28, 28]);
    assert_eq!(counts(&late(tent(1e-2), 16, 2.0)?), [28, 28]);
    assert_eq!(counts(&late(tent(1e-2), 33, 1.0)?), [32, 32]);
    assert_eq!(counts(&late(tent(1e-2), 1000, 1.0)?), [44, 44]);
    // A late input is answered and not adapted to; the time is that of the others.
    let slow = late(tent(1e-2), 1000, 1.0)?;
    assert_eq!(slow.parts[0].acted.iter().filter(|a| **a).count(), 16);
    assert_eq!(slow.parts[0].right.len(), N);
    assert!((slow.ms_per_input - 1000.0 / 16.0).abs() < 1e-9);
    // Late inputs are answered by the model as the first batch left it: batch statistics under its Δ. Without a step the
    // same batches give what batch statistics give.
    let still = late(statistics(), 1000, 1.0)?;
    assert_eq!(still.right(), played(statistics(), protocol(Order::Iid))?.right());
    let moved = late(tent(0.5), 1000, 1.0)?;
    assert!((moved.parts[0].scores.nll - still.parts[0].scores.nll).abs() > 1e-4);
    // A method that begins anew with every input has nothing to answer late inputs with but the frozen model.
    let (episodic, source) = (late(memo_affine(4, 0.5), 1000, 1.0)?, late(frozen(), 16, 1.0)?);
    let plan = visits(&Data::new().parts(), Order::Iid, 16, 2)?;
    for row in plan[1..4].iter().flat_map(|v| &v.rows) {
        assert_eq!(episodic.parts[0].right[row.item], source.parts[0].right[row.item]);
        assert!(!episodic.parts[0].acted[row.item]);
    }
    Ok(())
}

#[test]
fn rows_say_what_the_runs_did() -> Test {
    let play = |method| played(method, protocol(Order::Iid));
    let (source, adapted, voted, memo) =
        (play(frozen())?, play(tent(1e-2))?, play(vote(2))?, play(memo_affine(2, 5e-3))?);
    let methods = vec![(&adapted, Some(&voted)), (&memo, None)];
    let compared = Compared { stream: "iid".into(), frozen: &source, methods, seed: 2 };
    let rows = compared.rows()?;
    // Two parts and all, three methods each.
    assert_eq!(rows.len(), 9);
    let names: Vec<&str> = rows.iter().map(|r| r.shift.as_str()).collect();
    assert_eq!(names, ["clean", "clean", "clean", "dim", "dim", "dim", "all", "all", "all"]);
    for (row, run) in rows[6..].iter().zip([&source, &adapted, &memo]) {
        let right = run.right().iter().filter(|r| **r).count();
        assert_eq!((row.n, &row.method), (2 * N, &run.method));
        assert!((row.error - 100.0 * (1.0 - right as f64 / (2 * N) as f64)).abs() < 1e-9);
    }
    let against = rows[7].frozen.ok_or("a comparison with frozen")?;
    assert!((100.0 * against.difference - (rows[6].error - rows[7].error)).abs() < 1e-9);
    assert!(rows[6].frozen.is_none() && rows[7].vote.is_some() && rows[8].vote.is_none());
    // TENT acts on all, so it misses nothing.
    assert_eq!((rows[7].missed_benefit, rows[7].acted), (0, 2 * N));
    let text = table::markdown(&rows);
    assert!(text.starts_with("\n### iid\n\n| shift |"), "{text}");
    assert!(
        text.lines().skip(3).all(|line| line.matches(" | ").count() == COLUMNS.len() - 1 || line.starts_with("|---"))
    );
    let back: Vec<table::Row> = serde_json::from_str(&serde_json::to_string(&rows)?)?;
    assert_eq!(back, rows);
    let short = Run { parts: vec![], ..adapted.clone() };
    assert!(Compared { methods: vec![(&short, None)], ..compared }.rows().is_err());
    Ok(())
}

/// A stream that comes back to its shifts: rows of a shift are of all its rounds, and each round has rows of its own.
#[test]
fn a_stream_in_rounds_is_told_round_by_round() -> Test {
    let data = Data::new();
    let parts = data.parts().repeat(3);
    let protocol = protocol(Order::Continual);
    let frozen_run = run(&mut session(frozen())?, &parts, &protocol, &mut |_, _| {})?;
    let adapted = run(&mut session(tent(1e-2))?, &parts, &protocol, &mut |_, _| {})?;
    let rows = Compared { stream: "continual".into(), frozen: &frozen_run, methods: vec![(&adapted, None)], seed: 2 }
        .rows()?;
    let names: Vec<(&str, usize)> = rows.iter().step_by(2).map(|r| (r.shift.as_str(), r.n)).collect();
    let expected =
        [("clean", 3 * N), ("dim", 3 * N), ("round 1", 2 * N), ("round 2", 2 * N), ("round 3", 2 * N), ("all", 6 * N)];
    assert_eq!(names, expected);
    // Every way to cut the stream holds the same answers.
    let wrong = |range: std::ops::Range<usize>| -> f64 {
        rows[range].iter().skip(1).step_by(2).map(|r| r.error * r.n as f64).sum()
    };
    assert!((wrong(0..4) - wrong(10..12)).abs() < 1e-6 && (wrong(4..10) - wrong(10..12)).abs() < 1e-6);
    // Frozen answers each round alike; what is never reset moves on.
    assert!(rows[4].error == rows[6].error && rows[5].nll != rows[9].nll);
    Ok(())
}
