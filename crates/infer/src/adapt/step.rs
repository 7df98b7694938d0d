//! One step of the driver, as graph: look, choose rows, objective, gradient (at the worst point near by, where asked),
//! optimizer, what settles after it, memories; and everything as it was where no row was kept.

use acclimate_kernels::random::Key;
use acclimate_tensor::{Tensor, grad};

use super::driver::{Driver, within};
use super::guard::{self, Chosen, Judged};
use super::inner::take_step;
use super::look::{Look, Seen};
use super::objective::Evidence;
use super::sight::Sight;
use super::state::Carried;
use super::{Guard, Objective, Reset, reset};
use crate::error::Error;

/// Draws of a window that must differ from each other, by name.
#[derive(Clone, Copy)]
pub(super) enum Draw {
    View = 1,
    Shuffle = 2,
    Teacher = 3,
    Settle = 4,
    Bank = 5,
    Search = 6,
    Mask = 7,
}

impl Draw {
    pub(super) fn key(self, key: &Key) -> Result<Key, Error> {
        Ok(key.fold_in(self as u32)?)
    }
}

/// What a step gave.
pub(super) struct Stepped {
    /// The objective before the step, a scalar.
    pub objective: Tensor,
    /// What was seen before it.
    pub seen: Seen,
    /// The logits of one more view of each row, where the objective compares with it.
    pub view: Option<Tensor>,
    /// The rows it learned from.
    pub chosen: Chosen,
    /// The state after it.
    pub state: Carried,
    /// Number of rows kept, a scalar; None if no guard asked.
    pub kept: Option<Tensor>,
    /// Resets that fell due.
    pub resets: Resets,
}

/// Why the state went back to its initial values, if it did.
#[derive(Clone, Default)]
pub(super) struct Resets {
    /// Whether something was too low (bool `[1]`), that number, and its limit.
    pub low: Option<[Tensor; 3]>,
    /// Whether it was time (bool `[1]`).
    pub due: Option<Tensor>,
}

impl Driver {
    /// A step from `before`.
    pub(super) fn step(&self, number: usize, sight: &Sight, before: &Carried) -> Result<Stepped, Error> {
        let m = &self.method;
        if let Some(search) = m.search {
            return self.search(search, number, sight, before);
        }
        let optimizer = m.step.as_ref().ok_or(Error::Empty { what: "the optimizer of this method" })?;
        let seen = self.look(before, before.delta(), &sight.rows, Look::First)?;
        let before = &self.with_running(before.clone(), &seen);
        let chosen = self.choose(sight, before, &seen)?;
        let view = self.view(before, before.delta(), sight)?;
        let evidence = self.evidence(&seen, view.as_ref(), sight, before.delta());
        let objective = self.penalized(&evidence, &chosen)?;
        let (mut kept, mut mean) = (chosen.count()?, None);
        if before.pairs().is_some() {
            return self.step_by_pairs(number, before, (seen, view), chosen, objective);
        }
        let mut gradient = grad(&objective, before.delta().clone())?;
        if let Some(radius) = m.sharpness {
            let length = gradient.square()?.sum_keep(&[0])?.sqrt()?.add_scalar(1e-12)?;
            let there = before.delta().add(&gradient.div(&length)?.mul_scalar(radius)?)?.detach()?;
            let worst = self.look(before, &there, &sight.rows, Look::Again)?;
            let judged = Judged { logits: &worst.logits, shuffled: None, state: before };
            let still = guard::choose_again(&m.guards, &judged, &chosen)?;
            let view = self.view(before, &there, sight)?;
            let evidence = self.evidence(&worst, view.as_ref(), sight, &there);
            gradient = grad(&self.penalized(&evidence, &still)?, there.clone())?;
            kept = still.count()?;
            mean = Some(m.objective.mean_kept(&evidence, &still)?);
        }
        let rate = Tensor::full(sight.rows.device(), &[1], optimizer.rate(number as u64))?;
        let (theta, state) = (before.delta().clone(), before.optimizer().clone());
        let (mut delta, moments) = take_step(optimizer, &objective, &gradient, theta, state, &rate)?;
        let mut after = chosen.state.clone();
        if let Some(teacher) = m.teacher {
            after = teacher.follow(after, &delta)?;
        }
        let key = Draw::Settle.key(&sight.key)?;
        for (i, settle) in m.settle.iter().enumerate() {
            let tag = u32::try_from(number * m.settle.len() + i).unwrap_or(u32::MAX);
            delta = settle.apply(&delta, &key.fold_in(tag)?)?;
        }
        after = after.stepped(self.trusted(delta)?, moments);
        let mut resets = Resets::default();
        if m.guards.iter().any(|g| matches!(g, Guard::Recover(_))) {
            let mean = match mean {
                Some(mean) => mean,
                None => m.objective.mean_kept(&evidence, &chosen)?,
            };
            (after, resets.low) = guard::recover(&m.guards, seen.logits.dims()[1], &mean, after)?;
        }
        let whole = resets.clone();
        (after, resets.due) = m.reset.count(after)?;
        after = self.reset_where(&Resets { due: resets.due.clone(), ..whole }, sight, after)?;
        if let (Reset::Selective { first }, Some(source)) = (m.reset, &sight.source) {
            let positions = self.overlay.positions(sight.rows.device())?;
            let (logits, count) = ([&seen.logits, source], self.overlay.entries().len());
            let (state, of) = reset::select(after, &self.fresh(sight.image)?, first, logits, &positions, count)?;
            (after, resets.low) = (state, Some([of.due, of.entropy, of.level]));
        }
        if let Some(kept) = &kept {
            let any = kept.gt(&kept.zeros_like()?)?;
            after = after.or_old(&any, before)?;
            let only = |flag: &Tensor| flag.and(&any.reshape(&[1])?);
            resets.low = resets.low.map(|[low, at, limit]| Ok::<_, Error>([only(&low)?, at, limit])).transpose()?;
            resets.due = resets.due.map(|due| only(&due)).transpose()?;
        }
        let view = view.map(|view| view.logits);
        Ok(Stepped { objective, seen, view, chosen, state: after, kept, resets })
    }

