//! The networks of a selector: what answers from some features, and what chooses the next.

use std::sync::Arc;

use acclimate_kernels::TensorOps;
use acclimate_kernels::random::{Key, uniform};
use acclimate_tensor::{DType, Tensor};
use acclimate_train::layer::Init;
use acclimate_train::nn::Mlp;
use acclimate_train::{Layer, Params, Pass, Result as TrainResult, loss};

use super::features::Features;
use super::method::{Kind, Method};
use super::relaxed::{concrete, gumbel, k_hot, one_hot_of_largest, relaxed_k_hot};
use crate::error::Error;

/// What takes a feature out of a choice.
const NEVER: f32 = -1e6;
/// Probabilities of an actor stay this far from 0 and 1, where their logarithms end.
const EDGE: f32 = 1e-6;

/// A predictor f(x⊙m, m) → logits, a policy π(x⊙m, m) → a score for each feature, and how they learn. Both see
/// [`Features::seen`].
#[derive(Clone, Debug)]
pub struct Selector {
    pub(super) features: Features,
    pub(super) method: Method,
    predictor: Arc<dyn Layer>,
    policy: Arc<dyn Layer>,
    baseline: Option<Arc<dyn Layer>>,
}

/// The random numbers of one step of learning. Shapes for n rows, f features, T steps, k draws.
#[derive(Clone, Debug)]
pub struct Draws {
    /// Of `gdfs` Gumbel [T, n, f], of `l2x` Gumbel [n, k, f], of `invase` uniform [n, f]; of `dime` uniform [T, n, f], which
    /// rank random actions.
    pub noise: Tensor,
    /// Of `dime` uniform [T, n, 1]: a random action where below the share of them. Of the others not used.
    pub coins: Tensor,
}

impl Selector {
    /// Over any two networks, [n, columns + features] → [n, classes] and → [n, features], with paths of their own.
    /// INVASE wants [`Selector::with_baseline`] too.
    ///
    /// # Errors
    /// If the method does not fit the features.
    pub fn new(
        features: Features,
        predictor: Arc<dyn Layer>,
        policy: Arc<dyn Layer>,
        method: Method,
    ) -> Result<Self, Error> {
        method.check(features.len())?;
        Ok(Selector { features, method, predictor, policy, baseline: None })
    }

    /// With a baseline that sees everything, as INVASE compares with.
    #[must_use]
    pub fn with_baseline(self, baseline: Arc<dyn Layer>) -> Self {
        Selector { baseline: Some(baseline), ..self }
    }

    /// Over perceptrons `predictor`, `policy` and `baseline` with these hidden widths and this dropout.
    ///
    /// # Errors
    /// As [`Selector::new`].
    pub fn mlp(
        features: Features,
        classes: usize,
        hidden: &[usize],
        dropout: f32,
        method: Method,
    ) -> Result<Self, Error> {
        let (inputs, f) = (features.n_columns() + features.len(), features.len());
        let net = |path: &str, outputs| Arc::new(Mlp::new(path, inputs, hidden, outputs).with_dropout(dropout));
        let baseline = net("baseline", classes);
        let selector = Selector::new(features, net("predictor", classes), net("policy", f), method)?;
        Ok(match selector.method.kind {
            Kind::Actor { .. } => selector.with_baseline(baseline),
            _ => selector,
        })
    }

    /// The features.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Logits of inputs [n, columns] through a mask [n, features].
    pub fn predict(&self, params: &Params, x: &Tensor, mask: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        Ok(self.predictor.apply(params, &self.features.seen(x, mask)?, pass)?)
    }

    /// What the policy says about each feature, [n, features], and the answer's log probabilities, [n, classes]. For
    /// `dime` the first is the expected drop of the loss in nats, in [0, H(y | x_S)].
    pub fn scores(
        &self,
        params: &Params,
        x: &Tensor,
        mask: &Tensor,
        pass: &mut Pass,
    ) -> Result<(Tensor, Tensor), Error> {
        let seen = self.features.seen(x, mask)?;
        let log_p = self.predictor.apply(params, &seen, pass)?.log_softmax(1)?;
        let scores = self.policy.apply(params, &seen, pass)?;
        if self.method.kind != Kind::Value {
            return Ok((scores, log_p));
        }
        let entropy = log_p.exp()?.mul(&log_p)?.sum_keep(&[1])?.neg()?.detach()?;
        Ok((scores.sigmoid()?.mul(&entropy)?, log_p))
    }

