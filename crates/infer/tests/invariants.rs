//! What must hold of methods whatever the data: the invariants of their definitions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod traces;

use acclimate_infer::adapt::{
    Affinity, Carried, Fisher, FisherKind, Lame, Memory, Policy, Prototypes, alpha_bn, asr, come, cotta, deyo, eata,
    ema_bn, eta, forward_only, frozen, lame, memo, memo_affine, memo_low_rank, note, pseudo_label, rdumb, roid,
    roid_views, rotta, rpl, sar, shot_im, statistics, t3a, tent,
};
use acclimate_infer::receipt::{Action, Inputs, Reason, replay};
use acclimate_infer::views::Views;
use acclimate_infer::{
    Adaptation, Answer, Answered, Guard, Moves, Objective, Reset, Session, Settle, Teacher, Weighting, Window,
};
use acclimate_kernels::TensorOps;
use acclimate_tensor::{Device, Tensor, grad};
use acclimate_train::nn::{BatchNorm, GroupNorm, Linear, Sequential};
use acclimate_train::{Layer, Pass, Statistics, loss, optim};
use traces::{DIMS, Trace, logits};

/// One device for all, so that states can go from session to session.
fn device() -> &'static Device {
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    DEVICE.get_or_init(Device::cpu)
}

fn trace() -> Trace {
    Trace::read("eta")
}

/// Batch `i` of a drifting stream: twelve images.
fn batch(i: usize) -> Vec<f32> {
    trace().row("x", i).to_vec()
}

fn session(method: Adaptation) -> Session {
    trace().session(device(), method)
}

fn bits(answers: &[Answered]) -> Vec<u32> {
    logits(answers).iter().map(|x| x.to_bits()).collect()
}

fn state_bits(state: &Carried) -> Vec<(String, Vec<u32>)> {
    state.iter().map(|(n, t)| (n, t.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect())).collect()
}

fn close(a: &[f32], b: &[f32], bound: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= bound * (1.0 + b.abs()), "{a} and {b}");
    }
}

/// α-statistics at 0 are the source's; at 1 the batch's, with n − 1 in place of n under the variance.
#[test]
fn alpha_goes_from_source_to_batch() {
    let x = batch(0);
    close(
        &logits(&session(alpha_bn(0.0)).answer(&x, DIMS).unwrap()),
        &logits(&session(frozen()).answer(&x, DIMS).unwrap()),
        1e-5,
    );
    let device = Device::cpu();
    let layer = BatchNorm::new("bn", 1).with_eps(0.0);
    let params = layer.init(&device, 0).unwrap();
    let x = Tensor::from_slice(&device, &[1.0f32, 2.0, 4.0, 5.0], &[4, 1]).unwrap();
    let of = |statistics| {
        let mut pass = Pass::infer().with_statistics(statistics);
        layer.apply(&params, &x, &mut pass).unwrap().to_vec::<f32>().unwrap()
    };
    let expected: Vec<f32> = of(Statistics::Batch).iter().map(|v| v * (3.0f32 / 4.0).sqrt()).collect();
    close(&of(Statistics::Alpha(1.0)), &expected, 1e-6);
}

/// For a rate that goes to 0, one step changes the batch's mean entropy by −rate·‖gradient‖².
#[test]
fn a_small_step_lowers_the_entropy_as_its_gradient_says() {
    let t = trace();
    let (model, params) = t.network(device());
    let x = Tensor::from_slice(params.device(), &batch(0), &[12, 1, 8, 8]).unwrap();
    let paths = params.select(|_, kind| kind.is_norm_affine());
    let moving = params.subset(&paths).unwrap();
    let logits = model
        .apply(&params.overlaid(&moving).unwrap(), &x, &mut Pass::infer().with_statistics(Statistics::Batch))
        .unwrap();
    let gradient = grad(&loss::mean(&loss::entropy(&logits).unwrap()).unwrap(), moving.arena().clone()).unwrap();
    let square = gradient.square().unwrap().sum(&[]).unwrap().item().unwrap();
    let rate = 2e-3;
    let method = tent(1e-3).step(optim::sgd(f64::from(rate)), 1).answer(Answer::AfterStep);
    let change = session(method).answer(&batch(0), DIMS).unwrap()[0].receipt.facts.loss.unwrap();
    let ratio = (change.after - change.before) / (-rate * square);
    assert!((0.9..1.1).contains(&ratio), "{change:?} against −{rate}·{square}: ratio {ratio}");
}

