//! Every method's first steps against its trace.

use acclimate_infer::adapt::Form;
use acclimate_infer::adapt::{
    Affinity, Fisher, FisherKind, Lame, Memory, Policy, Search, alpha_bn, asr, calibrate, come, cotta, deyo,
    distill_online, eata, ema_bn, eta, eta_come, forward_only, frozen, lame, memo, memo_low_rank, note, prior_bn,
    prior_corrected, pseudo_label, rdumb, roid, roid_views, rotta, rpl, sar, sar_come, shot_im, statistics, t3a, tent,
    ttt, ttt_mae,
};
use acclimate_infer::receipt::{Action, Change};
use acclimate_infer::sensor::PARAMETERS;
use acclimate_infer::views::Views;
use acclimate_infer::{
    Adaptation, Answer, Answered, Guard, Moves, Objective, Reset, Session, Settle, SourceStatistics, Teacher,
    Weighting, Window,
};
use acclimate_tensor::Device;
use acclimate_train::nn::Masks;
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
/// batch for each step. Returns how often everything was reset.
pub fn steps_of(device: &Device, name: &str, method: Adaptation) -> usize {
    let t = Trace::read(name);
    let (_, params) = t.network(device);
    let mut session = t.session(device, method);
    let n_steps = t.get("logits").dims[0];
    let mut resets = 0;
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
                .map(|a| f32::from(u8::from(a.receipt.facts.verdict.action != Action::LeftAlone)))
                .collect();
            assert_eq!(kept, t.row("kept", step), "{}", what("rows kept"));
        }
        if t.has("fell") {
            let accepted = answers[0].receipt.facts.verdict.action == Action::Accepted;
            assert_eq!(accepted, t.row("fell", step)[0] == 1.0, "{}", what("accepted"));
        }
        resets += usize::from(answers[0].receipt.facts.verdict.action == Action::Reset);
    }
    resets
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

/// Every method that steps along a stream, with its trace's numbers.
pub fn streams() -> Vec<(&'static str, Adaptation)> {
    let mirrored = Views { count: 2, mirror: true, gain: 0.0, offset: 0.0 };
    let teacher = Teacher { keep: 0.9, views: Some(Views { count: 3, ..mirrored }), unsure: 1.0 };
    let lame_of = |affinity, weight| lame(Lame { affinity, weight, iterations: 100 });
    vec![
        ("pseudo_label", pseudo_label(1e-3, 0.9)),
        ("rpl", rpl(1e-3)),
        ("come", come(1e-3)),
        ("eta", eta(1e-3, 0.6)),
        ("eta_come", eta_come(1e-3, 0.6)),
        ("sar", sar(0.02)),
        ("sar_come", sar_come(0.02)),
        ("deyo", deyo(1e-3)),
        ("shot_im", shot_im(0.01)),
        ("roid", roid(1e-3).objective(Objective::LikelihoodRatio(Some(mirrored)))),
        ("roid_views", roid_views(1e-3).objective(Objective::LikelihoodRatio(Some(mirrored)))),
        ("rdumb", rdumb(1e-3, 0.6).reset(Reset::EveryUpdates(3))),
        ("asr", asr(1e-3, 0.6).reset(Reset::Selective { first: 0.975 })),
        ("cotta", cotta(0.05, 1.0).step(optim::sgd(0.05), 1).teacher(teacher).replace_settle(Settle::Restore(0.05))),
        (
            "rotta",
            rotta(1e-3)
                .statistics(Statistics::Robust(0.2))
                .window(Window::Memory(Memory { size: 8, policy: Policy::Timely }, mirrored))
                .teacher(Teacher { views: None, ..teacher }),
        ),
        (
            "note",
            note(1e-3)
                .statistics(Statistics::Robust(0.2))
                .window(Window::Memory(Memory { size: 8, policy: Policy::Reservoir }, Views { count: 1, ..mirrored })),
        ),
        ("distill_online", distill_online(0.02, 2.0, 0.15)),
        ("alpha_bn", alpha_bn(0.1)),
        ("ema_bn", ema_bn(0.1)),
        ("t3a", t3a(4)),
        ("lame_nearest", lame_of(Affinity::Nearest(5), 1.0)),
        ("lame_gaussian", lame_of(Affinity::Gaussian(5), 0.2)),
        ("lame_linear", lame_of(Affinity::Linear, 0.2)),
        ("prior_corrected", prior_corrected()),
        ("forward_only", forward_only(0.05).search(Search { candidates: 9, width: 0.05 }, 1)),
    ]
}

