//! What moves, and which parameters of a model that is.

use acclimate_train::Params;
use acclimate_train::params::Kind;
use serde::Serialize;

use crate::error::Error;
use crate::overlay::Overlay;

/// What moves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Moves {
    /// Nothing.
    Nothing,
    /// Scale and shift of every normalization layer.
    NormAffine,
    /// Scale and shift of the normalization layers but for those of the last stages, so many of them. Stages are told by
    /// the first part of the path (`bn1`, `layer1`, `layer2`, ..) and counted from the end.
    EarlyNormAffine {
        /// How many stages stay as they are; at least one, and fewer than there are.
        skip_last: usize,
    },
    /// Every bias, those of normalization layers included.
    Bias,
    /// All parameters.
    All,
    /// All parameters but those of the last linear layer: the classifier stays (SHOT).
    Features,
    /// These parameters.
    Paths(Vec<String>),
    /// Parameters at or below these paths.
    Under(Vec<String>),
    /// Low-rank additions to the weights of linear layers and convolutions (Hu et al. 2022), with the weights shared by all
    /// inputs: what each input has of its own is small.
    LowRank {
        /// Rank of the additions.
        rank: usize,
        /// What they count.
        scale: f32,
        /// Weights at or below these paths; empty: all. Convolutions must have one group.
        under: Vec<String>,
    },
    /// Gain, offset, gamma and sharpening of the image; nothing of the network. See [`crate::sensor`].
    Sensor,
}

impl Moves {
    /// The overlay over what moves. Fails if that is nothing, or if "all but the last stages" is all or nothing.
    pub(crate) fn overlay(&self, params: &Params, method: &str) -> Result<Overlay, Error> {
        let of = |kinds: &[Kind]| params.select(|_, kind| kinds.contains(&kind));
        let paths = match self {
            Moves::Nothing => return Ok(Overlay::default()),
            Moves::Sensor => return Ok(Overlay::of_sensor()),
            Moves::NormAffine => of(&[Kind::NormScale, Kind::NormShift]),
            Moves::EarlyNormAffine { skip_last } => {
                early(&of(&[Kind::NormScale, Kind::NormShift]), *skip_last, method)?
            }
            Moves::Bias => of(&[Kind::Bias, Kind::NormShift]),
            Moves::All => params.select(|_, _| true),
            Moves::Features => features(params),
            Moves::Paths(paths) => paths.clone(),
            Moves::LowRank { rank, scale, under } => {
                let weights = params.select(|path, kind| {
                    kind == Kind::Weight && (under.is_empty() || under.iter().any(|root| is_under(path, root)))
                });
                if weights.is_empty() || *rank == 0 || !scale.is_finite() {
                    return Err(self.nothing(method));
                }
                return Overlay::of_low_rank(params, &weights, *rank, *scale);
            }
            Moves::Under(roots) => params.select(|path, _| roots.iter().any(|root| is_under(path, root))),
        };
        if paths.is_empty() {
            return Err(self.nothing(method));
        }
        Overlay::of_params(params, &paths)
    }

    fn nothing(&self, method: &str) -> Error {
        Error::Method {
            method: method.to_owned(),
            what: format!("{self:?} selects no parameter of this model"),
            expected: "at least one parameter to move".into(),
        }
    }
}

fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Without the parameters of the last layer that has a weight but is no normalization.
fn features(params: &Params) -> Vec<String> {
    let weights = params.select(|_, kind| kind == Kind::Weight);
    let last = weights.last().and_then(|path| path.strip_suffix("weight")).unwrap_or_default().to_owned();
    params.select(|path, _| last.is_empty() || !path.starts_with(&last))
}

/// Paths of all stages but the last `skip_last`.
fn early(paths: &[String], skip_last: usize, method: &str) -> Result<Vec<String>, Error> {
    let stage = |path: &String| path.split('.').next().unwrap_or_default().to_owned();
    let mut stages: Vec<String> = Vec::new();
    for path in paths {
        let name = stage(path);
        if stages.last() != Some(&name) && !stages.contains(&name) {
            stages.push(name);
        }
    }
    if skip_last == 0 || skip_last >= stages.len() {
        return Err(Error::Method {
            method: method.to_owned(),
            what: format!("skipping the last {skip_last} of the {} stages {stages:?} with normalization", stages.len()),
            expected: "to skip at least one stage and to keep at least one".into(),
        });
    }
    stages.truncate(stages.len() - skip_last);
    Ok(paths.iter().filter(|path| stages.contains(&stage(path))).cloned().collect())
}