/// Where filters keep nothing, nothing moves: overlay, moments and memories are the same bits, and receipts say why.
#[test]
fn nothing_kept_is_nothing_moved() {
    let never = Guard::Sure(0.0);
    let fisher = {
        let (_, params) = trace().network(device());
        Fisher::from_values(&params, FisherKind::PerSample, &[1.0; 24]).unwrap()
    };
    let methods = [
        eta(1e-2, 0.9),
        eata(1e-2, 0.9, fisher, 1.0),
        deyo(1e-2),
        sar(1e-2),
        rdumb(1e-2, 0.9),
        pseudo_label(1e-2, 0.9),
        roid(1e-2),
        roid_views(1e-2),
        come(1e-2),
        cotta(1e-2, 0.9).teacher(Teacher { keep: 0.9, views: None, unsure: 0.0 }),
    ];
    for method in methods {
        let name = method.name().to_owned();
        // Two ordinary batches, so that moments and memories hold something; then filters that nothing passes.
        let mut ordinary = session(method.clone());
        ordinary.answer(&batch(0), DIMS).unwrap();
        ordinary.answer(&batch(1), DIMS).unwrap();
        let before = ordinary.carried().unwrap().clone();
        let mut strict = session(method.guard(never));
        strict.resume(before.clone()).unwrap();
        let answers = strict.answer(&batch(2), DIMS).unwrap();
        assert_eq!(state_bits(strict.carried().unwrap()), state_bits(&before), "{name}");
        assert!(before.delta().to_vec::<f32>().unwrap().iter().any(|d| *d != 0.0), "{name} moved before");
        for a in &answers {
            assert_eq!(a.receipt.facts.verdict.action, Action::LeftAlone, "{name}");
            assert!(a.logits.iter().all(|x| x.is_finite()), "{name}");
        }
        let first = &answers[0].receipt.facts.verdict.reason;
        assert!(!matches!(first, Reason::PassedFilters | Reason::NoGuard), "{name}: {first:?}");
        assert!(first.to_string().len() > 20);
    }
}

/// Without a radius, SAR is filtered TENT on the same parameters.
#[test]
fn sar_without_a_radius_is_filtered_tent() {
    let filtered = tent(1e-2)
        .moves(Moves::EarlyNormAffine { skip_last: 1 })
        .step(optim::sgd(1e-2).momentum(0.9), 1)
        .guard(Guard::Sure(0.4));
    let (mut a, mut b) = (session(sar(1e-2).sharpness_aware(0.0)), session(filtered));
    for i in 0..4 {
        close(&logits(&a.answer(&batch(i), DIMS).unwrap()), &logits(&b.answer(&batch(i), DIMS).unwrap()), 1e-6);
    }
    let delta = |s: &Session| s.carried().unwrap().delta().to_vec::<f32>().unwrap();
    close(&delta(&a), &delta(&b), 1e-6);
    assert!(delta(&a).iter().any(|d| d.abs() > 1e-4));
}

/// MEMO with the identity as its only view is TENT on one input and all parameters; identical views pull as one.
#[test]
fn memo_on_one_view_is_tent_on_one_input() {
    let one = Adaptation::new("entropy of one input", Objective::Entropy)
        .moves(Moves::All)
        .statistics(Statistics::Prior(16.0))
        .step(optim::sgd(5e-2), 1)
        .guard(Guard::LossMustFall);
    let x = batch(0);
    let a = session(memo(1, 5e-2)).answer(&x, DIMS).unwrap();
    let b = session(one).answer(&x, DIMS).unwrap();
    close(&logits(&a), &logits(&b), 1e-6);
    assert_ne!(bits(&a), bits(&session(frozen()).answer(&x, DIMS).unwrap()), "a step was taken");
    let same = |rows: usize, objective| {
        let method = tent(1e-3)
            .objective(objective)
            .moves(Moves::All)
            .statistics(Statistics::Source)
            .step(optim::sgd(5e-2), 1)
            .answer(Answer::AfterStep);
        let mut s = session(method);
        s.answer(&x[..64].repeat(rows), DIMS).unwrap();
        s.carried().unwrap().delta().to_vec::<f32>().unwrap()
    };
    close(&same(4, Objective::MarginalEntropy), &same(1, Objective::Entropy), 1e-5);
}

