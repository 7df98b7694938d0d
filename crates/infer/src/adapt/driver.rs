//! The one driver. Everything it does for a window is one graph: see the window, forward, objective, gradient, step,
//! update filters, forward again, outcome check, select, and the facts of the receipt in the same read.

use std::sync::Arc;

use acclimate_kernels::random::Key;
use acclimate_kernels::{concat, stack};
use acclimate_tensor::{DType, Tensor};
use acclimate_train::{Layer, Params, Statistics, loss};

use super::guard::Chosen;
use super::look::{Look, Seen};
use super::objective::Evidence;
use super::pairs::Pairs;
use super::state::Carried;
use super::step::{Resets, Stepped};
use super::{Adaptation, Answer, Form, Guard, Moves, Output, Prepare, answer};
use crate::error::Error;
use crate::overlay::Overlay;
use crate::sensor;
use crate::source::SourceStatistics;

/// Facts of a window, in this order, before the squared norms of the overlay's entries: the objective before and after;
/// whether all was finite, the objective fell, and the input unusual; its score; rows kept; whether what a reset watches was
/// too low, that number and its limit; whether a reset was due; whether the answer is as sure as it must be, and its entropy where that
/// was asked.
pub(crate) const FACTS: usize = 13;

/// What one window gave.
pub(crate) struct Outcome {
    /// Answer's logits of each row, then the frozen model's, then the facts, then what filters said of each row: one flat
    /// vector, one read.
    pub report: Tensor,
    /// The state after the window.
    pub state: Carried,
    /// The image as the network saw it, if the sensor moves and the change was accepted; else as it came.
    pub image: Option<Tensor>,
}

/// The driver of a session.
pub(crate) struct Driver {
    pub model: Arc<dyn Layer>,
    pub params: Params,
    pub method: Adaptation,
    pub overlay: Overlay,
    pub source: Option<SourceStatistics>,
}