    /// The step of plain gradient descent, as pairs.
    fn step_by_pairs(
        &self,
        number: usize,
        before: &Carried,
        (seen, view): (Seen, Option<Seen>),
        chosen: Chosen,
        objective: Tensor,
    ) -> Result<Stepped, Error> {
        let m = &self.method;
        let (Some(pairs), Some(optimizer)) = (before.pairs().cloned(), m.step.as_ref()) else {
            return Err(Error::Empty { what: "the optimizer of this method" });
        };
        // A side head's objective looks at nothing else.
        let side = matches!(m.objective, Objective::QuarterTurns | Objective::MaskedPatches(_));
        let mut products = if side { Vec::new() } else { seen.products.clone() };
        products.extend(view.iter().flat_map(|view| view.products.iter().cloned()));
        let how = (optimizer.rate(number as u64), m.form);
        let mut after = pairs.step(&self.params, &self.overlay, &products, &objective, how)?;
        for guard in &m.guards {
            if let Guard::TrustRegion(radius) = guard {
                let norm = after.square_norms(&self.overlay)?.sum_keep(&[])?.sqrt()?;
                after = after.scaled(&within(&norm, *radius)?, &self.params, &self.overlay)?;
            }
        }
        let state = chosen.state.clone().with_pairs(after);
        let view = view.map(|view| view.logits);
        Ok(Stepped { objective, seen, view, chosen, state, kept: None, resets: Resets::default() })
    }

    /// The initial state where a reset fell due.
    fn reset_where(&self, resets: &Resets, sight: &Sight, after: Carried) -> Result<Carried, Error> {
        let flags: Vec<&Tensor> = resets.low.iter().map(|[low, ..]| low).chain(&resets.due).collect();
        let Some((first, rest)) = flags.split_first() else { return Ok(after) };
        let any = rest.iter().try_fold((*first).clone(), |any, flag| any.or(flag))?;
        let dims: [usize; 3] = sight.image;
        after.or_old(&any.not()?, &self.fresh(dims)?)
    }

    fn choose(&self, sight: &Sight, before: &Carried, seen: &Seen) -> Result<Chosen, Error> {
        let m = &self.method;
        let shuffled = match &sight.shuffled {
            Some(rows) => Some(self.look(before, before.delta(), rows, Look::Again)?.logits.detach()?),
            None => None,
        };
        let judged = Judged { logits: &seen.logits, shuffled, state: before };
        let mut chosen = guard::choose(&m.guards, m.weighting, &judged)?;
        if let Some((filled, timeliness)) = &sight.bank {
            chosen.keep = Some(match chosen.keep {
                Some(keep) => keep.and(filled)?,
                None => filled.clone(),
            });
            chosen.weights = Some(match chosen.weights {
                Some(weights) => weights.mul(timeliness)?,
                None => timeliness.clone(),
            });
        }
        Ok(chosen)
    }

    /// The look at one more view of each row, where the objective compares with it.
    pub(super) fn view(&self, state: &Carried, delta: &Tensor, sight: &Sight) -> Result<Option<Seen>, Error> {
        match (&self.method.objective, &sight.viewed) {
            (Objective::LikelihoodRatio(Some(_)), Some(rows)) => {
                Ok(Some(self.look(state, delta, rows, Look::Again)?))
            }
            (Objective::QuarterTurns, Some(rows)) => Ok(Some(self.look(state, delta, rows, Look::SideHead)?)),
            (Objective::MaskedPatches(_), _) => match &sight.masked {
                Some(masked) => Ok(Some(self.look(state, delta, &masked.rows, Look::SideHead)?)),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    pub(super) fn evidence<'a>(
        &self,
        seen: &'a Seen,
        view: Option<&'a Seen>,
        sight: &'a Sight,
        delta: &'a Tensor,
    ) -> Evidence<'a> {
        let view = view.map(|view| &view.logits);
        let (masked, teacher) = (sight.masked.as_ref(), sight.teacher.as_ref());
        Evidence { logits: &seen.logits, score: seen.score.as_ref(), view, masked, teacher, delta }
    }

    /// Objective and anchors: a scalar.
    pub(super) fn penalized(&self, evidence: &Evidence<'_>, chosen: &Chosen) -> Result<Tensor, Error> {
        let m = &self.method;
        let mut total = m.objective.of(evidence, chosen, m.weighting)?;
        for anchor in &m.anchors {
            total = total.add(&anchor.of(evidence.delta)?)?;
        }
        Ok(total)
    }
}