/// LAME without weight is softmax; with a positive semidefinite kernel its energy never rises; alone, by neighbors, an
/// input stays.
#[test]
fn lame_keeps_its_promises() {
    let device = Device::cpu();
    let x = batch(0);
    let source = session(frozen()).answer(&x, DIMS).unwrap();
    let off = session(lame(Lame { weight: 0.0, ..Lame::default() })).answer(&x, DIMS).unwrap();
    let alone = session(lame(Lame::default())).answer(&x[..64], DIMS).unwrap();
    for (a, b) in off.iter().chain(&alone).zip(source.iter().chain(&source)) {
        close(&a.probabilities(), &b.probabilities(), 1e-6);
    }
    let z = Tensor::from_slice(&device, &logits(&source), &[12, 3]).unwrap();
    let features = Tensor::from_slice(&device, &x, &[12, 64]).unwrap();
    let gaussian = Lame { affinity: Affinity::Gaussian(5), weight: 1.0, iterations: 1 };
    let near = gaussian.affinity(&features).unwrap().to_vec::<f32>().unwrap();
    let p = z.softmax(1).unwrap().to_vec::<f32>().unwrap();
    let energy = |log_y: &[f32]| -> f64 {
        let y: Vec<f64> = log_y.iter().map(|l| f64::from(*l).exp()).collect();
        let own: f64 = y.iter().zip(&p).zip(log_y).map(|((y, p), l)| y * (f64::from(*l) - f64::from(*p).ln())).sum();
        let pair = |i: usize, j: usize| (0..3).map(|k| y[3 * i + k] * y[3 * j + k]).sum::<f64>();
        let pairs: f64 = (0..144).map(|ij| f64::from(near[ij]) * pair(ij / 12, ij % 12)).sum();
        own - 0.5 * pairs
    };
    let mut last = energy(&z.log_softmax(1).unwrap().to_vec::<f32>().unwrap());
    let start = last;
    for iterations in 1..30 {
        let now = energy(&Lame { iterations, ..gaussian }.of(&z, &features).unwrap().to_vec::<f32>().unwrap());
        assert!(now <= last + 1e-5, "iteration {iterations}: {last} then {now}");
        last = now;
    }
    assert!(last < start - 1e-2, "{start} to {last}");
    let one = gaussian.of(&z.narrow(0, 0, 1).unwrap(), &features.narrow(0, 0, 1).unwrap()).unwrap();
    assert!(one.to_vec::<f32>().unwrap().iter().all(|l| l.is_finite()), "one input divides by no width");
}

/// T3A before any input: z·W/‖W_c‖.
#[test]
fn prototypes_begin_as_the_classifier() {
    let device = Device::cpu();
    let model = Sequential::new().then(acclimate_train::nn::GlobalAvgPool2d).then(Linear::new("fc", 3, 3));
    // Rows that the classifier gives their own class.
    let weight = [3.0f32, 0.1, 0.2, -0.3, 2.0, 0.1, 0.2, 0.4, 4.0];
    let named = vec![("fc.weight".into(), vec![3, 3], weight.to_vec()), ("fc.bias".into(), vec![3], vec![0.1; 3])];
    let params = model.init(&device, 0).unwrap().with_values(named, "test").unwrap();
    let p = Prototypes { keep: 2 };
    let [supports, entropies] = p.initial(&model, &params, [3, 2, 2]).unwrap();
    let z = [0.3f32, -1.0, 2.0];
    let scores = p.score([&supports, &entropies], &Tensor::from_slice(&device, &z, &[1, 3]).unwrap()).unwrap();
    let expected: Vec<f32> = weight
        .chunks(3)
        .map(|w| w.iter().zip(&z).map(|(w, z)| w * z).sum::<f32>() / w.iter().map(|w| w * w).sum::<f32>().sqrt())
        .collect();
    close(&scores.to_vec::<f32>().unwrap(), &expected, 1e-6);
}

