//! Masks: weights that are 0 and stay so. Unstructured pruning makes a file compress well and says which weights a network
//! needs; it makes nothing faster on dense kernels. For that see [`super::Dependencies`].

use std::collections::BTreeMap;

use acclimate_tensor::{DType, Tensor};
use acclimate_train::Params;
use acclimate_train::optim::{Flat, State, StepCx, Transform};
use acclimate_train::params::{Kind, Named};

use crate::error::Error;

/// Which weights compete with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Within {
    /// All weights of the model: one threshold.
    Model,
    /// Those of one layer.
    Layer,
    /// Those of one output: a row of a linear weight, a filter of a convolution (Sun et al. 2024, Wanda).
    Output,
    /// Each `of` neighbors in a row, of which `keep` stay whatever the share: 2 of 4 is what sparse tensor cores read
    /// (Mishra et al. 2021). A row is flattened, and its length must be a multiple of `of`.
    Neighbors {
        /// How many stay.
        keep: usize,
        /// Of how many.
        of: usize,
    },
}

/// A score for each element of some weights: the smallest go first.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightScores {
    by_path: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl WeightScores {
    /// |w| of weights (biases and normalizations are spared), where `choose(path)`. Spare the first and the last layer:
    /// they have few weights, and need them (Gale, Elsen, Hooker 2019).
    ///
    /// # Errors
    /// If nothing is chosen, or the parameters cannot be read.
    pub fn magnitude(params: &Params, choose: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let chosen = params.select(|path, kind| kind == Kind::Weight && choose(path));
        Self::of(params, &chosen, |_, _, w| Ok(w.abs()))
    }

    /// |w_ij| · ‖x_j‖ (Sun et al. 2024, Wanda): the magnitude weighed by the norm of the input feature that it meets,
    /// as [`super::input_norms`] measures it on a few inputs. Of a convolution's filter each tap meets its channel. Only
    /// weights that have norms are scored. Use it with [`Within::Output`], as the paper does, or [`Within::Neighbors`].
    ///
    /// # Errors
    /// As [`WeightScores::magnitude`], and if norms are not those of the inputs of a weight.
    pub fn wanda(params: &Params, norms: &BTreeMap<String, Vec<f32>>) -> Result<Self, Error> {
        let chosen = params.select(|path, _| norms.contains_key(path));
        Self::of(params, &chosen, |(path, dims, _), at, w| {
            let inner: usize = dims.iter().skip(2).product();
            let norms = norms.get(path).map_or(&[][..], Vec::as_slice);
            let inputs = dims.get(1).copied().unwrap_or(1);
            if norms.len() != inputs {
                let expected = format!("{inputs} for `{path}`");
                return Err(Error::prune("norms of input features", expected, norms.len()));
            }
            Ok(w.abs() * norms[at / inner % inputs])
        })
    }

    fn of(
        params: &Params,
        chosen: &[String],
        score: impl Fn(&Named, usize, f32) -> Result<f32, Error>,
    ) -> Result<Self, Error> {
        if chosen.is_empty() {
            return Err(Error::Empty { what: "the list of weights to prune" });
        }
        let mut by_path = BTreeMap::new();
        for named in params.to_named()?.iter().filter(|n| chosen.contains(&n.0)) {
            let scores = named.2.iter().enumerate().map(|(at, &w)| score(named, at, w));
            by_path.insert(named.0.clone(), (named.1.clone(), scores.collect::<Result<Vec<_>, _>>()?));
        }
        Ok(WeightScores { by_path })
    }

    /// The scores of a weight, in its order.
    pub fn of_path(&self, path: &str) -> Option<&[f32]> {
        self.by_path.get(path).map(|(_, scores)| scores.as_slice())
    }

    /// Masks that take away a share of the weights, those of the smallest scores in each pool; the number is rounded to the
    /// nearest (halves to even, as PyTorch's `torch.nn.utils.prune` does), and among equals the first go. With
    /// [`Within::Neighbors`] the share is what the pattern says.
    ///
    /// # Errors
    /// If the share is not in [0, 1], a score is no number, or rows do not fit a pattern.
    pub fn lowest(&self, share: f64, within: Within) -> Result<Masks, Error> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::prune("share of weights", "a number in [0, 1]", share));
        }
        if self.by_path.values().flat_map(|(_, s)| s).any(|s| s.is_nan()) {
            return Err(Error::prune("scores of weights", "numbers", "NaN"));
        }
        let mut stays: BTreeMap<String, Vec<bool>> =
            self.by_path.iter().map(|(path, (_, s))| (path.clone(), vec![true; s.len()])).collect();
        if within == Within::Model {
            let all: Vec<(&String, usize)> =
                self.by_path.iter().flat_map(|(path, (_, s))| (0..s.len()).map(move |i| (path, i))).collect();
            let scores: Vec<f32> = self.by_path.values().flat_map(|(_, s)| s).copied().collect();
            for i in smallest(&scores, rounded(share, scores.len())) {
                let (path, at) = all[i];
                if let Some(mask) = stays.get_mut(path) {
                    mask[at] = false;
                }
            }
            return Ok(Masks { stays });
        }
        for (path, (dims, scores)) in &self.by_path {
            let row = scores.len() / dims.first().copied().unwrap_or(1).max(1);
            let (pool, gone) = match within {
                Within::Layer | Within::Model => (scores.len(), rounded(share, scores.len())),
                Within::Output => (row, rounded(share, row)),
                Within::Neighbors { keep, of } => {
                    if of == 0 || keep > of || !row.is_multiple_of(of) {
                        let expected = format!("rows of a multiple of {of} weights, at most {of} of which stay");
                        return Err(Error::prune("pattern", expected, format!("{keep} of {of} in `{path}` {dims:?}")));
                    }
                    (of, of - keep)
                }
            };
            let Some(mask) = stays.get_mut(path) else { continue };
            for (mask, scores) in mask.chunks_mut(pool.max(1)).zip(scores.chunks(pool.max(1))) {
                smallest(scores, gone).into_iter().for_each(|i| mask[i] = false);
            }
        }
        Ok(Masks { stays })
    }
}

