//! The rules by which a method is recommended: what fits, best first, from what was measured.
//!
//! Their order is that of what does harm: an ordinary stream is left as it is, one input alone is kept from statistics of its
//! own, inputs whose labels come in runs are kept from batch statistics and entropy, and only then the length of the stream
//! decides between statistics and steps. Thresholds that no paper gives are constants here, each with its reason.

use super::measured::Measured;
use super::presets::{
    alpha_bn, calibrate, eta, frozen, lame, memo, memo_affine, prior_bn, roid_views, rotta, statistics, t3a,
};
use super::recommend::{Because, Order, Situation};
use super::{Adaptation, Lame};

/// Share of inputs above the source's 95 percent quantile that is still ordinary, before twice the standard error: twice the
/// 5 % of the source images themselves, as fresh images are a little more unusual than those the quantile was taken of.
const ORDINARY: f64 = 0.1;
/// Entropy, as a share of ln C, up to which answers count as sure where nothing else is known. Chosen.
const SURE: f64 = 0.2;
/// Standard deviations of the test of runs: one random order in 700 is mistaken.
const RUNS: f64 = 3.0;
/// Inputs that estimate batch statistics alone (benchmarks: 64 for ImageNet, 200 for CIFAR).
const FULL_BATCH: usize = 64;
/// Batches from which on a stepping method can be told from batch statistics.
const LONG: u64 = 50;
/// Neighbors of LAME, and a batch that has others beside them.
const NEIGHBORS: usize = 16;

/// A method that may be taken, its cost in forward passes (with the frozen one for the receipt), and what speaks for it.
pub(super) struct Candidate(pub Adaptation, pub f64, pub &'static str);

/// Whether inputs are ordinary, and why.
fn is_ordinary(m: &Measured) -> (bool, Because) {
    match m.unusual {
        Some(u) => {
            let limit = ORDINARY + 2.0 * (0.05 * 0.95 / m.inputs as f64).sqrt();
            let ordinary = u.share <= limit;
            let share = u.share;
            (ordinary, if ordinary { Because::Ordinary { share, limit } } else { Because::Shifted { share, limit } })
        }
        None => {
            let (entropy, limit) = (m.entropy, SURE);
            let sure = entropy <= limit;
            (sure, if sure { Because::Sure { entropy, limit } } else { Because::Unsure { entropy, limit } })
        }
    }
}

/// Whether labels come in runs, and what says so.
fn in_runs(m: &Measured, order: Order) -> Option<Because> {
    let limit = 1.0 / m.classes as f64 + 0.4; // of ten classes one half
    match (order, m.runs) {
        (Order::Shuffled, _) => None,
        (Order::Correlated, _) => Some(Because::ToldInRuns),
        (Order::Unknown, Some(deviations)) if deviations > RUNS => Some(Because::InRuns { deviations, limit: RUNS }),
        (Order::Unknown, _) if m.inputs > 1 && m.largest_class > limit => {
            Some(Because::OneClass { share: m.largest_class, limit })
        }
        (Order::Unknown, _) => None,
    }
}

/// The rules: what fits, best first.
pub(super) fn choose(m: &Measured, s: &Situation) -> (Vec<Because>, Vec<Candidate>) {
    let mut why = vec![Because::Layers { batch_norms: m.batch_norms, other_norms: m.other_norms }];
    let gate = m.unusual.filter(|_| m.unit_range).map(|u| u.gate);
    let sensor = |reason| gate.map(|gate| Candidate(calibrate(gate), 25.0, reason));
    let (ordinary, because) = is_ordinary(m);
    why.push(because);
    if ordinary {
        let leave = Candidate(frozen(), 1.0, "batch statistics and steps cost accuracy where nothing is wrong");
        let gated = sensor("its gate leaves ordinary inputs alone, and is there when the stream shifts");
        return (why, gated.into_iter().chain([leave]).collect());
    }
    let (batch_norm, any_norm) = (m.batch_norms > 0, m.batch_norms + m.other_norms > 0);
    if s.batch == 1 {
        why.push(Because::Batch { inputs: 1 });
        let mut found: Vec<_> = sensor("each image is corrected alone, whatever came before").into_iter().collect();
        if any_norm {
            let reason =
                "one step a view set, on source statistics that count as 16 inputs, undone if it does not help";
            found.push(Candidate(memo_affine(16, 5e-3), 60.0, reason));
            found.push(Candidate(memo_affine(4, 5e-3), 16.0, "as much of it as there is time for"));
        } else {
            found.push(Candidate(
                memo(16, 5e-3),
                60.0,
                "without normalization layers all parameters may move, for one input",
            ));
        }
        if batch_norm {
            found.push(Candidate(alpha_bn(0.1), 2.0, "a tenth of the input's own statistics costs one forward pass"));
        }
        return (why, found);
    }
    if let Some(because) = in_runs(m, s.order) {
        let one_class = matches!(because, Because::OneClass { .. });
        why.extend([because, Because::Batch { inputs: s.batch }]);
        let mut found = Vec::new();
        if m.linear_head && !batch_norm && s.batch >= NEIGHBORS && !one_class {
            let reason = "where labels come in runs, neighbors of a batch share their label";
            found.push(Candidate(lame(Lame::default()), 2.0, reason));
        }
        found.extend(sensor("each image is corrected alone, so runs of labels cannot mislead it"));
        if batch_norm {
            let reason =
                "its memory is balanced over classes, where batch statistics and entropy would follow the runs";
            found.push(Candidate(rotta(1e-3), 10.0, reason));
        }
        return (why, found);
    }
    why.push(Because::Batch { inputs: s.batch });
    let least = LONG * s.batch as u64;
    let long = s.stream.is_some_and(|n| n >= least);
    let mut found = Vec::new();
    if batch_norm && s.batch < FULL_BATCH {
        found.push(Candidate(
            prior_bn(16.0),
            2.0,
            "source statistics that count as 16 inputs steady those of a small batch",
        ));
        return (why, found);
    }
    if any_norm {
        why.push(Because::Length { inputs: s.stream, least });
        if long {
            let reason = "steps on sure and diverse inputs, drawn back to the source, and answers of two views lead on \
                          long shuffled streams";
            found.push(Candidate(roid_views(1e-3), 7.0, reason));
            found.push(Candidate(eta(1e-3, 0.4), 4.0, "steps on sure and new inputs alone"));
        }
    }
    if batch_norm {
        found.push(Candidate(
            statistics(),
            2.0,
            "the batch's own statistics undo most of a shift, in one forward pass",
        ));
    } else if any_norm && !long {
        found.push(Candidate(eta(1e-3, 0.4), 4.0, "no statistics to exchange; steps on sure and new inputs alone"));
    }
    found.extend(sensor("each image is corrected alone"));
    if m.linear_head {
        found.push(Candidate(t3a(20), 2.0, "the classifier follows the surest inputs without a gradient"));
    }
    (why, found)
}