/// CoTTA: a teacher that keeps all of itself stays; elements that all go back are at the source after each step.
#[test]
fn the_teacher_and_the_restore_at_their_ends() {
    let still = Teacher { keep: 1.0, views: Some(Views::new(2)), unsure: 1.0 };
    let mut s = session(cotta(1e-2, 1.0).teacher(still).replace_settle(Settle::Restore(0.0)));
    for i in 0..3 {
        s.answer(&batch(i), DIMS).unwrap();
    }
    let state = s.carried().unwrap();
    let teacher = state.iter().find(|(n, _)| n == "memory/teacher").unwrap().1.to_vec::<f32>().unwrap();
    assert!(teacher.iter().all(|t| *t == 0.0));
    assert!(state.delta().to_vec::<f32>().unwrap().iter().any(|d| *d != 0.0));
    let mut s = session(cotta(1e-2, 1.0).replace_settle(Settle::Restore(1.0)));
    s.answer(&batch(0), DIMS).unwrap();
    assert!(s.carried().unwrap().delta().to_vec::<f32>().unwrap().iter().all(|d| *d == 0.0));
}

/// A bank never holds more than its size; a timely one no more of a class than its share, once every class is there; the
/// same inputs in the same order leave the same bank.
#[test]
fn banks_stay_within_their_size_and_shares() {
    for (policy, method) in [(Policy::Timely, rotta(1e-3)), (Policy::Reservoir, note(1e-3))] {
        let window = Window::Memory(Memory { size: 10, policy }, Views::new(1));
        let run = || {
            let mut s = session(method.clone().window(window));
            let mut banks = Vec::new();
            for i in 0..10 {
                s.answer(&batch(i), DIMS).unwrap();
                let state = s.carried().unwrap();
                let facts = state.iter().find(|(n, _)| n == "memory/bank_facts").unwrap().1.to_vec::<f32>().unwrap();
                banks.push(facts);
            }
            banks
        };
        let banks = run();
        for (i, facts) in banks.iter().enumerate() {
            let part = |k: usize| &facts[10 * k..10 * (k + 1)];
            let filled: Vec<usize> = (0..10).filter(|&j| part(3)[j] == 1.0).collect();
            assert_eq!(filled, (0..filled.len()).collect::<Vec<_>>(), "filled places are the first");
            let of_class = |c: f32| filled.iter().filter(|&&j| part(0)[j] == c).count();
            let held = [of_class(0.0), of_class(1.0), of_class(2.0)];
            assert_eq!(held.iter().sum::<usize>(), filled.len());
            if policy == Policy::Timely {
                assert!(held.iter().all(|&n| n <= 4), "{policy:?} batch {i}: {held:?} of at most ⌈10/3⌉");
            } else {
                assert_eq!(filled.len(), 10, "a reservoir fills first");
            }
        }
        assert_eq!(banks, run(), "{policy:?}");
    }
}

/// Low-rank additions start at nothing: the answer is the frozen one, bit for bit, and the first step moves it.
#[test]
fn low_rank_starts_as_the_source() {
    let x = batch(0);
    let source = bits(&session(frozen()).answer(&x, DIMS).unwrap());
    let unmoved =
        Adaptation::new("low rank", Objective::None).moves(Moves::LowRank { rank: 2, scale: 1.0, under: Vec::new() });
    for slots in [1, 5] {
        let frozen_slots = bits(&session(frozen()).slots(slots).answer(&x, DIMS).unwrap());
        assert_eq!(
            bits(&session(unmoved.clone()).slots(slots).answer(&x, DIMS).unwrap()),
            frozen_slots,
            "{slots} slots"
        );
    }
    let answers = session(memo_low_rank(4, 2, 0.1)).slots(4).answer(&x, DIMS).unwrap();
    let accepted: Vec<_> = answers.iter().filter(|a| a.receipt.facts.verdict.action == Action::Accepted).collect();
    assert!(accepted.len() > 6, "{}", accepted.len());
    assert!(accepted.iter().all(|a| a.receipt.facts.moved.top[0].path.ends_with("#up")));
    assert_ne!(bits(&answers), source);
    // Each input by itself: the same in any slot.
    let single: Vec<u32> = {
        let mut s = session(memo_low_rank(4, 2, 0.1)).slots(4);
        x.chunks(64).flat_map(|x| bits(&s.answer(x, DIMS).unwrap())).collect()
    };
    assert_eq!(single, bits(&answers));
}

