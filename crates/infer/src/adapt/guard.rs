//! Guards: which inputs a step may learn from, what it may do to the overlay, and whether its outcome is kept.
//!
//! A filter of rows marks and never multiplies: a row that is left out may hold anything.

use acclimate_kernels::random::Key;
use acclimate_kernels::{TensorOps, concat, stack};
use acclimate_tensor::{DType, Tensor};
use acclimate_train::loss;
use serde::Serialize;

use super::state::Carried;
use super::weight::{self, Weighting};
use crate::error::Error;
use crate::receipt::Reason;

/// Which guards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Guard {
    /// Input filter: leaves alone an input whose layer statistics score at most this under the source's.
    Unusual(f32),
    /// Update filter: Δ is scaled back to this norm where it is longer.
    TrustRegion(f32),
    /// Outcome check: rolls back unless the objective fell.
    LossMustFall,
    /// Outcome check: rolls back unless the answer is surer than the source model's (its entropy is lower). A change that
    /// suits the objective but not the input leaves the network less sure.
    MustBeSurer,
    /// Row filter: keeps rows whose entropy is below this share of ln C, C the number of classes (EATA, SAR).
    Sure(f32),
    /// Row filter: keeps rows whose likeliest class has more than this probability (pseudo-labels).
    Confident(f32),
    /// Row filter: keeps rows whose probabilities have less than this cosine (in size) with the running mean of those kept
    /// before, which keeps 0.9 of itself at each batch (EATA).
    Unseen(f32),
    /// Row filter: keeps rows whose class loses more than this probability when the image's patches are shuffled (DeYO).
    ShapeMatters {
        /// The probability to lose.
        drop: f32,
        /// Patches along each side.
        patches: usize,
    },
    /// Row filter: keeps rows that differ from the running mean prediction at least as much as the mean row does (ROID).
    Diverse,
    /// State guard: when the running mean of the objective over the rows kept, which keeps 0.9 of itself, falls below this
    /// share of ln C, everything is reset (SAR).
    Recover(f32),
}

/// Mean probabilities of the rows kept so far: f32 `[c]`, and whether there were any: f32 `[1]`.
pub(super) const SEEN: [&str; 2] = ["seen_probability", "seen_any"];
/// Running mean of the predictions of whole batches: f32 `[c]`.
pub(super) const CLASSES: &str = "class_probability";
/// Running mean of the objective over kept rows, and whether there is one: f32 `[1]` each.
pub(super) const LOSS: [&str; 2] = ["kept_loss", "kept_loss_any"];
/// What running means keep of themselves.
const KEEP: f32 = 0.9;

/// Logits of a window's rows, of the same rows with patches shuffled where a guard asks, and what is remembered.
pub(super) struct Judged<'a> {
    pub logits: &'a Tensor,
    pub shuffled: Option<Tensor>,
    pub state: &'a Carried,
}

/// The rows that a step may learn from.
pub(super) struct Chosen {
    /// Which are kept: bool `[n]`. None: no guard asked.
    pub keep: Option<Tensor>,
    /// What each counts: f32 `[n]`. None: all the same.
    pub weights: Option<Tensor>,
    /// For each row the number of the guard that left it out (from 1; 0: kept), what it measured and its limit: f32 [3, n].
    pub verdicts: Option<Tensor>,
    /// The state with the guards' memories brought up to date.
    pub state: Carried,
}

impl Chosen {
    /// Everything counts.
    pub fn all(state: &Carried) -> Self {
        Chosen { keep: None, weights: None, verdicts: None, state: state.clone() }
    }

    /// Number of rows kept, a scalar; None if no guard asked.
    pub fn count(&self) -> Result<Option<Tensor>, Error> {
        self.keep.as_ref().map(|keep| Ok(keep.cast(DType::F32)?.sum(&[])?)).transpose()
    }
}

impl Guard {
    /// Whether it chooses among rows.
    pub(crate) fn is_filter(&self) -> bool {
        matches!(
            self,
            Guard::Sure(_) | Guard::Confident(_) | Guard::Unseen(_) | Guard::ShapeMatters { .. } | Guard::Diverse
        )
    }

    /// Whether it asks nothing but this forward pass's logits, so that a second look can ask again.
    fn is_of_logits(&self) -> bool {
        matches!(self, Guard::Sure(_) | Guard::Confident(_))
    }

