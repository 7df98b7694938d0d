//! Losses of one input with its label.

use acclimate_tensor::{DType, Tensor};
use acclimate_train::loss;

use crate::error::Error;

/// Which loss, and so what a label is. Losses come for each row.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// ln(1 + e^−sx) for one output x and s = ±1: labels 0 and 1.
    Logistic,
    /// max(0, 1 − sx) for one output x and s = ±1: labels 0 and 1.
    Hinge,
    /// −ln softmax(x)_y: labels are classes 0, 1, .. below the number of outputs.
    CrossEntropy,
    /// (x − y)² for one output: labels are numbers.
    Squared,
    /// max(0, |x − y| − ε) for one output: labels are numbers.
    Insensitive(f32),
}

impl Loss {
    /// Losses of rows: outputs [n, c], labels `[n]` → `[n]`.
    pub fn rows(self, output: &Tensor, label: &Tensor) -> Result<Tensor, Error> {
        let n = output.dims()[0];
        if self == Loss::CrossEntropy {
            return Ok(loss::cross_entropy_rows(output, &label.cast(DType::U32)?, 0.0)?);
        }
        let x = output.reshape(&[n])?;
        Ok(match self {
            Loss::Logistic => loss::bce_with_logits_each(&x, label)?,
            Loss::Hinge => {
                let sign = label.mul_scalar(2.0)?.add_scalar(-1.0)?;
                sign.mul(&x)?.neg()?.add_scalar(1.0)?.relu()?
            }
            Loss::Insensitive(slack) => x.sub(label)?.abs()?.add_scalar(-slack)?.relu()?,
            Loss::Squared | Loss::CrossEntropy => loss::mse_each(&x, label)?,
        })
    }

    /// The loss of one output on the host, in f64.
    pub fn of(self, output: &[f32], label: f32) -> f64 {
        let (x, y) = (f64::from(output.first().copied().unwrap_or(f32::NAN)), f64::from(label));
        let sx = (2.0 * y - 1.0) * x;
        match self {
            Loss::Logistic => (-sx).max(0.0) + (-sx.abs()).exp().ln_1p(),
            Loss::Hinge => (1.0 - sx).max(0.0),
            Loss::Squared => (x - y).powi(2),
            Loss::Insensitive(slack) => ((x - y).abs() - f64::from(slack)).max(0.0),
            Loss::CrossEntropy => {
                let top = output.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = output.iter().map(|&o| f64::from(o - top).exp()).sum();
                let own = output.get(label as usize).copied().unwrap_or(f32::NAN);
                sum.ln() - f64::from(own - top)
            }
        }
    }

    /// The error of one output: 0 or 1 for classes, |x − y| for numbers.
    pub fn error(self, output: &[f32], label: f32) -> f64 {
        match self.class(output) {
            Some(class) => f64::from(u8::from(class as f32 != label)),
            None => f64::from(output.first().copied().unwrap_or(f32::NAN) - label).abs(),
        }
    }

    /// The class that an output says, if labels are classes.
    pub fn class(self, output: &[f32]) -> Option<u32> {
        match self {
            Loss::Logistic | Loss::Hinge => Some(u32::from(output.first().is_some_and(|x| *x > 0.0))),
            Loss::CrossEntropy => {
                let best = output
                    .iter()
                    .enumerate()
                    .fold((0, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best });
                u32::try_from(best.0).ok()
            }
            Loss::Squared | Loss::Insensitive(_) => None,
        }
    }

    /// Fails unless a model of `outputs` outputs fits.
    pub(super) fn check(self, outputs: usize) -> Result<(), Error> {
        let fits = if self == Loss::CrossEntropy { outputs >= 2 } else { outputs == 1 };
        let expected = if self == Loss::CrossEntropy { "two or more" } else { "one" };
        if !fits {
            return Err(Error::size(format!("outputs of a model with the loss {self:?}"), expected, outputs));
        }
        match self {
            Loss::Insensitive(slack) if !(slack.is_finite() && slack >= 0.0) => Err(Error::Value {
                what: "slack of the insensitive loss",
                position: 0,
                expected: "a finite number of at least 0".into(),
                found: slack.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// What a label may be, if this is none.
    pub(super) fn refuses(self, label: f32, outputs: usize) -> Option<String> {
        let (fits, expected) = match self {
            Loss::Logistic | Loss::Hinge => (label == 0.0 || label == 1.0, "0 or 1".to_owned()),
            Loss::CrossEntropy => (
                label >= 0.0 && label.fract() == 0.0 && (label as usize) < outputs,
                format!("a whole number from 0 to {}", outputs - 1),
            ),
            Loss::Squared | Loss::Insensitive(_) => (label.is_finite(), "a finite number".to_owned()),
        };
        (!fits).then_some(expected)
    }
}

#[cfg(test)]
mod tests {
    use acclimate_tensor::Device;

    use super::*;

    /// The graph and the host's f64 agree, so that what is learned is what is reported.
    #[test]
    fn host_and_graph_agree() -> Result<(), Error> {
        let d = Device::cpu();
        let cases: [(Loss, usize, Vec<f32>, Vec<f32>); 5] = [
            (Loss::Logistic, 1, vec![-30.0, -1.0, 0.3, 40.0], vec![1.0, 0.0, 1.0, 1.0]),
            (Loss::Hinge, 1, vec![-2.0, 0.5, 3.0, -4.0], vec![1.0, 1.0, 1.0, 0.0]),
            (Loss::Squared, 1, vec![-2.0, 0.5, 3.0, -4.0], vec![1.0, 0.5, 2.5, -9.0]),
            (Loss::Insensitive(0.5), 1, vec![-2.0, 0.5, 3.0, -4.0], vec![1.0, 0.25, 2.0, -9.0]),
            (Loss::CrossEntropy, 3, vec![1.0, 2.0, 0.5, -40.0, 3.0, 60.0], vec![1.0, 0.0]),
        ];
        for (loss, c, output, label) in cases {
            let n = label.len();
            let x = Tensor::from_slice(&d, &output, &[n, c])?;
            let graph = loss.rows(&x, &Tensor::from_slice(&d, &label, &[n])?)?.to_vec::<f32>()?;
            for (i, got) in graph.into_iter().enumerate() {
                let want = loss.of(&output[i * c..(i + 1) * c], label[i]);
                // A handful of f32 roundings, each of a number of at most `want` and 64.
                assert!((f64::from(got) - want).abs() <= 8.0 * 6e-8 * (want + 1.0), "{loss:?} {i}: {got}, {want}");
            }
        }
        Ok(())
    }
}
