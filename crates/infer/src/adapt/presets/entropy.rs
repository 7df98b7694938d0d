//! Self-training on batches: the entropy family. All step once a batch and answer with the forward pass before the step.

use acclimate_train::Statistics;
use acclimate_train::optim;

use crate::adapt::{
    Adaptation, Anchor, Answer, Fisher, Guard, Moves, Objective, Output, Reset, Settle, Weighting, Window,
};
use crate::views::Views;

/// Entropy below this share of ln C counts as sure (EATA, SAR).
const SURE: f32 = 0.4;

/// TENT (Wang et al. 2021): one Adam step a batch on the normalization affine against the mean entropy, never reset. It
/// answers with the forward pass *before* the step.
pub fn tent(rate: f64) -> Adaptation {
    Adaptation::new("tent", Objective::Entropy)
        .moves(Moves::NormAffine)
        .statistics(Statistics::Batch)
        .step(optim::adam(rate), 1)
        .window(Window::ThisBatch)
        .reset(Reset::Never)
        .answer(Answer::BeforeStep)
}

/// Pseudo-labels (Lee 2013): as [`tent`], with cross-entropy against the model's own answer where its probability is above
/// `threshold` (0.9 in the benchmark of Iwasawa and Matsuo 2021). Chosen: the normalization affine moves.
pub fn pseudo_label(rate: f64, threshold: f32) -> Adaptation {
    tent(rate).named("pseudo-label").objective(Objective::PseudoLabel).guard(Guard::Confident(threshold))
}

/// RPL (Rusak et al. 2022): as [`tent`], with generalized cross-entropy, q = 0.8, against the model's own answer. The
/// paper steps with SGD for many epochs; here it is one Adam step a batch.
pub fn rpl(rate: f64) -> Adaptation {
    tent(rate).named("rpl").objective(Objective::GeneralizedCrossEntropy(0.8))
}

/// ETA (Niu et al. 2022): as [`tent`] on rows that are sure (H < 0.4 ln C) and unlike those before (|cosine| of their
/// probabilities with the running mean below `cosine`: 0.4 on CIFAR-10, 0.05 on ImageNet), weighted by exp(0.4 ln C − H).
/// The reference masks rows after the forward pass, so every row still shapes the batch's statistics, here too.
pub fn eta(rate: f64, cosine: f32) -> Adaptation {
    tent(rate).named("eta").guard(Guard::Sure(SURE)).guard(Guard::Unseen(cosine)).weighting(Weighting::Confidence(SURE))
}

/// EATA (Niu et al. 2022): [`eta`] with an anchor by the Fisher information of source inputs (weight 1 on CIFAR-10, 2000 on
/// ImageNet, both for [`crate::adapt::FisherKind::BatchMeanSquared`]).
pub fn eata(rate: f64, cosine: f32, fisher: Fisher, weight: f32) -> Adaptation {
    eta(rate, cosine).named("eata").anchor(Anchor::Fisher { fisher, weight })
}

/// SAR (Niu et al. 2023): SGD with momentum 0.9 on the normalization affine but for the last stage, along the gradient at
/// the worst point within 0.05, on rows that are sure (H < 0.4 ln C) there as well as here; everything is reset when the
/// running mean of their entropy is too low. The paper's limit of 0.2 nats was tuned for 1000 classes; here it is that
/// share of ln C (0.029). The running mean is that of the rows kept by both passes; a reset clears it.
pub fn sar(rate: f64) -> Adaptation {
    tent(rate)
        .named("sar")
        .moves(Moves::EarlyNormAffine { skip_last: 1 })
        .step(optim::sgd(rate).momentum(0.9), 1)
        .sharpness_aware(0.05)
        .guard(Guard::Sure(SURE))
        .guard(Guard::Recover(0.2 / 1000f32.ln()))
}