    /// What it measures of each row and its limit, and whether rows pass: f32 `[n]`, f32 `[n]`, bool `[n]`.
    fn measure(&self, of: &Judged<'_>) -> Result<(Tensor, Tensor, Tensor), Error> {
        let ln_c = (of.logits.dims()[1] as f32).ln();
        Ok(match self {
            Guard::Sure(share) => {
                let h = loss::entropy(of.logits)?;
                let limit = h.full_like(share * ln_c)?;
                let pass = h.lt(&limit)?;
                (h, limit, pass)
            }
            Guard::Confident(least) => {
                let p = of.logits.log_softmax(1)?.max(&[1])?.exp()?;
                let limit = p.full_like(*least)?;
                let pass = p.gt(&limit)?;
                (p, limit, pass)
            }
            Guard::Unseen(most) => {
                let cosine = weight::cosines(of.logits, of.state.memory(SEEN[0])?)?;
                let first = is_zero(of.state.memory(SEEN[1])?)?.broadcast_to(cosine.shape())?;
                let cosine = first.select(&cosine.zeros_like()?, &cosine)?;
                let limit = cosine.full_like(*most)?;
                let pass = first.or(&cosine.abs()?.lt(&limit)?)?;
                (cosine, limit, pass)
            }
            Guard::ShapeMatters { drop, .. } => {
                let lost = weight::drops(of)?;
                let limit = lost.full_like(*drop)?;
                let pass = lost.gt(&limit)?;
                (lost, limit, pass)
            }
            Guard::Diverse => {
                let diversity = weight::diversity(of.logits, of.state.memory(CLASSES)?)?;
                let limit = diversity.mean_keep(&[0])?.broadcast_to(diversity.shape())?;
                let pass = diversity.ge(&limit)?;
                (diversity, limit, pass)
            }
            Guard::Unusual(_)
            | Guard::TrustRegion(_)
            | Guard::LossMustFall
            | Guard::MustBeSurer
            | Guard::Recover(_) => {
                let zero = loss::entropy(of.logits)?.zeros_like()?;
                let pass = zero.eq(&zero)?;
                (zero.clone(), zero, pass)
            }
        })
    }

    /// Why a row was left out.
    pub(crate) fn reason(&self, measured: f32, limit: f32) -> Reason {
        match self {
            Guard::Sure(_) => Reason::TooUncertain { entropy: measured, limit },
            Guard::Confident(_) => Reason::TooUnsure { confidence: measured, limit },
            Guard::Unseen(_) => Reason::Redundant { cosine: measured, limit },
            Guard::ShapeMatters { .. } => Reason::NotByShape { drop: measured, limit },
            _ => Reason::NotDiverse { diversity: measured, limit },
        }
    }
}

/// Asks the filters in order and weighs the rows; nothing of it carries a gradient.
pub(super) fn choose(guards: &[Guard], weighting: Weighting, of: &Judged<'_>) -> Result<Chosen, Error> {
    let detached = of.logits.detach()?;
    let of = &Judged { logits: &detached, shuffled: of.shuffled.clone(), state: of.state };
    let mut chosen = Chosen::all(of.state);
    let filters: Vec<&Guard> = guards.iter().filter(|g| g.is_filter()).collect();
    if !filters.is_empty() {
        let zero = Tensor::zeros(detached.device(), &[detached.dims()[0]])?;
        let (mut keep, mut number) = (zero.eq(&zero)?, zero.clone());
        let (mut measured, mut limit) = (zero.clone(), zero);
        for (i, guard) in filters.iter().enumerate() {
            let (value, bound, pass) = guard.measure(of)?;
            let out = keep.and(&pass.not()?)?; // the first guard to refuse is the one that is named
            number = out.select(&number.full_like((i + 1) as f32)?, &number)?;
            measured = out.select(&value, &measured)?;
            limit = out.select(&bound, &limit)?;
            keep = keep.and(&pass)?;
        }
        chosen.verdicts = Some(stack(&[&number, &measured, &limit], 0)?);
        chosen.keep = Some(keep);
    }
    chosen.weights = weighting.of(of)?.map(|w| w.detach()).transpose()?;
    chosen.state = remember(guards, weighting, of, chosen.keep.as_ref())?;
    Ok(chosen)
}

/// A second look at the rows that were kept: those whose logits still pass.
pub(super) fn choose_again(guards: &[Guard], of: &Judged<'_>, before: &Chosen) -> Result<Chosen, Error> {
    let mut keep = before.keep.clone();
    let detached = of.logits.detach()?;
    let of = Judged { logits: &detached, shuffled: None, state: of.state };
    for guard in guards.iter().filter(|g| g.is_of_logits()) {
        let pass = guard.measure(&of)?.2;
        keep = Some(match keep {
            Some(keep) => keep.and(&pass)?,
            None => pass,
        });
    }
    let (weights, verdicts) = (before.weights.clone(), before.verdicts.clone());
    Ok(Chosen { keep, weights, verdicts, state: before.state.clone() })
}