/// Positions of the `n` smallest; among equals the first.
fn smallest(scores: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order.truncate(n);
    order
}

fn rounded(share: f64, n: usize) -> usize {
    (share * n as f64).round_ties_even() as usize
}

/// Which elements of some weights stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masks {
    stays: BTreeMap<String, Vec<bool>>,
}

impl Masks {
    /// The mask of a weight, in its order.
    pub fn of_path(&self, path: &str) -> Option<&[bool]> {
        self.stays.get(path).map(Vec::as_slice)
    }

    /// Share of the masked weights' elements that are gone.
    pub fn sparsity(&self) -> f64 {
        let gone: usize = self.stays.values().flatten().filter(|s| !**s).count();
        gone as f64 / self.stays.values().map(Vec::len).sum::<usize>().max(1) as f64
    }

    /// The parameters with 0 where a mask says so. To train them on, add [`Masks::transform`] to the optimizer.
    ///
    /// # Errors
    /// If the parameters do not have these weights, or cannot be read.
    pub fn apply(&self, params: &Params) -> Result<Params, Error> {
        let index = params.index();
        let mut stays = vec![1u32; index.len()];
        for (path, mask) in &self.stays {
            let entry = index.require("parameter", path)?;
            if entry.shape.numel() != mask.len() {
                let expected = format!("{} elements for `{path}`", mask.len());
                return Err(Error::prune("parameters", expected, entry.shape.numel()));
            }
            let place = &mut stays[entry.offset..entry.offset + mask.len()];
            place.iter_mut().zip(mask).for_each(|(to, &stays)| *to = u32::from(stays));
        }
        let arena = params.arena();
        let stays = Tensor::from_slice(params.device(), &stays, &[index.len()])?.cast(DType::Bool)?;
        Ok(params.with_arena(stays.select(arena, &arena.zeros_like()?)?)?)
    }

    /// The link of an optimizer's chain that keeps what is 0 in these weights at 0. Put it first.
    pub fn transform(&self) -> KeepZeros {
        KeepZeros { paths: self.stays.keys().cloned().collect() }
    }
}

/// Elements of these weights that are exactly 0 stay 0: they get no gradient, and no momentum or decay moves them. So the
/// weights are their own mask, in memory and in files.
#[derive(Clone, Debug, PartialEq)]
pub struct KeepZeros {
    /// Paths of parameters, or of layers that hold them.
    pub paths: Vec<String>,
}

impl KeepZeros {
    fn pruned(theta: &Tensor, state: &State) -> acclimate_train::Result<Tensor> {
        let here = state.require("maskable")?.cast(DType::Bool)?;
        Ok(theta.eq(&theta.zeros_like()?)?.and(&here)?)
    }
}

impl Transform for KeepZeros {
    fn name(&self) -> &'static str {
        "keep_zeros"
    }

    fn init(&self, like: &dyn Flat) -> acclimate_train::Result<State> {
        Ok(State::new().with("maskable", like.select(&self.paths)?.cast(DType::F32)?))
    }

    fn apply(
        &self,
        grads: Tensor,
        theta: &Tensor,
        state: State,
        _: &StepCx,
    ) -> acclimate_train::Result<(Tensor, State)> {
        let passed = Self::pruned(theta, &state)?.select(&grads.zeros_like()?, &grads)?;
        Ok((passed, state))
    }

    fn settle(&self, old: &Tensor, new: Tensor, state: &State) -> acclimate_train::Result<Tensor> {
        Ok(Self::pruned(old, state)?.select(&new.zeros_like()?, &new)?)
    }
}