/// DeYO (Lee et al. 2024): as [`tent`] on the normalization affine but for the last stage, on rows with H < 0.5 ln C whose
/// class loses more than 0.2 in probability when a 4 × 4 grid of patches is shuffled, weighted by exp(0.4 ln C − H) +
/// exp(the loss). Weights are detached. Chosen: the shuffled images go through the network as one batch, all rows.
pub fn deyo(rate: f64) -> Adaptation {
    tent(rate)
        .named("deyo")
        .moves(Moves::EarlyNormAffine { skip_last: 1 })
        .guard(Guard::Sure(0.5))
        .guard(Guard::ShapeMatters { drop: 0.2, patches: 4 })
        .weighting(Weighting::ConfidenceAndShape(SURE))
}

/// COME (Zhang et al. 2025) in place of TENT's entropy: a mass for "unknown", and the length of logits counts as given.
pub fn come(rate: f64) -> Adaptation {
    tent(rate).named("come").objective(Objective::ConservativeEntropy)
}

/// [`eta`] with COME's objective; filters and weights go by the entropy of the C outcomes.
pub fn eta_come(rate: f64, cosine: f32) -> Adaptation {
    eta(rate, cosine).named("eta-come").objective(Objective::ConservativeEntropy)
}

/// [`sar`] with COME's objective; filters go by the entropy of the C outcomes, the running mean is of the objective.
pub fn sar_come(rate: f64) -> Adaptation {
    sar(rate).named("sar-come").objective(Objective::ConservativeEntropy)
}

/// SHOT-IM (Liang, Hu, Feng 2020) online: one SGD step a batch with momentum 0.9 on everything but the classifier, each
/// row sure and the batch diverse. It needs many more rows than classes. The paper steps for 15 epochs.
pub fn shot_im(rate: f64) -> Adaptation {
    tent(rate)
        .named("shot-im")
        .objective(Objective::InformationMaximization)
        .moves(Moves::Features)
        .step(optim::sgd(rate).momentum(0.9).nesterov(), 1)
}

/// ROID (Marsden, Döbler, Yang 2024): rows no nearer the running mean prediction than the mean row, weighted by diversity
/// and certainty, against the soft likelihood ratio and the symmetric cross-entropy with one view; after each step 1 % back
/// to the source; answers corrected by the batch's prior. Chosen: the view is mirrored, with a random gain and offset
/// ([`Views`] number 1), of all rows of the batch; the prior corrects probabilities, which are renormalized (the reference
/// multiplies logits, which ruins calibration); the divisor is the batch's number of rows.
pub fn roid(rate: f64) -> Adaptation {
    tent(rate)
        .named("roid")
        .objective(Objective::LikelihoodRatio(Some(Views::new(2))))
        .guard(Guard::Diverse)
        .weighting(Weighting::DiversityAndCertainty { temperature: 1.0 / 3.0 })
        .settle(Settle::TowardsSource(0.99))
        .output(Output::PriorCorrected)
}

/// [`roid`] that answers with the mean probability of the row and of the view that its objective compares with, before the
/// prior's correction. The view is looked at anyway, so this costs nothing more. Chosen, and measured in `docs/streams.md`.
pub fn roid_views(rate: f64) -> Adaptation {
    roid(rate).named("roid-views").answer(Answer::MeanOfViews)
}

/// RDumb (Press et al. 2023): [`eta`] with everything reset after 1000 updates; a batch of which no row was kept is none.
pub fn rdumb(rate: f64, cosine: f32) -> Adaptation {
    eta(rate, cosine).named("rdumb").reset(Reset::EveryUpdates(1000))
}

/// ASR (adaptive and selective reset, 2026): [`eta`], and where the entropy of the batch's mean logits falls below its
/// running level (which begins at ln(C/2) and moves by 0.15 of the rows that agree with the source), the later tensors go
/// back to the source, at least half of them, all after a fall of 0.025, with the optimizer. The paper's anchor, which
/// gathers the Fisher information between resets, is not part of it. Chosen: "the source" answers with its own statistics.
pub fn asr(rate: f64, cosine: f32) -> Adaptation {
    eta(rate, cosine).named("asr").reset(Reset::Selective { first: 0.5 })
}
