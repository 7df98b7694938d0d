//! Steps kept as pairs are the steps on all parameters: the same answers but for rounding, in less room.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use std::sync::Arc;

use acclimate_infer::adapt::{Form, memo, memo_affine};
use acclimate_infer::views::Views;
use acclimate_infer::{Adaptation, Anchor, Guard, Moves, Objective, Session, Window};
use acclimate_tensor::Device;
use acclimate_train::nn::{Activation, Conv2d, Flatten, GlobalAvgPool2d, GroupNorm, LayerNorm, Linear, Sequential};
use acclimate_train::{Layer, optim};

const DIMS: [usize; 3] = [1, 8, 8];

/// Wide linear layers with a normalization between them.
fn wide() -> Arc<dyn Layer> {
    let layers = Sequential::new()
        .then(Flatten)
        .then(Linear::new("fc1", 64, 160))
        .then(LayerNorm::new("ln", &[160]))
        .then(Activation::Gelu)
        .then(Linear::new("fc2", 160, 144))
        .then(Activation::Tanh)
        .then(Linear::new("fc3", 144, 5));
    Arc::new(layers)
}

/// Convolutions of which the last, on 2 x 2 pixels, goes by pairs; one grouped, which never does.
fn late_convolution() -> Arc<dyn Layer> {
    let layers = Sequential::new()
        .then(Conv2d::new("conv1", 1, 12, 3).same().strided(2))
        .then(GroupNorm::new("gn1", 4, 12))
        .then(Activation::Relu)
        .then(Conv2d::new("depthwise", 12, 12, 3).same().grouped(12).strided(2))
        .then(Activation::Gelu)
        .then(Conv2d::new("conv2", 12, 48, 3).same())
        .then(Activation::Gelu)
        .then(Conv2d::new("conv3", 48, 64, 3).same())
        .then(Activation::Gelu)
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 64, 5));
    Arc::new(layers)
}

fn images(n: usize) -> Vec<f32> {
    let mut x = 77u32;
    let mut draw = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / 16_777_216.0
    };
    (0..n * 64).map(|i| 0.5 + 0.3 * ((i % 64) as f32 * 0.3 + (i / 64) as f32).sin() + 0.2 * draw()).collect()
}

fn methods(rate: f64) -> Vec<Adaptation> {
    let views = Window::Views(Views::new(3));
    let entropy = Adaptation::new("entropy", Objective::Entropy).moves(Moves::All).step(optim::sgd(10.0 * rate), 1);
    vec![
        memo(3, rate).without_guards(),
        memo(3, rate).guard(Guard::TrustRegion(1e-2)),
        memo(3, rate).without_guards().step(optim::sgd(rate), 3),
        entropy.clone(),
        entropy.moves(Moves::Features).window(views),
    ]
}

fn equal(device: &Device, forms: &[Form], methods: &[Adaptation]) {
    for (name, model) in [("wide", wide()), ("late convolution", late_convolution())] {
        let params = model.init(device, 3).unwrap();
        for method in methods {
            let answer = |form: Form| {
                let mut session =
                    Session::new(model.clone(), params.clone(), method.clone().form(form)).unwrap().slots(4);
                session.answer(&images(4), DIMS).unwrap()
            };
            let by_delta = answer(Form::Delta);
            for &form in forms {
                for (found, expected) in answer(form).iter().zip(&by_delta) {
                    let what = format!("{name}, {}, {form:?}", method.name());
                    // The same sums in another order: a layer adds W·x and at most 3 steps of 48 x 16 rows (conv3's
                    // patches of 576 values each) where the other adds them to W first. At random that is
                    // √(576 + 3·768)·ε relative to the sum of absolute terms, twice for both ways, five layers deep; the
                    // logits are of order 1.
                    let bound = 2.0 * 5.0 * (576.0f32 + 3.0 * 768.0).sqrt() * f32::EPSILON;
                    for (f, e) in found.logits.iter().zip(&expected.logits) {
                        assert!((f - e).abs() <= bound * (1.0 + e.abs()), "{what}: {f} {e}");
                    }
                    let (f, e) = (&found.receipt.facts, &expected.receipt.facts);
                    let names =
                        |m: &acclimate_infer::receipt::Moved| m.top.iter().map(|t| t.path.clone()).collect::<Vec<_>>();
                    assert_eq!(names(&f.moved), names(&e.moved), "{what}");
                    for (f, e) in f.moved.top.iter().zip(&e.moved.top) {
                        assert!(e.norm > 0.0 && (f.norm - e.norm).abs() <= 1e-4 * e.norm, "{what}: {f:?} {e:?}");
                    }
                    assert_eq!(f.verdict.action, e.verdict.action, "{what}");
                }
            }
            // The step is no rounding error: without it the answers are others.
            let frozen = Session::new(model.clone(), params.clone(), acclimate_infer::adapt::frozen())
                .unwrap()
                .answer(&images(4), DIMS)
                .unwrap();
            let far = frozen
                .iter()
                .zip(&by_delta)
                .flat_map(|(a, b)| a.logits.iter().zip(&b.logits))
                .map(|(a, b)| (a - b).abs());
            assert!(far.fold(0f32, f32::max) > 1e-3, "{name}, {}", method.name());
        }
    }
}

