//! Methods with a second model that follows the first.

use acclimate_train::{Statistics, optim};

use super::tent;
use crate::adapt::{Adaptation, Answer, Guard, Memory, Moves, Objective, Policy, Settle, Teacher, Window};
use crate::views::Views;

/// CoTTA (Wang et al. 2022): all parameters move against the cross-entropy with a teacher that keeps 0.999 of itself at each
/// step; where the source is unsure of the batch (mean confidence below `unsure`: 0.92 on CIFAR-10, 0.72 on CIFAR-100, 0.1
/// on ImageNet) the teacher's answer is the mean of its logits over 32 views; after each step each element goes back to the
/// source with probability 0.01 (0.001 on ImageNet). It answers with the teacher. Chosen: the views are those of [`Views`],
/// each view of the batch with statistics of its own, and they are always computed.
pub fn cotta(rate: f64, unsure: f32) -> Adaptation {
    tent(rate)
        .named("cotta")
        .objective(Objective::TeacherConsistency)
        .moves(Moves::All)
        .step(optim::adam(rate), 1)
        .teacher(Teacher { keep: 0.999, views: Some(Views::new(32)), unsure })
        .settle(Settle::Restore(0.01))
        .answer(Answer::Teacher)
}

/// RoTTA (Yuan, Xie, Li 2023): inputs enter a bank of 64 that is balanced over predicted classes and prefers what is recent
/// and sure; one Adam step a batch on the normalization affine against the cross-entropy of a changed view of each with
/// the teacher's answer for it, weighted by timeliness; robust statistics (0.05 of each bank's, gradients through that
/// part), the teacher's and the student's apart; the teacher keeps 0.999 of itself and answers, before it enters. The
/// reference steps every 64 inputs: the same in batches of 64, which this is meant for. Chosen: the changed view is
/// mirrored with gain ±20 % and offset ±0.1; rejected inputs age the bank too, equal scores are settled by age; until the
/// bank is full, its free places show filled ones again, for the statistics alone.
pub fn rotta(rate: f64) -> Adaptation {
    let strong = Views { count: 2, mirror: true, gain: 0.2, offset: 0.1 };
    tent(rate)
        .named("rotta")
        .objective(Objective::TeacherConsistency)
        .statistics(Statistics::Robust(0.05))
        .window(Window::Memory(Memory { size: 64, policy: Policy::Timely }, strong))
        .teacher(Teacher { keep: 0.999, views: None, unsure: 0.0 })
        .answer(Answer::Teacher)
}

/// The memory of NOTE (Gong et al. 2022): inputs enter a prediction-balanced reservoir of 64; one Adam step a batch on the
/// normalization affine against the entropy of what it holds; running statistics move by 0.01 to those of the bank. The
/// paper's instance-aware normalization must be trained into the network and is not part of this. The reference steps every
/// 64 inputs and answers before: the same in batches of 64.
pub fn note(rate: f64) -> Adaptation {
    tent(rate)
        .named("note")
        .statistics(Statistics::Robust(0.01))
        .window(Window::Memory(Memory { size: 64, policy: Policy::Reservoir }, Views::new(1)))
}

/// Distillation on the inputs that are answered: one SGD step a batch on the normalization affine against T²·KL from the
/// answers of another network, the teacher of an [`acclimate_train::nn::Taught`], to the student's (Hinton, Vinyals, Dean
/// 2015). It answers before the step. A step after which the student is not nearer to the teacher on this very batch, or that
/// gives anything not finite, is rolled back, and the whole way from the source is no longer than `trust`. Chosen: both
/// networks take the statistics of the batch ([`Adaptation::statistics`] for others).
pub fn distill_online(rate: f64, temperature: f32, trust: f32) -> Adaptation {
    tent(rate)
        .named("distill-online")
        .objective(Objective::Distill { temperature })
        .step(optim::sgd(rate), 1)
        .guard(Guard::TrustRegion(trust))
        .guard(Guard::LossMustFall)
}