/// Methods that are wrong in one part each.
#[allow(dead_code)] // one engine is enough
pub fn wrong() -> Vec<(&'static str, Adaptation)> {
    let right = |name: &str| streams().into_iter().find(|(n, _)| *n == name).map(|(_, m)| m).unwrap();
    let bank =
        |policy| Window::Memory(Memory { size: 8, policy }, Views { count: 2, mirror: true, gain: 0.0, offset: 0.0 });
    vec![
        ("tent", tent(1.2e-3)),
        ("pseudo_label", right("rpl")),
        ("rpl", right("rpl").objective(Objective::GeneralizedCrossEntropy(0.7))),
        ("come", right("come").objective(Objective::Entropy)),
        ("eta", right("eta").weighting(Weighting::Equal)),
        ("eta", right("eta").without_guards().guard(Guard::Sure(0.4))),
        ("eta_come", right("eta")),
        ("eata", right("eta")),
        ("sar", right("sar").sharpness_aware(0.04)),
        ("sar", right("sar").step(optim::sgd(0.02), 1)),
        ("sar_recover", right("sar")),
        ("sar_come", right("sar")),
        ("distill_online", distill_online(0.02, 1.5, 0.15)),
        ("distill_online", distill_online(0.02, 2.0, 0.2)),
        ("distill_online", right("distill_online").without_guards().guard(Guard::TrustRegion(0.15))),
        ("deyo", right("deyo").weighting(Weighting::Confidence(0.4))),
        ("shot_im", right("shot_im").moves(Moves::NormAffine)),
        ("roid", right("roid").replace_settle(Settle::TowardsSource(0.98))),
        ("roid", right("roid").objective(Objective::LikelihoodRatio(None))),
        ("roid", right("roid").output(acclimate_infer::Output::AsIs)),
        ("roid_views", right("roid")),
        ("rdumb", right("rdumb").reset(Reset::EveryUpdates(4))),
        ("asr", right("eta")),
        ("cotta", right("cotta").replace_settle(Settle::Restore(0.04))),
        ("cotta", right("cotta").answer(Answer::BeforeStep)),
        ("rotta", right("rotta").statistics(Statistics::Ema(0.2))),
        ("rotta", right("rotta").window(bank(Policy::Reservoir))),
        ("note", right("note").window(bank(Policy::Timely))),
        ("alpha_bn", alpha_bn(0.12)),
        ("ema_bn", right("alpha_bn")),
        ("t3a", t3a(3)),
        ("lame_nearest", right("lame_gaussian")),
        ("prior_corrected", statistics()),
        ("forward_only", forward_only(0.05).search(Search { candidates: 10, width: 0.05 }, 1)),
    ]
}

/// EATA with the importances that the trace was made with.
pub fn eata_trace(device: &Device) {
    let t = Trace::read("eata");
    let (_, params) = t.network(device);
    let values: Vec<f32> = (0..24).map(|i| 0.5 + 1.5 * i as f32 / 23.0).collect();
    let fisher = Fisher::from_values(&params, FisherKind::BatchMeanSquared { batch: 12 }, &values).unwrap();
    steps_of(device, "eata", eata(1e-3, 0.6, fisher, 50.0));
}

/// SAR with a limit that the stream falls below: everything is reset, and the receipts say so.
pub fn sar_recover_trace(device: &Device) {
    let method = sar(0.02).without_guards().guard(Guard::Sure(0.4)).guard(Guard::Recover(0.2));
    let resets = steps_of(device, "sar_recover", method);
    assert!((1..10).contains(&resets), "{resets} resets");
}