impl Driver {
    /// Adapts to one window. x: [c, h, w], or [b, c, h, w] for a batch; key: the input's own.
    pub fn adapt(&self, x: &Tensor, key: &Key, state: Carried) -> Result<Outcome, Error> {
        let m = &self.method;
        let batch = !m.is_per_input();
        let inputs = if batch { x.clone() } else { x.unsqueeze(0)? };
        let frozen = self.forward(&self.params, &inputs, Statistics::Source)?;
        let prepared = self.prepared(x, batch)?;
        let (mut sight, mut now) = self.sight(&prepared, key, &state)?;
        if m.form != Form::Delta {
            now = now.with_pairs(Pairs::none(&self.params, &self.overlay)?);
        }
        sight.source = batch.then(|| frozen.logits.clone());
        // Steps. The first objective is that of Δ as it was.
        let mut first: Option<Stepped> = None;
        let mut resets = Resets::default();
        for number in 0..m.steps {
            let stepped = self.step(number, &sight, &now)?;
            now = stepped.state.clone();
            resets = stepped.resets.clone();
            first.get_or_insert(stepped);
        }
        // Where nobody looks at the objective after the step, no second forward pass is made.
        let checks = m.guards.contains(&Guard::LossMustFall);
        let before_step = match m.answer {
            Answer::BeforeStep | Answer::Teacher => true,
            Answer::MeanOfViews => batch,
            Answer::AfterStep => false,
        };
        let second = match &first {
            Some(_) if before_step && !checks => None,
            _ => {
                let how = if first.is_some() { Look::Again } else { Look::First };
                let seen = self.look(&now, now.delta(), &sight.rows, how)?;
                if first.is_none() {
                    now = self.with_running(now, &seen);
                }
                let nothing = Chosen::all(&state);
                let chosen = first.as_ref().map_or(&nothing, |f| &f.chosen);
                let view = self.view(&now, now.delta(), &sight)?;
                let evidence = self.evidence(&seen, view.as_ref(), &sight, now.delta());
                Some((self.penalized(&evidence, chosen)?, seen))
            }
        };
        let (after, last) = match (&second, &first) {
            (Some((objective, seen)), _) => (objective, seen),
            (None, Some(first)) => (&first.objective, &first.seen),
            (None, None) => return Err(Error::Empty { what: "the forward passes of this method" }),
        };
        let (before, earliest) = first.as_ref().map_or((after, last), |f| (&f.objective, &f.seen));
        let answering = if before_step { earliest } else { last };
        let mut logits = match m.answer {
            Answer::BeforeStep if sight.bank.is_some() => {
                sight.answer.clone().ok_or(Error::Empty { what: "the answers of this batch" })?
            }
            Answer::BeforeStep => earliest.logits.clone(),
            Answer::AfterStep if batch => last.logits.clone(),
            Answer::AfterStep => last.logits.narrow(0, 0, 1)?,
            Answer::MeanOfViews if batch => {
                let view = first.as_ref().and_then(|f| f.view.as_ref());
                let view = view.ok_or(Error::Empty { what: "the views of this batch" })?;
                answer::mean_log_probability(&stack(&[&earliest.logits, view], 0)?)?
            }
            Answer::MeanOfViews => answer::mean_log_probability(&last.logits.unsqueeze(1)?)?,
            Answer::Teacher => sight.answer.clone().ok_or(Error::Empty { what: "the teacher's answers" })?,
        };
        (now, logits) = self.put_out(now, logits, answering)?;
        let delta = now.delta().clone();
        let norms = match now.pairs() {
            Some(pairs) => Some(pairs.square_norms(&self.overlay)?),
            None if self.overlay.is_empty() => None,
            None => Some(self.overlay.square_norms(&delta)?),
        };
        let finite = match (now.pairs(), &norms) {
            (Some(_), Some(norms)) => all_finite(&[&logits, after, norms])?,
            _ => all_finite(&[&logits, after, &delta])?,
        };
        let kept = first.as_ref().and_then(|f| f.kept.clone());
        let fell = match &kept {
            _ if !checks => finite.clone(),
            // Where nothing was kept there was no step that could be wrong.
            Some(kept) => after.lt(before)?.or(&kept.eq(&kept.zeros_like()?)?)?,
            None => after.lt(before)?,
        };
        // A gate asks for one score; only per-input windows have one.
        let (unusual, score) = match (m.gate(), frozen.score) {
            (Some(limit), Some(score)) if !batch => {
                let score = score.reshape(&[])?;
                (score.le(&score.full_like(limit)?)?.not()?, score)
            }
            _ => (finite.clone(), before.zeros_like()?),
        };
        let (surer, entropy) = if m.guards.contains(&Guard::MustBeSurer) {
            let of = |logits| Ok::<_, Error>(loss::entropy(logits)?.reshape(&[])?);
            let entropy = of(&logits)?;
            (entropy.lt(&of(&frozen.logits)?)?, entropy)
        } else {
            (finite.clone(), before.zeros_like()?)
        };
        let accept = finite.and(&fell)?.and(&unusual)?.and(&surer)?;
        let given = accept.broadcast_to(logits.shape())?.select(&logits, &frozen.logits)?;
        let state_after = now.or_old(&finite.and(&fell)?, &state)?;
        let flag = |t: &Tensor| t.cast(DType::F32)?.reshape(&[1]);
        let number = |t: &Tensor| t.reshape(&[1]);
        let none = number(&before.zeros_like()?)?;
        let kept = match &kept {
            Some(kept) => number(kept)?,
            None => none.full_like(sight.rows.dims()[0] as f32)?,
        };
        let [low, mean, limit] = match &resets.low {
            Some([low, mean, limit]) => [flag(low)?, mean.clone(), limit.clone()],
            None => [none.clone(), none.clone(), none.clone()],
        };
        let due = resets.due.as_ref().map_or(Ok(none), flag)?;
        let flat = |t: &Tensor| t.reshape(&[t.numel()]);
        let mut parts = vec![
            flat(&given)?,
            flat(&frozen.logits)?,
            number(before)?,
            number(after)?,
            flag(&finite)?,
            flag(&fell)?,
            flag(&unusual)?,
            number(&score)?,
            kept,
            low,
            mean,
            limit,
            due,
            flag(&surer)?,
            number(&entropy)?,
        ];
        parts.extend(norms);
        // What filters said, where the window's rows are the answers.
        let verdicts = first.as_ref().and_then(|f| f.chosen.verdicts.as_ref());
        if let Some(verdicts) = verdicts.filter(|_| m.judges_answers()) {
            parts.push(flat(verdicts)?);
        }
        let report = concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        let image = match m.moves {
            Moves::Sensor => {
                let corrected = sensor::correct(&prepared, &delta)?;
                Some(accept.broadcast_to(x.shape())?.select(&corrected, x)?)
            }
            _ => None,
        };
        Ok(Outcome { report, state: state_after, image })
    }

