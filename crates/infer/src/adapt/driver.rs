//! The one driver. Everything it does for a window is one graph: see the window, forward, objective, gradient, step,
//! update filters, forward again, outcome check, select, and the facts of the receipt in the same read.

use std::sync::Arc;

use acclimate_kernels::random::Key;
use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{DType, Tensor};
use acclimate_train::optim::State;
use acclimate_train::{Layer, Params, Pass, loss};

use super::inner::{Order, held, inner_step};
use super::{Adaptation, Answer, Guard, Moves, Objective, Prepare, Window};
use crate::error::Error;
use crate::overlay::Overlay;
use crate::sensor;
use crate::source::SourceStatistics;

/// Facts of a window, in this order, before the squared norms of the overlay's entries.
pub(crate) const FACTS: usize = 6;

/// What one window gave.
pub(crate) struct Outcome {
    /// Answer's logits of each row, then the frozen model's, then the facts: one flat vector, one read.
    pub report: Tensor,
    /// The overlay after the window.
    pub delta: Tensor,
    /// The optimizer's state after the window.
    pub state: State,
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

/// A forward pass over the rows of a window.
struct Seen {
    logits: Tensor,
    /// Score of each row under the source statistics, if they are needed.
    score: Option<Tensor>,
}

impl Driver {
    /// Adapts to one window. x: [c, h, w], or [b, c, h, w] for a batch; delta: [len of the overlay] (at least one
    /// element); key: the input's own.
    pub fn adapt(&self, x: &Tensor, key: &Key, delta: &Tensor, state: State) -> Result<Outcome, Error> {
        let m = &self.method;
        let batch = !m.is_per_input();
        let inputs = if batch { x.clone() } else { x.unsqueeze(0)? };
        let frozen = self.forward(&self.params, &inputs, acclimate_train::Statistics::Source)?;
        let score = frozen.score.clone();
        let prepared = self.prepared(x, batch)?;
        let rows = match &m.window {
            Window::Views(views) => views.of(&prepared, key)?,
            _ if batch => prepared.clone(),
            _ => prepared.unsqueeze(0)?,
        };
        // Steps. The first objective is that of Δ as it was.
        let (mut theta, mut state_now) = (delta.clone(), state.clone());
        let mut first: Option<(Tensor, Tensor)> = None; // objective, logits
        for step in 0..m.steps {
            let seen = self.moved(&theta, &rows)?;
            let objective = self.objective(&seen, &theta)?;
            first.get_or_insert_with(|| (objective.clone(), seen.logits.clone()));
            let Some(optimizer) = &m.step else { break };
            let rate = Tensor::full(x.device(), &[1], optimizer.rate(step as u64))?;
            (theta, state_now) = inner_step(optimizer, &objective, theta, state_now, &rate, Order::Second)?;
            theta = self.trusted(theta)?;
        }
        // Where nobody looks at the objective after the step, no second forward pass is made.
        let checks = m.guards.contains(&Guard::LossMustFall);
        let last = match &first {
            Some((objective, logits)) if m.answer == Answer::BeforeStep && !checks => {
                (objective.clone(), logits.clone())
            }
            _ => {
                let seen = self.moved(&theta, &rows)?;
                (self.objective(&seen, &theta)?, seen.logits)
            }
        };
        let (loss_before, before_logits) = first.unwrap_or_else(|| last.clone());
        let logits = match m.answer {
            Answer::BeforeStep => before_logits,
            Answer::AfterStep if batch => last.1.clone(),
            Answer::AfterStep => last.1.narrow(0, 0, 1)?,
            Answer::MeanOfViews => mean_log_probability(&last.1)?,
        };
        let finite = all_finite(&[&logits, &last.0, &theta])?;
        let fell = if checks { last.0.lt(&loss_before)? } else { finite.clone() };
        // A gate asks for one score; only per-input windows have one.
        let (unusual, score) = match (m.gate(), score) {
            (Some(limit), Some(score)) if !batch => {
                let score = score.reshape(&[])?;
                (score.le(&score.full_like(limit)?)?.not()?, score)
            }
            _ => (finite.clone(), loss_before.zeros_like()?),
        };
        let accept = finite.and(&fell)?.and(&unusual)?;
        let answer = accept.broadcast_to(logits.shape())?.select(&logits, &frozen.logits)?;
        let kept = finite.and(&fell)?;
        let delta_after = kept.broadcast_to(theta.shape())?.select(&theta, delta)?;
        let state_after = held(&kept, state_now, &state)?;
        let flag = |t: &Tensor| t.cast(DType::F32)?.reshape(&[1]);
        let number = |t: &Tensor| t.reshape(&[1]);
        let mut parts = vec![
            answer.reshape(&[answer.numel()])?,
            frozen.logits.reshape(&[frozen.logits.numel()])?,
            number(&loss_before)?,
            number(&last.0)?,
            flag(&finite)?,
            flag(&fell)?,
            flag(&unusual)?,
            number(&score)?,
        ];
        if !self.overlay.is_empty() {
            parts.push(self.overlay.square_norms(&theta)?);
        }
        let report = concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        let image = match m.moves {
            Moves::Sensor => {
                let corrected = sensor::correct(&prepared, &theta)?;
                Some(accept.broadcast_to(x.shape())?.select(&corrected, x)?)
            }
            _ => None,
        };
        Ok(Outcome { report, delta: delta_after, state: state_after, image })
    }

