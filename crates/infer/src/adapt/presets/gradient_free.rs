//! Methods that need no gradient: whose statistics, and what is done to the answers.

use acclimate_train::Statistics;

use crate::adapt::{Adaptation, Answer, Lame, Moves, Objective, Output, Prototypes, Reset, Search, Window};

/// The batch's own normalization statistics (Nado et al. 2020; Schneider et al. 2020 with N = 0).
pub fn statistics() -> Adaptation {
    Adaptation::new("statistics", Objective::None)
        .statistics(Statistics::Batch)
        .window(Window::ThisBatch)
        .reset(Reset::Never)
        .answer(Answer::BeforeStep)
}

/// (1 − α)·source + α·batch statistics, the batch's variance unbiased (You, Li, Zhao 2021). α = 0.1 is the reference's for
/// single inputs, which it is the right choice for; 0.3 has been tuned for batches of CIFAR-10.
pub fn alpha_bn(alpha: f32) -> Adaptation {
    statistics().named("alpha-bn").statistics(Statistics::Alpha(alpha))
}

/// Source statistics that count as `n` inputs, blended with those of the batch, biased (Schneider et al. 2020; n = 16).
pub fn prior_bn(n: f32) -> Adaptation {
    statistics().named("prior-bn").statistics(Statistics::Prior(n))
}

/// Running statistics that go on running while answering, by `momentum` (0.1) towards each batch, before they are used.
pub fn ema_bn(momentum: f32) -> Adaptation {
    statistics().named("ema-bn").statistics(Statistics::Ema(momentum))
}

/// T3A (Iwasawa and Matsuo 2021): inputs are classified by the mean direction of the `keep` surest ones seen of each class
/// (the paper searches 1, 5, 20, 50 and 100; "keep all" is not offered), the classifier's rows among them to begin with.
/// Its answers are scores without a temperature, so their confidence means nothing. Left open by the paper and chosen:
/// source statistics; see [`Adaptation::statistics`].
pub fn t3a(keep: usize) -> Adaptation {
    Adaptation::new("t3a", Objective::None)
        .window(Window::ThisBatch)
        .reset(Reset::Never)
        .output(Output::Prototypes(Prototypes { keep }))
}

/// LAME (Boudiaf et al. 2022): the answers of a batch are drawn towards those of their neighbors. Strong where labels
/// come in runs, harmful where they do not. Which statistics the network uses decides the result: the reference's source
/// statistics, or others by [`Adaptation::statistics`].
pub fn lame(options: Lame) -> Adaptation {
    Adaptation::new("lame", Objective::None).window(Window::ThisBatch).reset(Reset::Never).output(Output::Lame(options))
}

/// The source model with its logits over a temperature that was fitted on source data (Guo et al. 2017).
pub fn temperature(temperature: f32) -> Adaptation {
    Adaptation::new("temperature", Objective::None).output(Output::Temperature(temperature))
}

/// The batch's statistics, and probabilities corrected by the batch's own mean prediction (the output step of ROID alone).
pub fn prior_corrected() -> Adaptation {
    statistics().named("prior-corrected").output(Output::PriorCorrected)
}

/// Forward-only adaptation by evolution, after FOA (Niu et al. 2024): once a batch, 27 candidates for the normalization
/// affine and the best one so far are compared by the entropy of their answers; the best answers. The paper moves prompts
/// of a transformer, adds the distance of activations to the source's to the objective (here: an anchor, see
/// [`Adaptation::anchor`]) and has a full covariance; here it is diagonal. 28 forward passes a batch.
pub fn forward_only(width: f32) -> Adaptation {
    Adaptation::new("forward-only", Objective::Entropy)
        .moves(Moves::NormAffine)
        .statistics(Statistics::Batch)
        .search(Search { candidates: 27, width }, 1)
        .window(Window::ThisBatch)
        .reset(Reset::Never)
}