fn remember(guards: &[Guard], weighting: Weighting, of: &Judged<'_>, keep: Option<&Tensor>) -> Result<Carried, Error> {
    let mut state = of.state.clone();
    let p = of.logits.softmax(1)?;
    if guards.iter().any(|g| matches!(g, Guard::Unseen(_)))
        && let Some(keep) = keep
    {
        let column = keep.unsqueeze(1)?.broadcast_to(p.shape())?;
        let count = keep.cast(DType::F32)?.sum(&[])?;
        let mean = column.select(&p, &p.zeros_like()?)?.sum(&[0])?.div(&count.maximum(&count.ones_like()?)?)?;
        let (old, any) = (state.memory(SEEN[0])?.clone(), state.memory(SEEN[1])?.clone());
        let first = is_zero(&any)?;
        let blended = old.mul_scalar(KEEP)?.add(&mean.mul_scalar(1.0 - KEEP)?)?;
        let new = first.broadcast_to(mean.shape())?.select(&mean, &blended)?;
        state = state.remember(SEEN[0], new).remember(SEEN[1], any.ones_like()?);
    }
    if needs_classes(guards, weighting) {
        let old = state.memory(CLASSES)?.clone();
        let new = old.mul_scalar(KEEP)?.add(&p.mean(&[0])?.mul_scalar(1.0 - KEEP)?)?;
        state = state.remember(CLASSES, new);
    }
    Ok(state)
}

/// Whether the running mean prediction is needed.
pub(super) fn needs_classes(guards: &[Guard], weighting: Weighting) -> bool {
    guards.contains(&Guard::Diverse) || matches!(weighting, Weighting::DiversityAndCertainty { .. })
}

/// The running mean of the objective over kept rows, brought up to date; whether it is so low that everything is to be
/// reset (bool `[1]`), the mean and its limit (f32 `[1]`). None without [`Guard::Recover`].
pub(super) fn recover(
    guards: &[Guard],
    classes: usize,
    mean: &Tensor,
    state: Carried,
) -> Result<(Carried, Option<[Tensor; 3]>), Error> {
    let share = guards.iter().find_map(|g| if let Guard::Recover(share) = g { Some(*share) } else { None });
    let Some(share) = share else { return Ok((state, None)) };
    let (old, any) = (state.memory(LOSS[0])?.clone(), state.memory(LOSS[1])?.clone());
    let mean = mean.detach()?.reshape(&[1])?;
    let blended = old.mul_scalar(KEEP)?.add(&mean.mul_scalar(1.0 - KEEP)?)?;
    let new = is_zero(&any)?.select(&mean, &blended)?;
    let limit = new.full_like(share * (classes as f32).ln())?;
    let low = new.lt(&limit)?;
    let state = state.remember(LOSS[0], new.clone()).remember(LOSS[1], any.ones_like()?);
    Ok((state, Some([low, new, limit])))
}

fn is_zero(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.eq(&x.zeros_like()?)?)
}

/// The rows with their patches shuffled, each by a key of its own; what does not fill the grid stays. rows: [n, c, h, w].
pub(super) fn shuffled(rows: &Tensor, key: &Key, patches: usize) -> Result<Tensor, Error> {
    let (n, h, w) = (rows.dims()[0], rows.dims()[2], rows.dims()[3]);
    let g = patches.min(h).min(w).max(1);
    let keys = key.split_stacked(n)?;
    Ok(acclimate_tensor::vmap(
        |(x, key): (Tensor, Tensor)| shuffle(&x, &Key::from_tensor(key)?, g, [h / g, w / g]),
        (rows.clone(), keys),
    )?)
}

fn shuffle(x: &Tensor, key: &Key, g: usize, [ph, pw]: [usize; 2]) -> acclimate_tensor::Result<Tensor> {
    let (c, h, w) = (x.dims()[0], x.dims()[1], x.dims()[2]);
    let inner = x.narrow(1, 0, g * ph)?.narrow(2, 0, g * pw)?;
    let patches = inner.reshape(&[c, g, ph, g, pw])?.permute(&[1, 3, 0, 2, 4])?.reshape(&[g * g, c * ph * pw])?;
    let order = acclimate_kernels::random::permutation(key, g * g)?;
    let moved = patches.take(&order)?.reshape(&[g, g, c, ph, pw])?.permute(&[2, 0, 3, 1, 4])?;
    let mut y = moved.reshape(&[c, g * ph, g * pw])?;
    if g * pw < w {
        y = concat(&[&y, &x.narrow(1, 0, g * ph)?.narrow(2, g * pw, w - g * pw)?], 2)?;
    }
    if g * ph < h {
        y = concat(&[&y, &x.narrow(1, g * ph, h - g * ph)?], 1)?;
    }
    Ok(y)
}