    fn forward(&self, params: &Params, rows: &Tensor, statistics: acclimate_train::Statistics) -> Result<Seen, Error> {
        let mut pass = Pass::infer().with_statistics(statistics);
        let score = self.source.as_ref().filter(|_| self.method.needs_source_statistics());
        if score.is_some() {
            pass = pass.with_taps();
        }
        let logits = self.model.apply(params, rows, &mut pass)?;
        let score = score.map(|s| s.score(&pass.take_taps())).transpose()?;
        Ok(Seen { logits, score })
    }

    /// The forward pass under Δ.
    fn moved(&self, delta: &Tensor, rows: &Tensor) -> Result<Seen, Error> {
        let statistics = self.method.statistics;
        match self.method.moves {
            Moves::Nothing => self.forward(&self.params, rows, statistics),
            Moves::Sensor => {
                let dims = rows.dims().to_vec();
                // The rows of a window are views of one image and share its correction.
                let mut corrected = Vec::with_capacity(dims[0]);
                for i in 0..dims[0] {
                    corrected.push(sensor::correct(&rows.narrow(0, i, 1)?.squeeze(0)?, delta)?);
                }
                let rows = acclimate_kernels::stack(&corrected.iter().collect::<Vec<_>>(), 0)?;
                self.forward(&self.params, &rows, statistics)
            }
            _ => self.forward(&self.overlay.applied(&self.params, delta)?, rows, statistics),
        }
    }

    /// The objective of a window: a scalar.
    fn objective(&self, seen: &Seen, delta: &Tensor) -> Result<Tensor, Error> {
        Ok(match self.method.objective {
            Objective::None => seen.logits.sum(&[])?.zeros_like()?,
            Objective::Entropy => loss::entropy(&seen.logits)?.mean(&[])?,
            Objective::MarginalEntropy => loss::marginal_entropy(&seen.logits)?,
            Objective::FeatureLikelihood { .. } => self.scores(seen)?.mean(&[])?.add(&self.prior(delta)?)?,
        })
    }

    fn prior(&self, delta: &Tensor) -> Result<Tensor, Error> {
        let Objective::FeatureLikelihood { prior, .. } = self.method.objective else {
            return Ok(delta.sum(&[])?.zeros_like()?);
        };
        Ok(delta.square()?.sum(&[])?.mul_scalar(prior)?)
    }

    /// Feature score plus weighted entropy of each row: [n].
    fn scores(&self, seen: &Seen) -> Result<Tensor, Error> {
        let score = seen.score.as_ref().ok_or(Error::Empty { what: "the source statistics of this session" })?;
        let Objective::FeatureLikelihood { entropy, .. } = self.method.objective else { return Ok(score.clone()) };
        Ok(score.add(&loss::entropy(&seen.logits)?.mul_scalar(entropy)?)?)
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
                let scores = self.scores(&seen)?;
                let n = all.dims()[0];
                let best = scores.argmin(0)?.reshape(&[1])?;
                let mut chosen = x.clone();
                for i in 1..n {
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
    fn trusted(&self, delta: Tensor) -> Result<Tensor, Error> {
        let mut delta = delta;
        for guard in &self.method.guards {
            if let Guard::TrustRegion(radius) = guard {
                let norm = delta.square()?.sum_keep(&[])?.sqrt()?;
                let limit = norm.full_like(*radius)?;
                let scale = norm.gt(&limit)?.select(&limit.div(&norm)?, &norm.ones_like()?)?;
                delta = delta.mul(&scale)?;
            }
        }
        Ok(delta)
    }
}

/// ln of the mean probability over rows: [k, c] → [1, c].
fn mean_log_probability(logits: &Tensor) -> Result<Tensor, Error> {
    let n = logits.dims()[0] as f32;
    let l = logits.log_softmax(1)?;
    let c = l.dims()[1];
    Ok(l.logsumexp(0)?.add_scalar(-n.ln())?.reshape(&[1, c])?)
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
