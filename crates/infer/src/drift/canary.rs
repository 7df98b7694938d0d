//! Canaries: inputs with known labels that must not get worse under a state that is carried on.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::receipt::{Digest, Facts, Reason};

/// Labelled inputs, asked after every so many batches with the state as it is, without a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Canary {
    #[serde(skip)]
    pub(crate) images: Vec<f32>,
    pub(crate) dims: [usize; 3],
    pub(crate) labels: Vec<u32>,
    pub(crate) every: u64,
    tolerance: f64,
    /// Which images they are, so that a restored session must have the same.
    pub(crate) digest: Digest,
}

impl Canary {
    /// These images of [c, h, w], asked after every `every` batches: an alarm where fewer of them are right than with
    /// the frozen model, by more than `tolerance` of all.
    pub fn new(images: &[f32], dims: [usize; 3], labels: &[u32], every: u64, tolerance: f64) -> Result<Self, Error> {
        let size: usize = dims.iter().product();
        if labels.is_empty() || size == 0 {
            return Err(Error::Empty { what: "the canary set" });
        }
        if images.len() != labels.len() * size {
            return Err(Error::size(
                "canary images",
                format!("{} of {dims:?}, one for each label", labels.len()),
                images.len(),
            ));
        }
        let digest = Digest::of_tensor(&[labels.len(), dims[0], dims[1], dims[2]], images);
        Ok(Canary { images: images.to_vec(), dims, labels: labels.to_vec(), every: every.max(1), tolerance, digest })
    }

    /// The reason for an alarm, if the answers are one.
    pub(crate) fn judge(&self, facts: &[Facts]) -> Option<Reason> {
        let n = self.labels.len() as f64;
        let right = |class: &dyn Fn(&Facts) -> u32| {
            facts.iter().zip(&self.labels).filter(|(f, l)| class(f) == **l).count() as f64 / n
        };
        let lost = right(&|f| f.before.class) - right(&|f| f.after.class);
        (lost > self.tolerance).then(|| Reason::Custom {
            guard: "share of the canary set that the frozen model gets right and this state does not".into(),
            value: lost as f32,
            limit: self.tolerance as f32,
        })
    }
}
