//! What a method answers with, and what is done to the answer after it.

use serde::Serialize;

use acclimate_kernels::TensorOps;
use acclimate_tensor::Tensor;

use super::lame::Lame;
use super::prototypes::Prototypes;
use crate::error::Error;

/// What it answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The forward pass before the step.
    BeforeStep,
    /// The input after the last step.
    AfterStep,
    /// The mean probability over the window's views. Of a batch: over each row and the view of it that the objective
    /// compares with, before the step.
    MeanOfViews,
    /// The teacher, before it follows the step.
    Teacher,
}

/// What is done to the answer: gradient-free corrections of probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Output {
    /// Nothing.
    #[default]
    AsIs,
    /// Divided by a temperature, which was fitted on source data (Guo et al. 2017). The class stays.
    Temperature(f32),
    /// Probabilities times (p̄ + s)/(1 + s·C), renormalized, with p̄ the batch's mean prediction and
    /// s = max(1/B, 1/C)/max p̄ (Marsden, Döbler, Yang 2024).
    PriorCorrected,
    /// Neighbors in feature space get similar answers (Boudiaf et al. 2022).
    Lame(Lame),
    /// Classified anew by prototypes of the inputs seen so far (Iwasawa and Matsuo 2021).
    Prototypes(Prototypes),
}

impl Output {
    /// Whether it looks at the features in front of the last linear layer.
    pub(super) fn needs_features(&self) -> bool {
        matches!(self, Output::Lame(_) | Output::Prototypes(_))
    }
}

/// Logits over a temperature.
pub(super) fn tempered(logits: &Tensor, temperature: f32) -> Result<Tensor, Error> {
    Ok(logits.mul_scalar(1.0 / temperature)?)
}

/// Logarithms of the corrected probabilities: [n, c] → [n, c].
pub(super) fn prior_corrected(logits: &Tensor) -> Result<Tensor, Error> {
    let [n, c] = [logits.dims()[0] as f32, logits.dims()[1] as f32];
    let log_p = logits.log_softmax(1)?;
    let prior = log_p.exp()?.mean(&[0])?;
    let smooth = prior.max_keep(&[0])?.recip()?.mul_scalar((1.0 / n).max(1.0 / c))?;
    let factor = prior.add(&smooth)?.div(&smooth.mul_scalar(c)?.add_scalar(1.0)?)?;
    Ok(log_p.add(&factor.ln()?)?.log_softmax(1)?)
}

/// ln of the mean probability over views: [k, n, c] → [n, c].
pub(super) fn mean_log_probability(logits: &Tensor) -> Result<Tensor, Error> {
    let k = logits.dims()[0] as f32;
    Ok(logits.log_softmax(2)?.logsumexp(0)?.add_scalar(-k.ln())?)
}