/// Ten steps on all turns of each of eight images, each by itself: answers and losses.
pub fn ttt_trace(device: &Device) {
    let t = Trace::read("ttt");
    let (model, params) = t.two_heads(device);
    let method = ttt(&["conv1", "bn1", "side"], 1, 0.1, 10);
    let mut session = Session::new(model, params, method).unwrap().slots(4);
    let answers = session.answer(&t.get("x").values, DIMS).unwrap();
    assert_close("ttt: logits", &logits(&answers), &t.get("logits").values, 10);
    let (before, after) = losses(&answers);
    assert_close("ttt: loss", &before, &t.get("loss").values, 0);
    assert_close("ttt: loss after", &after, &t.get("loss_after").values, 10);
    // A network without a side head is refused, and says so.
    let error = t_without_side_head(device);
    assert!(error.contains("side head"), "{error}");
}

/// MEMO on all parameters, by Δ and by pairs: answers, losses, and how far each parameter moved.
pub fn memo_trace(device: &Device) {
    let t = Trace::read("memo");
    let views = Views { count: 4, mirror: true, gain: 0.0, offset: 0.0 };
    for form in [Form::Delta, Form::Pairs, Form::AllPairs] {
        let method = memo(4, 5e-3).window(Window::Views(views)).without_guards().form(form);
        let mut session = t.session(device, method).slots(3);
        let answers = session.answer(&t.get("x").values, DIMS).unwrap();
        let what = |w: &str| format!("memo {form:?}: {w}");
        assert_close(&what("logits"), &logits(&answers), &t.get("logits").values, 1);
        let (before, after) = losses(&answers);
        assert_close(&what("loss"), &before, &t.get("loss").values, 0);
        assert_close(&what("loss after"), &after, &t.get("loss_after").values, 1);
        for (i, answer) in answers.iter().enumerate() {
            for moved in &answer.receipt.facts.moved.top {
                let gradient = t.row(&format!("grad.{}", moved.path), i);
                let length = 5e-3 * gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
                assert_close(&what(&moved.path), &[moved.norm], &[length], 8);
            }
        }
    }
}

/// MEMO on low-rank additions, three steps, so that both factors move: answers, losses, and how far each factor moved.
pub fn memo_low_rank_trace(device: &Device) {
    let t = Trace::read("memo_low_rank");
    let views = Views { count: 4, mirror: true, gain: 0.0, offset: 0.0 };
    let method = memo_low_rank(4, 2, 0.01).window(Window::Views(views)).without_guards().step(optim::sgd(0.01), 3);
    let mut session = t.session(device, method).slots(3);
    let answers = session.answer(&t.get("x").values, DIMS).unwrap();
    assert_close("low rank: logits", &logits(&answers), &t.get("logits").values, 3);
    let (before, after) = losses(&answers);
    assert_close("low rank: loss", &before, &t.get("loss").values, 0);
    assert_close("low rank: loss after", &after, &t.get("loss_after").values, 3);
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.receipt.facts.moved.top.len(), 5);
        for moved in &answer.receipt.facts.moved.top {
            let length = t.row(&format!("delta.{}", moved.path), i).iter().map(|d| d * d).sum::<f32>().sqrt();
            assert_close(&format!("low rank: {}", moved.path), &[moved.norm], &[length], 3);
        }
    }
}

/// `calibrate` as it is: which candidate, six steps of Adam on the sensor, and every guard's verdict.
pub fn calibrate_trace(device: &Device, method: Adaptation) {
    let t = Trace::read("calibrate");
    let (model, params) = t.network(device);
    let source = SourceStatistics::record(&*model, &params, &t.get("source.x").values, DIMS).unwrap();
    let mut session = Session::with_source(model, params, method, Some(source)).unwrap().slots(3);
    let answers = session.answer(&t.get("x").values, DIMS).unwrap();
    let accepted: Vec<f32> =
        answers.iter().map(|a| f32::from(u8::from(a.receipt.facts.verdict.action == Action::Accepted))).collect();
    assert_eq!(accepted, t.get("accepted").values, "calibrate: verdicts");
    assert_close("calibrate: logits", &logits(&answers), &t.get("logits").values, 6);
    let (before, after) = losses(&answers);
    assert_close("calibrate: loss", &before, &t.get("loss").values, 0);
    assert_close("calibrate: loss after", &after, &t.get("loss_after").values, 6);
    for (i, answer) in answers.iter().enumerate() {
        for moved in &answer.receipt.facts.moved.top {
            let at = PARAMETERS.iter().position(|p| *p == moved.path).unwrap();
            assert_close(&format!("calibrate: {}", moved.path), &[moved.norm], &[t.row("phi", i)[at].abs()], 6);
        }
    }
}