    /// Logits of a batch [n, c, h, w] without a step: under the state as it is for methods that carry one, of the frozen
    /// model for methods that start from it with every input.
    pub fn unadapted(&self, x: &Tensor, state: &Carried) -> Result<Tensor, Error> {
        let seen = match self.method.is_per_input() {
            true => self.forward(&self.params, x, Statistics::Source)?,
            false => self.look(state, state.delta(), &self.prepared(x, true)?, Look::First)?,
        };
        Ok(seen.logits)
    }

    /// The answer after the method's correction of outputs, and the state with what that remembers.
    fn put_out(&self, state: Carried, logits: Tensor, from: &Seen) -> Result<(Carried, Tensor), Error> {
        let features = || from.features.as_ref().ok_or(Error::Empty { what: "the linear layers of this model" });
        Ok(match &self.method.output {
            Output::AsIs => (state, logits),
            Output::Temperature(t) => (state, answer::tempered(&logits, *t)?),
            Output::PriorCorrected => (state, answer::prior_corrected(&logits)?),
            Output::Lame(lame) => (state, lame.of(&logits, features()?)?),
            Output::Prototypes(p) => p.answer(state, features()?, &logits)?,
        })
    }

    /// The image that adaptation starts from.
    fn prepared(&self, x: &Tensor, batch: bool) -> Result<Tensor, Error> {
        match self.method.prepare {
            Prepare::AsIs => Ok(x.clone()),
            Prepare::Stretch if batch => Ok(acclimate_tensor::vmap(|x: Tensor| sensor::stretch(&x), x.clone())?),
            Prepare::Stretch => Ok(sensor::stretch(x)?),
            Prepare::BestCandidate => {
                let all = sensor::candidates(x)?;
                let seen = self.forward(&self.params, &all, self.method.statistics)?;
                let nowhere = Tensor::zeros(x.device(), &[1])?;
                let evidence = Evidence {
                    logits: &seen.logits,
                    score: seen.score.as_ref(),
                    view: None,
                    masked: None,
                    teacher: None,
                    delta: &nowhere,
                };
                let best = acclimate_kernels::TensorOps::argmin(&self.method.objective.scores(&evidence)?, 0)?;
                let best = best.reshape(&[1])?;
                let mut chosen = x.clone();
                for i in 1..all.dims()[0] {
                    let hit = best.eq(&Tensor::full_u32(x.device(), &[1], u32::try_from(i).unwrap_or(0))?)?;
                    let candidate = all.narrow(0, i, 1)?.squeeze(0)?;
                    chosen = hit.reshape(&[1, 1, 1])?.broadcast_to(x.shape())?.select(&candidate, &chosen)?;
                }
                // The choice is made; no gradient flows through it.
                Ok(chosen.detach()?)
            }
        }
    }

    /// Δ scaled back into the trust region.
    pub(super) fn trusted(&self, delta: Tensor) -> Result<Tensor, Error> {
        let mut delta = delta;
        for guard in &self.method.guards {
            if let Guard::TrustRegion(radius) = guard {
                let norm = delta.square()?.sum_keep(&[])?.sqrt()?;
                delta = delta.mul(&within(&norm, *radius)?)?;
            }
        }
        Ok(delta)
    }
}

/// What brings something of this norm back to `radius`: at most 1.
pub(super) fn within(norm: &Tensor, radius: f32) -> Result<Tensor, Error> {
    let limit = norm.full_like(radius)?;
    Ok(norm.gt(&limit)?.select(&limit.div(norm)?, &norm.ones_like()?)?)
}

/// Whether every element of every tensor is finite: a bool scalar.
pub(crate) fn all_finite(tensors: &[&Tensor]) -> Result<Tensor, Error> {
    let mut all: Option<Tensor> = None;
    for t in tensors {
        let bad = t.is_finite()?.not()?.cast(DType::F32)?.sum(&[])?;
        let ok = bad.eq(&bad.zeros_like()?)?;
        all = Some(match all {
            Some(a) => a.and(&ok)?,
            None => ok,
        });
    }
    all.ok_or(Error::Empty { what: "a list of tensors to check" })
}
