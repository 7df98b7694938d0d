//! Methods of one input at a time, and the baselines that move nothing.

use acclimate_train::Statistics;
use acclimate_train::nn::Masks;
use acclimate_train::optim;

use crate::adapt::{Adaptation, Answer, Guard, Moves, Objective, Prepare, Window};
use crate::views::Views;

/// The source model, unchanged.
pub fn frozen() -> Adaptation {
    Adaptation::new("frozen", Objective::None)
}

/// The source model on the image stretched from its 5 to its 98 percentile: no model is asked, so this is the cheap
/// baseline to beat.
pub fn stretch() -> Adaptation {
    Adaptation::new("stretch", Objective::None).prepare(Prepare::Stretch)
}

/// MEMO (Zhang, Levine, Finn 2022) on the normalization affine alone: for each input one SGD step against the entropy
/// of the mean prediction over `views` views, with statistics of which 16/17 are the source's and 1/17 the views': the source
/// counts as 16 inputs and the views, all of one image, as one (Schneider et al. 2020, as the reference has it). It answers
/// after the step, reset after each input, and rolls back where the objective did not fall.
pub fn memo_affine(views: usize, rate: f64) -> Adaptation {
    Adaptation::new("memo-affine", Objective::MarginalEntropy)
        .moves(Moves::NormAffine)
        .statistics(Statistics::Prior(16.0 * views as f32))
        .step(optim::sgd(rate), 1)
        .window(Window::Views(Views::new(views)))
        .guard(Guard::LossMustFall)
}

/// MEMO (Zhang, Levine, Finn 2022) in full: as [`memo_affine`], with all parameters moving. The reference's rate for
/// CIFAR-10 is 0.005, its views are AugMix compositions; here they are those of [`Views`].
pub fn memo(views: usize, rate: f64) -> Adaptation {
    memo_affine(views, rate).named("memo").moves(Moves::All)
}

/// [`memo_affine`] with low-rank additions to every weight in place of the affine, each input with its own: the network is
/// shared, and before the step it answers as the source does. Statistics are the source's.
pub fn memo_low_rank(views: usize, rank: usize, rate: f64) -> Adaptation {
    memo_affine(views, rate).named("memo-low-rank").statistics(Statistics::Source).moves(Moves::LowRank {
        rank,
        scale: 1.0,
        under: Vec::new(),
    })
}

/// Test-time training (Sun et al. 2020): for each input `steps` SGD steps (the paper: 10 at 0.001, without momentum) that
/// make the side head tell by how many quarter turns the input was turned, on everything at or below the paths `shared`
/// (the trunk and the side head); then the main head answers. The model is a [`acclimate_train::nn::TwoHeads`] trained
/// jointly. Chosen: the objective is of all four turns of each of `views` views, where the reference draws 32 random
/// crops and turns; source statistics (the paper's network has group normalization).
pub fn ttt(shared: &[&str], views: usize, rate: f64, steps: usize) -> Adaptation {
    Adaptation::new("ttt", Objective::QuarterTurns)
        .moves(Moves::Under(shared.iter().map(|&path| path.to_owned()).collect()))
        .step(optim::sgd(rate), steps)
        .window(Window::Views(Views::new(views)))
}

/// Test-time training with masked autoencoders (Gandelsman et al. 2022): for each input `steps` SGD steps with momentum 0.9
/// that make the side head paint what `masks` hide from it, on everything at or below the paths `shared` (encoder and
/// decoder); then the main head answers. The model is a [`acclimate_train::nn::TwoHeads`] trained jointly. The paper: 20 steps, 128 masks of
/// three quarters of the patches. Chosen: pixels as they are, not standardized within their patch; the same masks in
/// all steps of an input; hidden pixels show the mean of the seen ones, so that a convolution can be the encoder.
pub fn ttt_mae(shared: &[&str], masks: Masks, rate: f64, steps: usize) -> Adaptation {
    Adaptation::new("ttt-mae", Objective::MaskedPatches(masks))
        .moves(Moves::Under(shared.iter().map(|&path| path.to_owned()).collect()))
        .step(optim::sgd(rate).momentum(0.9), steps)
}

/// The mean prediction over the same views, without adaptation: what every single-input method must beat.
pub fn vote(views: usize) -> Adaptation {
    Adaptation::new("vote", Objective::None).window(Window::Views(Views::new(views))).answer(Answer::MeanOfViews)
}

/// Corrects the sensor for this one image, moving nothing of the network: from the best of a few closed-form candidates,
/// a few Adam steps on gain, offset, gamma and sharpening make the image's layer statistics likely under the source's.
/// An image whose statistics are ordinary already (score at most `gate`) is left alone, and a correction that leaves the network
/// less sure is rolled back. The constants were chosen on training images.
pub fn calibrate(gate: f32) -> Adaptation {
    Adaptation::new("calibrate", Objective::FeatureLikelihood { entropy: 0.1, prior: 0.05 })
        .moves(Moves::Sensor)
        .prepare(Prepare::BestCandidate)
        .step(optim::adam(0.05), 6)
        .guard(Guard::Unusual(gate))
        .guard(Guard::LossMustFall)
        .guard(Guard::MustBeSurer)
}