#[test]
fn the_answers_are_those_of_the_step_on_all_parameters() {
    equal(&Device::cpu(), &[Form::Pairs, Form::AllPairs], &methods(0.05));
}

#[test]
fn software_the_answers_are_those_of_the_step_on_all_parameters() {
    if let Some(device) = adapter::open(Device::named) {
        equal(&device, &[Form::Pairs], &methods(0.05)[1..3]);
    }
}

#[test]
fn a_slot_needs_less_room() {
    let model = wide();
    let peak = |form: Form| {
        let device = Device::named("cpu").unwrap();
        let params = model.init(&device, 3).unwrap();
        let method = memo(3, 0.05).form(form);
        let mut session = Session::new(model.clone(), params, method).unwrap().slots(16);
        session.answer(&images(16), DIMS).unwrap();
        device.stats().bytes_peak
    };
    let (delta, pairs) = (peak(Form::Delta), peak(Form::Pairs));
    assert!(2 * pairs < delta, "{pairs} bytes by pairs, {delta} by copies");
}

#[test]
fn a_fault_stays_in_its_slot() {
    let model = late_convolution();
    let params = model.init(&Device::cpu(), 3).unwrap();
    let answer = |x: &[f32]| {
        let method = memo(3, 0.05).form(Form::AllPairs);
        let mut session = Session::new(model.clone(), params.clone(), method).unwrap().slots(4);
        session.answer(x, DIMS).unwrap().into_iter().map(|a| a.logits).collect::<Vec<_>>()
    };
    let clean = answer(&images(4));
    for poison in [f32::NAN, f32::INFINITY, 1e30] {
        let mut x = images(4);
        x[64..128].fill(poison);
        let found = answer(&x);
        for slot in [0, 2, 3] {
            assert_eq!(found[slot], clean[slot], "{poison}");
        }
    }
}

#[test]
fn what_is_no_plain_descent_is_refused() {
    let refused = [
        memo(3, 0.05).step(optim::adam(1e-3), 1),
        memo(3, 0.05).step(optim::sgd(1e-3).momentum(0.9), 1),
        memo(3, 0.05).step(optim::sgd(1e-3).clip_norm(1.0), 1),
        memo(3, 0.05).step(optim::sgd(1e-3).decay(0.1), 1),
        memo(3, 0.05).anchor(Anchor::Distance(1.0)),
        acclimate_infer::adapt::tent(1e-3),
        acclimate_infer::adapt::memo_low_rank(3, 2, 1e-2),
        acclimate_infer::adapt::calibrate(0.0),
    ];
    for method in refused {
        let method = method.form(Form::Pairs);
        let error = method.validate().unwrap_err().to_string();
        assert!(error.contains("pairs"), "{}: {error}", method.name());
    }
    assert!(memo_affine(3, 1e-3).form(Form::Pairs).validate().is_ok());
}
