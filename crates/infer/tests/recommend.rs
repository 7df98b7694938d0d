//! What is recommended for a network and a stream: each situation of the rules on a trained network, the promise behind the
//! choice measured where it is one, and errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod trained;

use std::sync::Arc;
use std::time::Duration;

use acclimate_infer::adapt::recommend::Because;
use acclimate_infer::adapt::{Order, Recommendation, Situation, frozen};
use acclimate_infer::budget::SimulatedClock;
use acclimate_infer::receipt::Action;
use acclimate_infer::{Adaptation, Error, Session, SourceStatistics};
use acclimate_tensor::Device;
use acclimate_train::Layer;
use acclimate_train::nn::{Norm, SmallCnn};
use trained::{CLASSES, DIMS, Noise, SIZE, Stream, Trained, dim, right};

type Test = Result<(), Box<dyn std::error::Error>>;

fn ask(t: &Trained, stream: &Stream, situation: Situation) -> Result<Recommendation, Error> {
    let found = Adaptation::recommend(&*t.model, &t.params, &stream.images, DIMS, &situation)?;
    println!("{found}");
    // Whatever is recommended runs.
    let n = 16 * SIZE;
    t.session(found.method.clone())?.slots(16).answer(&stream.images[..n.min(stream.images.len())], DIMS)?;
    Ok(found)
}

fn knowing(t: &Trained, batch: usize) -> Situation {
    Situation::batches_of(batch).source(t.source.clone())
}

/// In the dark, labels in runs.
fn dark_runs(n: usize, run: usize) -> Stream {
    Stream::new(n, 77, |i, _| (i / run) as u32 % CLASSES, |_, image, noise| dim(image, noise))
}

#[test]
fn ordinary_inputs_are_left_alone() -> Test {
    let t = Trained::new()?;
    let stream = Stream::ordinary(200, 71);
    let found = ask(&t, &stream, knowing(&t, 100))?;
    assert_eq!(found.method.name(), "calibrate");
    assert!(found.why.iter().any(|b| matches!(b, Because::Ordinary { .. })));
    assert_eq!((found.measured.batch_norms, found.measured.other_norms), (2, 0));
    let answers = t.session(found.method)?.slots(25).answer(&stream.images, DIMS)?;
    let alone = answers.iter().filter(|a| a.receipt.facts.verdict.action == Action::LeftAlone).count();
    assert!(alone >= 170, "{alone} of 200 left alone");
    // Values that no camera gives: there is no sensor to correct.
    let mut wide = Stream::ordinary(200, 71);
    wide.images[0] = 1.01;
    assert_eq!(ask(&t, &wide, knowing(&t, 100))?.method.name(), "frozen");
    Ok(())
}

#[test]
fn a_shifted_batch_gets_its_own_statistics_and_a_long_stream_steps() -> Test {
    let t = Trained::new()?;
    let stream = Stream::dark(200, 72);
    let shuffled = |batch| knowing(&t, batch).order(Order::Shuffled);
    let found = ask(&t, &stream, shuffled(100))?;
    assert_eq!(found.method.name(), "statistics");
    assert!(found.measured.unusual.unwrap().share > 0.9, "{:?}", found.measured);
    let (adapted, source) = (
        right(&mut t.session(found.method)?, &stream, 100)?,
        right(&mut t.session(frozen())?.slots(100), &stream, 100)?,
    );
    assert!(adapted > source + 10, "{adapted} right with what is recommended, {source} frozen, of 200");
    assert_eq!(ask(&t, &stream, shuffled(100).stream_of(4_900))?.method.name(), "statistics");
    assert_eq!(ask(&t, &stream, shuffled(100).stream_of(5_000))?.method.name(), "roid-views");
    assert_eq!(ask(&t, &stream, shuffled(16).stream_of(5_000))?.method.name(), "prior-bn");
    Ok(())
}

#[test]
fn a_single_input_never_gets_statistics_of_its_own_alone() -> Test {
    let t = Trained::new()?;
    let stream = Stream::dark(40, 73);
    assert_eq!(ask(&t, &stream, knowing(&t, 1))?.method.name(), "calibrate");
    // Without source statistics: by the answers' entropy.
    let noise =
        Stream::new(40, 73, |_, n| n.below(CLASSES), |_, image, n| image.iter_mut().for_each(|x| *x = n.next()));
    let unknown = ask(&t, &noise, Situation::batches_of(1))?;
    assert!(matches!(unknown.why[1], Because::Unsure { .. }), "{:?}", unknown.measured);
    assert_eq!(unknown.method.name(), "memo-affine");
    Ok(())
}

#[test]
fn a_deadline_takes_the_first_that_fits() -> Test {
    let t = Trained::new()?;
    let stream = Stream::dark(40, 73);
    // A forward pass of one input takes a millisecond.
    let within = |ms: u64| -> Result<Recommendation, Error> {
        let clock = SimulatedClock::new(|work, _| Duration::from_millis(work.inputs as u64));
        ask(&t, &stream, knowing(&t, 1).deadline(Duration::from_millis(ms)).clock(Arc::new(clock)))
    };
    let names: Vec<String> =
        [30, 20, 10, 1].into_iter().map(|ms| Ok(within(ms)?.method.name().to_owned())).collect::<Result<_, Error>>()?;
    assert_eq!(names, ["calibrate", "memo-affine", "alpha-bn", "frozen"]);
    let said = within(20)?.to_string();
    assert!(said.contains("calibrate would take about 25.0 ms of 20.0"), "{said}");
    Ok(())
}