/// Every method: the same seed gives the same receipts, a reset gives the first answers again, replay holds, and the
/// source never changes.
#[test]
fn every_method_repeats_itself() {
    let dir = tempfile::tempdir().unwrap();
    let few = Some(Views::new(3));
    let methods = [
        pseudo_label(1e-2, 0.9),
        rpl(1e-2),
        come(1e-2),
        eta(1e-2, 0.9),
        sar(1e-2),
        deyo(1e-2),
        shot_im(1e-2),
        roid(1e-2),
        roid_views(1e-2),
        rdumb(1e-2, 0.9).reset(Reset::EveryUpdates(2)),
        asr(1e-2, 0.9),
        cotta(1e-2, 1.0).teacher(Teacher { keep: 0.9, views: few, unsure: 1.0 }),
        rotta(1e-2),
        note(1e-2),
        alpha_bn(0.1),
        ema_bn(0.1),
        t3a(4),
        forward_only(0.05),
        lame(Lame::default()),
        memo(3, 1e-2),
        memo_low_rank(3, 2, 1e-2),
    ];
    for method in methods {
        let name = method.name().to_owned();
        let run = |log: &str| {
            let mut s =
                session(method.clone()).seed(3).receipts_to(dir.path().join(log)).unwrap().keep_inputs().unwrap();
            let before = s.base_hash_now().unwrap();
            let answers: Vec<Vec<Answered>> = (0..4).map(|i| s.answer(&batch(i), DIMS).unwrap()).collect();
            s.finish().unwrap();
            assert_eq!(s.base_hash_now().unwrap(), before, "{name}");
            (s, answers)
        };
        let (log, again) = (format!("{name}-1.jsonl"), format!("{name}-2.jsonl"));
        let ((mut s, first), (_, second)) = (run(&log), run(&again));
        for (a, b) in first.iter().flatten().zip(second.iter().flatten()) {
            let facts = |a: &Answered| serde_json::to_string(&a.receipt.facts).unwrap();
            assert_eq!(facts(a), facts(b), "{name}");
        }
        let report = replay(dir.path().join(&log), &mut s.source().unwrap(), Inputs::kept()).unwrap();
        assert!(report.holds(), "{name}: {report}");
        s.reset();
        // Draws go by sequence numbers, which go on.
        if !["deyo", "roid", "roid-views", "cotta", "rotta", "note", "forward-only", "memo", "memo-low-rank"]
            .contains(&name.as_str())
        {
            assert_eq!(bits(&s.answer(&batch(0), DIMS).unwrap()), bits(&first[0]), "{name}");
        }
    }
}

/// Every batch method is one submission a batch, and builds, allocates and plans nothing from the third batch on.
#[test]
fn one_submission_and_nothing_new() {
    let few = Teacher { keep: 0.9, views: Some(Views::new(3)), unsure: 1.0 };
    for method in [
        eta(1e-2, 0.9),
        sar(1e-2),
        deyo(1e-2),
        roid(1e-2),
        roid_views(1e-2),
        rdumb(1e-2, 0.9).reset(Reset::EveryUpdates(2)),
        asr(1e-2, 0.9),
        cotta(1e-2, 1.0).teacher(few),
        rotta(1e-2),
        note(1e-2),
        ema_bn(0.1),
        t3a(4),
        forward_only(0.05),
        lame(Lame::default()),
    ] {
        let name = method.name().to_owned();
        let device = Device::cpu();
        let mut s = trace().session(&device, method);
        s.warm(DIMS, 12).unwrap();
        (0..3).for_each(|i| drop(s.answer(&batch(i), DIMS).unwrap()));
        let before = device.stats();
        (3..8).for_each(|i| drop(s.answer(&batch(i), DIMS).unwrap()));
        let after = device.stats();
        assert_eq!(after.submissions - before.submissions, 5, "{name}");
        assert_eq!(
            (after.plans_built, after.buffers_allocated, after.bytes_live),
            (before.plans_built, before.buffers_allocated, before.bytes_live),
            "{name}"
        );
    }
}