/// The objective of each answer, before its first step and after its last.
fn losses(answers: &[Answered]) -> (Vec<f32>, Vec<f32>) {
    answers.iter().map(|a| a.receipt.facts.loss.unwrap()).map(|l| (l.before, l.after)).unzip()
}

/// Ten steps on a trunk and a side head, whose pairs add up.
pub fn ttt_by_pairs_trace(device: &Device) {
    let t = Trace::read("ttt");
    let (model, params) = t.two_heads(device);
    let method = ttt(&["conv1", "bn1", "side"], 1, 0.1, 10).form(Form::AllPairs);
    let answers = Session::new(model, params, method).unwrap().slots(4).answer(&t.get("x").values, DIMS).unwrap();
    assert_close("ttt by pairs: logits", &logits(&answers), &t.get("logits").values, 10);
}

/// Test-time training by masked patches: five steps with momentum on a trunk and a head that paints.
pub fn ttt_mae_trace(device: &Device) {
    let t = Trace::read("ttt_mae");
    let (model, params) = t.painting(device);
    let method = ttt_mae(&["conv1", "bn1", "side"], Masks::new(4, 2), 0.05, 5);
    let mut session = Session::new(model, params, method).unwrap().slots(4);
    let answers = session.answer(&t.get("x").values, DIMS).unwrap();
    assert_close("ttt-mae: logits", &logits(&answers), &t.get("logits").values, 5);
    let (before, after) = losses(&answers);
    assert_close("ttt-mae: loss", &before, &t.get("loss").values, 0);
    assert_close("ttt-mae: loss after", &after, &t.get("loss_after").values, 5);
    // Patches that do not fill the image are refused, and so is a network that does not paint.
    let (model, params) = t.painting(device);
    let error = |masks: Masks| {
        let method = ttt_mae(&["conv1", "bn1", "side"], masks, 0.05, 1);
        Session::new(model.clone(), params.clone(), method)
            .and_then(|mut session| session.answer(&t.get("x").values, DIMS))
            .unwrap_err()
            .to_string()
    };
    assert!(error(Masks::new(4, 3)).contains("multiples of the patch"), "{}", error(Masks::new(4, 3)));
    assert!(error(Masks::new(0, 2)).contains("at least one mask"));
    assert!(error(Masks { share: 1.0, ..Masks::new(4, 2) }).contains("between 0 and 1"));
    let turns = Trace::read("ttt");
    let (model, params) = turns.two_heads(device);
    let method = ttt_mae(&["conv1", "bn1", "side"], Masks::new(4, 2), 0.05, 1);
    let error = Session::new(model, params, method).unwrap().answer(&t.get("x").values, DIMS).unwrap_err().to_string();
    assert!(error.contains("mask_loss"), "{error}");
}

fn t_without_side_head(device: &Device) -> String {
    let t = Trace::read("tent");
    let x = &t.get("x").values[..64];
    t.session(device, ttt(&["conv1"], 1, 0.1, 1)).answer(x, DIMS).unwrap_err().to_string()
}

/// Every trace.
#[allow(dead_code)] // the software test asks for all at once
pub fn all(device: &Device) {
    statistics_trace(device);
    tent_trace(device);
    memo_affine_trace(device);
    for (name, method) in streams() {
        steps_of(device, name, method);
    }
    ttt_trace(device);
    memo_trace(device);
    memo_low_rank_trace(device);
    calibrate_trace(device, calibrate(2.0));
    ttt_by_pairs_trace(device);
    ttt_mae_trace(device);
    eata_trace(device);
    sar_recover_trace(device);
}
