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
    /// the first part by which paths differ (`bn1`, `layer1`, `layer2`, ..) and counted from the end.
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

/// The stage that each layer of these parameters is in: the first part of its path by which the layers differ.
fn stages(paths: &[String]) -> Vec<&str> {
    let layer = |path: &'_ String| path.rsplit_once('.').map_or(0, |(layer, _)| layer.len());
    let layers: Vec<Vec<&str>> = paths.iter().map(|path| path[..layer(path)].split('.').collect()).collect();
    let same = |i: usize| layers.iter().all(|l| l.get(i).is_some() && l.get(i) == layers[0].get(i));
    let common = (0..).take_while(|&i| !layers.is_empty() && same(i)).count();
    layers.iter().map(|l| l.get(common).copied().unwrap_or_default()).collect()
}

/// Paths of all stages but the last `skip_last`.
fn early(paths: &[String], skip_last: usize, method: &str) -> Result<Vec<String>, Error> {
    let of = stages(paths);
    let mut found: Vec<&str> = Vec::new();
    for stage in &of {
        if !found.contains(stage) {
            found.push(stage);
        }
    }
    if skip_last == 0 || skip_last >= found.len() {
        return Err(Error::Method {
            method: method.to_owned(),
            what: format!("skipping the last {skip_last} of the {} stages {found:?} with normalization", found.len()),
            expected: "to skip at least one stage and to keep at least one".into(),
        });
    }
    found.truncate(found.len() - skip_last);
    Ok(paths.iter().zip(&of).filter(|(_, stage)| found.contains(stage)).map(|(path, _)| path.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(paths: &[&str], skip_last: usize) -> Option<Vec<String>> {
        early(&paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), skip_last, "test").ok()
    }

    #[test]
    fn stages_are_where_paths_part() {
        let resnet = ["bn1.weight", "layer1.0.bn1.weight", "layer1.1.bn1.weight", "layer2.0.bn1.weight"];
        assert_eq!(kept(&resnet, 1).unwrap(), resnet[..3]);
        assert_eq!(kept(&resnet, 2).unwrap(), resnet[..1]);
        assert_eq!(kept(&resnet, 3), None);
        // A common root is no stage.
        let rooted = ["net.norm1.weight", "net.norm1.bias", "net.norm2.weight", "net.norm2.bias"];
        assert_eq!(kept(&rooted, 1).unwrap(), rooted[..2]);
        assert_eq!(kept(&rooted[..2], 1), None);
        assert_eq!(kept(&["weight"], 1), None);
        assert_eq!(kept(&[], 1), None);
    }
}