#[test]
fn labels_in_runs_are_found_and_kept_from_tent() -> Test {
    let t = Trained::new()?;
    let harmless = |found: &Recommendation| !["tent", "statistics", "roid-views", "eta"].contains(&found.method.name());
    let stream = dark_runs(200, 25);
    let found = ask(&t, &stream, knowing(&t, 100).stream_of(100_000))?;
    let noticed = |b: &Because| matches!(b, Because::InRuns { .. } | Because::OneClass { .. });
    assert!(found.why.iter().any(noticed) && harmless(&found), "{found}");
    let told = ask(&t, &stream, knowing(&t, 100).order(Order::Correlated))?;
    assert!(told.why.contains(&Because::ToldInRuns) && harmless(&told), "{told}");
    // Where nothing can be corrected in the image.
    let mut wide = dark_runs(200, 25);
    wide.images[0] = 1.01;
    assert_eq!(ask(&t, &wide, knowing(&t, 100).order(Order::Correlated))?.method.name(), "rotta");
    // The measure itself: sorted streams are far from random, shuffled ones are not.
    let runs =
        |stream: &Stream| -> Result<f64, Error> { Ok(ask(&t, stream, knowing(&t, 100))?.measured.runs.unwrap()) };
    assert!(runs(&Stream::sorted(200, 74, 25))? > 6.0);
    for seed in 80..100 {
        let found = ask(&t, &Stream::ordinary(200, seed), knowing(&t, 100))?.measured;
        assert!(found.runs.unwrap() < 3.0 && found.largest_class < 0.65, "seed {seed}: {found:?}");
    }
    Ok(())
}

#[test]
fn a_network_without_batch_statistics_gets_none() -> Test {
    for norm in [Norm::Layer, Norm::Group(4)] {
        let t = Trained::with_norm(norm)?;
        // A shift that these layers do not undo by themselves.
        let lens = |_: usize, image: &mut [f32], noise: &mut Noise| {
            image.iter_mut().for_each(|x| *x = (*x + 1.2 * (noise.next() - 0.5)).clamp(0.0, 1.0));
        };
        let shuffled = Stream::new(200, 75, |_, noise| noise.below(CLASSES), lens);
        let found = ask(&t, &shuffled, knowing(&t, 100).order(Order::Shuffled).stream_of(100_000))?;
        assert_eq!((found.measured.batch_norms, found.measured.other_norms), (0, 2));
        assert_eq!(found.method.name(), "roid-views");
        assert_eq!(ask(&t, &shuffled, knowing(&t, 100).order(Order::Shuffled))?.method.name(), "eta");
        let sorted = Stream::new(200, 76, |i, _| (i / 50) as u32 % CLASSES, lens);
        assert_eq!(ask(&t, &sorted, knowing(&t, 100).order(Order::Correlated))?.method.name(), "lame");
        // A batch of four has too few neighbors.
        assert_eq!(ask(&t, &sorted, knowing(&t, 4).order(Order::Correlated))?.method.name(), "calibrate");
    }
    Ok(())
}

#[test]
fn a_network_without_normalization_is_no_error() -> Test {
    let model = SmallCnn::new("", DIMS, &[8], CLASSES as usize)?.with_norm(Norm::None);
    let params = model.init(&Device::cpu(), 1)?;
    let x = Stream::ordinary(40, 1).images;
    let none = SourceStatistics::record(&model, &params, &x, DIMS).unwrap_err().to_string();
    assert!(none.contains("tapped normalization layers of this model is empty"), "{none}");
    let model: Arc<dyn Layer> = Arc::new(model);
    for (batch, expected) in [(1, "memo"), (40, "t3a")] {
        let situation = Situation::batches_of(batch).order(Order::Shuffled);
        let found = Adaptation::recommend(&*model, &params, &x, DIMS, &situation)?;
        assert_eq!(found.method.name(), expected, "{found}");
        assert!(found.to_string().contains("has no normalization layers"));
        Session::new(model.clone(), params.clone(), found.method)?.answer(&x, DIMS)?;
    }
    Ok(())
}

#[test]
fn the_same_numbers_give_the_same_answer() -> Test {
    let t = Trained::new()?;
    let stream = Stream::dark(200, 72);
    let once = ask(&t, &stream, knowing(&t, 100))?;
    let again = ask(&t, &stream, knowing(&t, 100))?;
    assert_eq!((&once.why, &once.measured, once.to_string()), (&again.why, &again.measured, again.to_string()));
    assert_eq!(once.method.config(), again.method.config());
    Ok(())
}

#[test]
fn wrong_input_is_an_error_that_says_what() -> Test {
    let t = Trained::new()?;
    let stream = Stream::ordinary(4, 1);
    let said = |images: &[f32], batch: usize| {
        Adaptation::recommend(&*t.model, &t.params, images, DIMS, &knowing(&t, batch)).unwrap_err().to_string()
    };
    assert!(said(&[], 8).contains("inputs to recommend a method for is empty"), "{}", said(&[], 8));
    assert!(said(&stream.images[1..], 8).contains("inputs of [1, 12, 12], found 575"));
    assert!(said(&stream.images, 0).contains("a batch of the situation is empty"));
    let mut broken = stream.images;
    broken[150] = f32::NAN;
    assert!(said(&broken, 8).contains("inputs to recommend for at position 150: expected a number, found NaN"));
    Ok(())
}