    /// Fresh random numbers for a batch of n rows.
    pub fn draws(&self, key: &Key, n: usize) -> Result<Draws, Error> {
        let (f, horizon) = (self.features.len(), self.method.horizon);
        let coins = uniform(&key.fold_in(1)?, &[horizon, n, 1])?;
        let key = key.fold_in(0)?;
        let noise = match self.method.kind {
            Kind::Policy => gumbel(&key, &[horizon, n, f])?,
            Kind::Value => uniform(&key, &[horizon, n, f])?,
            Kind::Actor { .. } => uniform(&key, &[n, f])?,
            Kind::KOfAll { k } => gumbel(&key, &[n, k, f])?,
        };
        Ok(Draws { noise, coins })
    }

    /// The method's loss on inputs [n, columns] with labels (u32) `[n]`, a scalar: see [`super::gdfs`], [`super::dime`],
    /// [`super::invase`], [`super::l2x`]. `knobs` `[2]`: temperature, share of random actions.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn loss(
        &self,
        params: &Params,
        (x, y): (&Tensor, &Tensor),
        knobs: &Tensor,
        draws: &Draws,
        pass: &mut Pass,
    ) -> Result<Tensor, Error> {
        match self.method.kind {
            Kind::Policy => self.policy_loss(params, (x, y), &knobs.narrow(0, 0, 1)?, draws, pass),
            Kind::Value => self.value_loss(params, (x, y), &knobs.narrow(0, 1, 1)?, draws, pass),
            Kind::Actor { price } => self.actor_loss(params, (x, y), price, draws, pass),
            Kind::KOfAll { .. } => {
                let scores = self.policy.apply(params, &self.seen_whole(x)?, pass)?;
                let mask = relaxed_k_hot(&scores, &draws.noise, &knobs.narrow(0, 0, 1)?)?;
                Ok(loss::cross_entropy(&self.predict(params, x, &mask, pass)?, y)?)
            }
        }
    }

    /// The mask before the first choice, and what the answers on the way there lose, summed: 0 if nothing is bought first.
    fn start(&self, params: &Params, (x, y): (&Tensor, &Tensor), pass: &mut Pass) -> Result<(Tensor, Tensor), Error> {
        let n = rows(x)?;
        let mut mask = self.features.free(x.device(), n)?;
        let mut total = Tensor::zeros(x.device(), &[])?;
        for &feature in &self.method.first {
            total = total.add(&loss::cross_entropy(&self.predict(params, x, &mask, pass)?, y)?)?;
            let one = super::statics::mask(&[feature], self.features.len())?;
            let one = Tensor::from_slice(x.device(), &one, &[1, self.features.len()])?;
            mask = mask.maximum(&one.expand(&[n, self.features.len()])?)?;
        }
        Ok((mask, total))
    }

    fn policy_loss(
        &self,
        params: &Params,
        (x, y): (&Tensor, &Tensor),
        temperature: &Tensor,
        draws: &Draws,
        pass: &mut Pass,
    ) -> Result<Tensor, Error> {
        let horizon = self.method.horizon;
        let (mut mask, mut total) = self.start(params, (x, y), pass)?;
        if !self.method.first.is_empty() {
            // No step below judges what everybody starts with.
            total = total.add(&loss::cross_entropy(&self.predict(params, x, &mask, pass)?, y)?)?;
        }
        total = total.mul_scalar(1.0 / horizon as f32)?;
        for step in 0..horizon {
            let scores = self.policy.apply(params, &self.features.seen(x, &mask)?, pass)?;
            let open = scores.add(&mask.mul_scalar(NEVER)?)?;
            let soft = concrete(&open, &draws.noise.narrow(0, step, 1)?.squeeze(0)?, temperature)?;
            let logits = self.predict(params, x, &mask.maximum(&soft)?, pass)?;
            total = total.add(&loss::cross_entropy(&logits, y)?.mul_scalar(1.0 / horizon as f32)?)?;
            mask = mask.maximum(&one_hot_of_largest(&soft)?)?;
        }
        Ok(total)
    }

    fn value_loss(
        &self,
        params: &Params,
        (x, y): (&Tensor, &Tensor),
        explore: &Tensor,
        draws: &Draws,
        pass: &mut Pass,
    ) -> Result<Tensor, Error> {
        let (f, horizon) = (self.features.len(), self.method.horizon);
        // What costs nothing is bought already, and then never chosen; its cost here is of no account.
        let costs: Vec<f32> =
            self.features.all_costs().iter().map(|c| if *c > 0.0 { *c as f32 } else { 1.0 }).collect();
        let costs = Tensor::from_slice(x.device(), &costs, &[1, f])?;
        let (mut mask, mut total) = self.start(params, (x, y), pass)?;
        let (mut values, mut log_p) = self.scores(params, x, &mask, pass)?;
        for step in 0..horizon {
            let at = |t: &Tensor| t.narrow(0, step, 1)?.squeeze(0);
            let random = at(&draws.coins)?.lt(explore)?.broadcast_to(values.shape())?;
            let wish = random.select(&at(&draws.noise)?, &values.div(&costs)?)?;
            let bought = one_hot_of_largest(&wish.add(&mask.mul_scalar(NEVER)?)?)?;
            mask = mask.maximum(&bought)?;
            let (next_values, next_log_p) = self.scores(params, x, &mask, pass)?;
            let (before, after) = (nll(&log_p, y)?, nll(&next_log_p, y)?);
            let gain = before.sub(&after)?.detach()?;
            let missed = values.mul(&bought)?.sum(&[1])?.sub(&gain)?.square()?;
            // The answer before the first purchase is learned as well.
            if step == 0 {
                total = total.add(&loss::mean(&before)?)?;
            }
            total = total.add(&loss::mean(&after.add(&missed)?)?)?;
            (values, log_p) = (next_values, next_log_p);
        }
        Ok(total.mul_scalar(1.0 / (horizon + 1) as f32)?)
    }

    fn actor_loss(
        &self,
        params: &Params,
        (x, y): (&Tensor, &Tensor),
        price: f32,
        draws: &Draws,
        pass: &mut Pass,
    ) -> Result<Tensor, Error> {
        let Some(baseline) = &self.baseline else {
            let (what, expected) = ("no baseline network".into(), "one: see `Selector::with_baseline`".into());
            return Err(Error::Method { method: self.method.name.into(), what, expected });
        };
        let whole = self.seen_whole(x)?;
        let p = self.policy.apply(params, &whole, pass)?.sigmoid()?.clamp(EDGE, 1.0 - EDGE)?;
        let kept = draws.noise.lt(&p)?.cast(DType::F32)?;
        let critic = loss::cross_entropy_rows(&self.predict(params, x, &kept, pass)?, y, 0.0)?;
        let all = loss::cross_entropy_rows(&baseline.apply(params, &whole, pass)?, y, 0.0)?;
        let reward = critic.sub(&all)?.detach()?;
        let one_less = |t: &Tensor| t.neg()?.add_scalar(1.0);
        let log_chance = kept.mul(&p.ln()?)?.add(&one_less(&kept)?.mul(&one_less(&p)?.ln()?)?)?.sum(&[1])?;
        let actor = reward.mul(&log_chance)?.add(&p.mean(&[1])?.mul_scalar(price)?)?;
        Ok(loss::mean(&critic.add(&all)?.add(&actor)?)?)
    }

    /// The loss of the predictor under random masks: a share of the features, itself uniform, each row its own. `seeds`:
    /// uniform [n, features] and [n, 1].
    pub(super) fn masked_loss(
        &self,
        params: &Params,
        (x, y): (&Tensor, &Tensor),
        (each, share): (&Tensor, &Tensor),
        pass: &mut Pass,
    ) -> Result<Tensor, Error> {
        let mask = each.lt(share)?.cast(DType::F32)?;
        Ok(loss::cross_entropy(&self.predict(params, x, &mask, pass)?, y)?)
    }

    /// The choice of a selector that sees the whole input: the mask [n, features].
    pub(super) fn whole_mask(&self, params: &Params, x: &Tensor) -> Result<(Tensor, Tensor), Error> {
        let scores = self.policy.apply(params, &self.seen_whole(x)?, &mut Pass::infer())?;
        let mask = match self.method.kind {
            Kind::KOfAll { k } => k_hot(&scores, k)?,
            _ => scores.gt(&scores.zeros_like()?)?.cast(DType::F32)?,
        };
        Ok((mask, scores))
    }

    fn seen_whole(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.features.seen(x, &Tensor::ones(x.device(), &[rows(x)?, self.features.len()])?)
    }
}

fn rows(x: &Tensor) -> Result<usize, Error> {
    x.dims().first().copied().ok_or_else(|| Error::size("inputs", "shape [n, columns]", x.shape()))
}

/// −log p_y of each row.
fn nll(log_p: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
    // Log probabilities are logits of themselves.
    Ok(loss::cross_entropy_rows(log_p, y, 0.0)?)
}

impl Layer for Selector {
    fn declare(&self, init: &mut Init) -> TrainResult<()> {
        self.predictor.declare(init)?;
        self.policy.declare(init)?;
        self.baseline.as_ref().map_or(Ok(()), |net| net.declare(init))
    }

    /// The answer from all features.
    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> TrainResult<Tensor> {
        let seen = self.seen_whole(x).map_err(super::in_training)?;
        self.predictor.apply(params, &seen, pass)
    }
}
