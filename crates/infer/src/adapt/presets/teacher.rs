//! Methods with a second model that follows the first.

use acclimate_train::optim;

use super::tent;
use crate::adapt::{Adaptation, Answer, Moves, Objective, Settle, Teacher};
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
