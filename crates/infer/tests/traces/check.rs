//! Every method's first steps against its trace.

use acclimate_infer::adapt::{frozen, prior_bn, statistics, tent};
use acclimate_infer::receipt::Change;
use acclimate_infer::{Adaptation, Answer, Moves, Objective, Reset, Window};
use acclimate_tensor::Device;
use acclimate_train::{Statistics, optim};

use super::traces::{DIMS, Trace, assert_close, logits, moved};

/// What the methods without a step answer.
pub fn statistics_trace(device: &Device) {
    let t = Trace::read("statistics");
    let cases: [(&str, &str, Adaptation); 5] = [
        ("x_clean", "logits.clean", frozen()),
        ("x", "logits.source", frozen()),
        ("x", "logits.batch", statistics()),
        ("x", "logits.prior", prior_bn(16.0)),
        ("x", "logits.prior_alone", prior_bn(16.0)),
    ];
    for (x, expected, method) in cases {
        let expected_logits = &t.get(expected).values;
        let x = &t.get(x).values[..expected_logits.len() / 3 * 64];
        let answers = t.session(device, method).answer(x, DIMS).unwrap();
        assert_close(expected, &logits(&answers), expected_logits, 0);
    }
}

/// A method that steps on the same batch again and again: losses, answers and what moved, step by step. `x` may have a
/// batch for each step.
pub fn steps_of(device: &Device, name: &str, method: Adaptation) {
    let t = Trace::read(name);
    let (_, params) = t.network(device);
    let mut session = t.session(device, method);
    let n_steps = t.get("logits").dims[0];
    for step in 0..n_steps {
        let x = if t.get("x").dims.len() == 5 { t.row("x", step) } else { &t.get("x").values };
        let answers = session.answer(x, DIMS).unwrap();
        let what = |w: &str| format!("{name} step {step}: {w}");
        assert_close(&what("logits"), &logits(&answers), t.row("logits", step), step);
        if t.has("loss") {
            let Some(Change { before, .. }) = answers[0].receipt.facts.loss else { panic!("{name} has no loss") };
            assert_close(&what("loss"), &[before], t.row("loss", step), step);
        }
        let state = session.carried().unwrap();
        let delta = state.delta().to_vec::<f32>().unwrap();
        for entry in session.overlay().entries() {
            let stored = format!("affine.{}", entry.path);
            if t.has(&stored) {
                let found = moved(&session, &params, &delta, &entry.path);
                assert_close(&what(&stored), &found, t.row(&stored, step), step);
            }
        }
        for (key, tensor) in state.iter() {
            if t.has(&key) {
                assert_close(&what(&key), &tensor.to_vec::<f32>().unwrap(), t.row(&key, step), step);
            }
        }
        if t.has("kept") {
            let kept: Vec<f32> = answers
                .iter()
                .map(|a| {
                    let left_alone = a.receipt.facts.verdict.action == acclimate_infer::receipt::Action::LeftAlone;
                    f32::from(u8::from(!left_alone))
                })
                .collect();
            assert_eq!(kept, t.row("kept", step), "{}", what("rows kept"));
        }
    }
}

pub fn tent_trace(device: &Device) {
    steps_of(device, "tent", tent(1e-3));
}

/// One step on given views: they are the rows of a batch, so that no view is drawn.
pub fn memo_affine_trace(device: &Device) {
    let t = Trace::read("memo_affine");
    let (_, params) = t.network(device);
    let method = Adaptation::new("memo-affine on given views", Objective::MarginalEntropy)
        .moves(Moves::NormAffine)
        .statistics(Statistics::Prior(16.0))
        .step(optim::sgd(5e-3), 1)
        .window(Window::ThisBatch)
        .reset(Reset::Never)
        .answer(Answer::AfterStep);
    let views = &t.get("views").values;
    let mut session = t.session(device, method.clone());
    let after = session.answer(views, DIMS).unwrap();
    assert_close("logits after", &logits(&after), &t.get("logits_after").values, 1);
    let loss = after[0].receipt.facts.loss.unwrap();
    assert_close("loss", &[loss.before, loss.after], &[t.get("loss").values[0], t.get("loss_after").values[0]], 1);
    let delta = session.carried().unwrap().delta().to_vec::<f32>().unwrap();
    for entry in session.overlay().entries() {
        let found = moved(&session, &params, &delta, &entry.path);
        assert_close(&entry.path, &found, &t.get(&format!("affine.{}", entry.path)).values, 1);
        // Δ alone is −rate · gradient: the sum above would hide a wrong one.
        let gradient = t.get(&format!("grad.{}", entry.path)).values.iter().map(|g| -5e-3 * g).collect::<Vec<_>>();
        assert_close(&entry.path, &delta[entry.offset..entry.offset + entry.len()], &gradient, 8);
    }
    let before = t.session(device, method.answer(Answer::BeforeStep)).answer(views, DIMS).unwrap();
    assert_close("logits before", &logits(&before), &t.get("logits_before").values, 0);
}

/// Every trace.
#[allow(dead_code)] // the software test asks for all at once
pub fn all(device: &Device) {
    statistics_trace(device);
    tent_trace(device);
    memo_affine_trace(device);
}