/// A batch with a NaN in it: every answer is the frozen one, nothing that is carried changes, and receipts say so.
#[test]
fn a_batch_that_is_not_finite_moves_nothing() {
    for method in [eta(1e-2, 0.9), sar(1e-2), roid(1e-2), cotta(1e-2, 0.0), rotta(1e-2), ema_bn(0.1), t3a(4)] {
        let name = method.name().to_owned();
        let mut s = session(method);
        s.answer(&batch(0), DIMS).unwrap();
        let before = state_bits(s.carried().unwrap());
        let mut bad = batch(1);
        bad[70] = f32::NAN;
        let answers = s.answer(&bad, DIMS).unwrap();
        assert_eq!(state_bits(s.carried().unwrap()), before, "{name}");
        assert!(answers.iter().all(|a| a.receipt.facts.verdict.action == Action::RolledBack), "{name}");
        let source = session(frozen()).answer(&bad, DIMS).unwrap();
        assert!(answers.iter().zip(&source).enumerate().all(|(i, (a, b))| i == 1 || a.logits == b.logits), "{name}");
        s.answer(&batch(1), DIMS).unwrap();
        assert_ne!(state_bits(s.carried().unwrap()), before, "{name} goes on");
    }
}

/// The step of an input is the same however many slots there are: losses are summed over them, never averaged.
#[test]
fn a_step_does_not_depend_on_the_number_of_slots() {
    let x = batch(0);
    let moved = |slots: usize| {
        let answers = session(memo_affine(3, 1e-2)).slots(slots).answer(&x, DIMS).unwrap();
        answers.iter().map(|a| a.receipt.facts.moved.norm).collect::<Vec<_>>()
    };
    let one = moved(1);
    assert!(one.iter().all(|n| *n > 1e-6));
    for slots in [3, 12] {
        close(&moved(slots).iter().zip(&one).map(|(a, b)| a / b).collect::<Vec<_>>(), &[1.0; 12], 1e-4);
    }
}

/// Both definitions of the Fisher information, by name: squared gradients of single inputs, and of batch means.
#[test]
fn both_fisher_informations_are_what_they_say() {
    let t = trace();
    let (model, params) = t.network(device());
    let images = batch(0);
    let of = |kind| {
        let moves = Moves::NormAffine;
        let fisher = Fisher::record(&*model, &params, &moves, &images, DIMS, kind, Statistics::Source).unwrap();
        fisher.values().to_vec::<f32>().unwrap()
    };
    let by_hand = |group: usize| {
        let mut total = vec![0f32; 24];
        for part in images.chunks(group * 64) {
            let x = Tensor::from_slice(params.device(), part, &[group, 1, 8, 8]).unwrap();
            let own = |p: &str| params.get(p).unwrap();
            let mut leaves: Vec<(String, Tensor)> = Vec::new();
            for path in params.select(|_, kind| kind.is_norm_affine()) {
                leaves.push((path.clone(), own(&path).add_scalar(0.0).unwrap()));
            }
            let z = model.forward(&params.with_overrides(leaves.clone()).unwrap(), &x).unwrap();
            let targets: Vec<Tensor> = leaves.into_iter().map(|(_, t)| t).collect();
            let grads = grad(&loss::mean(&loss::pseudo_label(&z).unwrap()).unwrap(), targets).unwrap();
            let flat = grads.iter().flat_map(|g| g.to_vec::<f32>().unwrap());
            total.iter_mut().zip(flat).for_each(|(t, g)| *t += g * g * group as f32 / 12.0);
        }
        total
    };
    let (sample, mean) = (of(FisherKind::PerSample), of(FisherKind::BatchMeanSquared { batch: 4 }));
    let scale = |v: &[f32]| v.iter().fold(0f32, |m, x| m.max(*x));
    for (found, expected) in [(&sample, by_hand(1)), (&mean, by_hand(4))] {
        let scale = scale(&expected);
        assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() <= 1e-4 * scale), "{found:?} {expected:?}");
    }
    assert!(mean.iter().sum::<f32>() < sample.iter().sum::<f32>(), "the mean's gradient is the shorter one");
    assert!(
        Fisher::record(
            &*model,
            &params,
            &Moves::NormAffine,
            &images[..64],
            DIMS,
            FisherKind::BatchMeanSquared { batch: 4 },
            Statistics::Source
        )
        .is_err()
    );
}

/// The state goes to a list of names and values and back, and is refused where it does not fit.
#[test]
fn the_state_is_complete_and_checked() {
    let mut s = session(eta(1e-2, 0.9));
    (0..3).for_each(|i| drop(s.answer(&batch(i), DIMS).unwrap()));
    let state = s.carried().unwrap().clone();
    assert!(state.names().iter().any(|n| n == "delta") && state.names().iter().any(|n| n == "memory/seen_probability"));
    let values: Vec<(String, Tensor)> = state.iter().map(|(n, t)| (n, t.clone())).collect();
    let mut other = session(eta(1e-2, 0.9));
    other.answer(&batch(7), DIMS).unwrap();
    other.resume(other.carried().unwrap().with_values(values.clone()).unwrap()).unwrap();
    let (a, b) = (s.answer(&batch(4), DIMS).unwrap(), other.answer(&batch(4), DIMS).unwrap());
    assert_eq!(bits(&a), bits(&b));
    let says = |values: Vec<(String, Tensor)>, what: &str| {
        let text = state.with_values(values).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(what), "`{text}` should contain `{what}`");
    };
    says(values[1..].to_vec(), "delta");
    let extra = values.iter().cloned().chain([("memory/more".to_owned(), values[0].1.clone())]);
    says(extra.collect(), "memory/more");
    let wrong =
        values.iter().cloned().map(|(n, t)| if n == "delta" { (n, t.narrow(0, 0, 3).unwrap()) } else { (n, t) });
    says(wrong.collect(), "delta");
    let elsewhere = other.resume(state.to_device(&Device::cpu()).unwrap()).unwrap_err().to_string();
    assert!(elsewhere.contains("to_device"), "{elsewhere}");
    // A state of another method is refused.
    assert!(session(tent(1e-2)).resume(state).is_err());
}

/// Methods whose parts do not fit together say which.
#[test]
fn parts_that_do_not_fit_are_refused() {
    let says = |method: Adaptation, what: &str| {
        let t = trace();
        let (model, params) = t.network(device());
        let text = Session::new(model, params, method).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(what), "`{text}` should contain `{what}`");
    };
    says(statistics().guard(Guard::Sure(0.4)), "without a loss of rows");
    says(shot_im(1e-2).guard(Guard::Sure(0.4)), "without a loss of rows");
    says(tent(1e-2).moves(Moves::EarlyNormAffine { skip_last: 2 }), "[\"bn1\", \"bn2\"]");
    says(tent(1e-2).moves(Moves::EarlyNormAffine { skip_last: 0 }), "skipping the last 0");
    says(tent(1e-2).guard(Guard::Unseen(2.0)), "guard");
    says(tent(1e-2).answer(Answer::Teacher), "teacher");
    says(tent(1e-2).weighting(Weighting::DiversityAndCertainty { temperature: 0.0 }), "temperature");
    says(t3a(0), "at least one support");
    says(memo(2, 1e-2).guard(Guard::Unseen(0.5)), "per-input window");
    says(frozen().window(Window::ThisInput).moves(Moves::LowRank { rank: 0, scale: 1.0, under: vec![] }), "selects no");
    // A group-normalized network has early stages as well.
    let model = Sequential::new().then(GroupNorm::new("a.norm", 1, 2)).then(GroupNorm::new("b.norm", 1, 2));
    let params = model.init(&Device::cpu(), 0).unwrap();
    let model: std::sync::Arc<dyn Layer> = std::sync::Arc::new(model);
    let s = Session::new(model, params, tent(1e-2).moves(Moves::EarlyNormAffine { skip_last: 1 })).unwrap();
    assert!(s.overlay().entries().iter().all(|e| e.path.starts_with("a.norm.")) && s.overlay().len() == 4);
}
