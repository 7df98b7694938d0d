//! Acquisition: many inputs side by side, each asking for its next feature until it is sure enough.

use std::fmt;
use std::sync::Arc;

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{Compiled, Tensor, compile};
use acclimate_train::{Params, Pass};
use serde::Serialize;

use super::features::Features;
use super::learn::Rows;
use super::method::Kind;
use super::selector::Selector;
use super::stop::{Reason, Stop};
use crate::error::Error;

/// A feature that was bought, and what it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bought {
    /// Its number.
    pub feature: usize,
    /// Its name.
    pub name: String,
    /// What it cost.
    pub cost: f64,
    /// What it was expected to take off the loss, in nats, if the method estimates that.
    pub expected: Option<f64>,
    /// Entropy of the answer before it was known, in nats.
    pub entropy_before: f64,
    /// And after.
    pub entropy_after: f64,
    /// The most likely class after it.
    pub label: usize,
}

/// What was bought for one input, and the answer: a receipt of its acquisition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Acquired {
    /// What was bought, in order; what is free is not in it.
    pub bought: Vec<Bought>,
    /// Cost of all of it.
    pub spent: f64,
    /// Why it ended.
    pub reason: Reason,
    /// Entropy before the first purchase, and the most likely class.
    pub start: (f64, usize),
    /// The answer: a probability for each class.
    pub probabilities: Vec<f32>,
}

impl Acquired {
    /// The most likely class.
    pub fn label(&self) -> usize {
        crate::metrics::first_peak(&self.probabilities)
    }

    /// Entropy of the answer, in nats.
    pub fn entropy(&self) -> f64 {
        self.bought.last().map_or(self.start.0, |b| b.entropy_after)
    }

    /// The most likely class after `n` purchases (or after the last), and how many there were.
    pub fn after(&self, n: usize) -> (usize, usize) {
        let n = n.min(self.bought.len());
        (n.checked_sub(1).map_or(self.start.1, |i| self.bought[i].label), n)
    }

    /// The most likely class, and the purchases, had it stopped at this entropy.
    pub fn until(&self, entropy: f64) -> (usize, usize) {
        if self.start.0 <= entropy {
            return (self.start.1, 0);
        }
        let enough = self.bought.iter().position(|b| b.entropy_after <= entropy);
        self.after(enough.map_or(self.bought.len(), |i| i + 1))
    }
}

impl fmt::Display for Acquired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in &self.bought {
            write!(f, "{} (cost {}): entropy {:.3} to {:.3}", b.name, b.cost, b.entropy_before, b.entropy_after)?;
            if let Some(expected) = b.expected {
                write!(f, ", expected {expected:.3} less")?;
            }
            f.write_str("; ")?;
        }
        write!(f, "class {}, spent {}, {}", self.label(), self.spent, self.reason)
    }
}

/// What a selector that sees the whole input keeps of it, and the answer from that alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// Features, the best first.
    pub features: Vec<usize>,
    /// The answer: a probability for each class.
    pub probabilities: Vec<f32>,
}

type In = (Params, Tensor, Tensor);

/// Buys features for inputs, by a selector that [`super::learn`] has learned. Inputs stand side by side in slots: each round
/// is one submission, in which every input that is not done gets its answer so far and a score for each feature.
pub struct Acquirer {
    selector: Arc<Selector>,
    params: Params,
    stop: Stop,
    slots: usize,
    ask: Compiled<In, Tensor, Error>,
}

/// An input on its way.
struct Row {
    x: Vec<f32>,
    mask: Vec<f32>,
    spent: f64,
    bought: Vec<Bought>,
    start: Option<(f64, usize)>,
    probabilities: Vec<f32>,
    reason: Option<Reason>,
}

/// What the networks say: probabilities, entropy, scores.
struct Said<'a> {
    probabilities: Vec<f32>,
    entropy: f64,
    scores: &'a [f32],
}

impl Acquirer {
    /// With a stop rule, 256 inputs side by side.
    ///
    /// # Errors
    /// If the rule does not fit the method.
    pub fn new(selector: Arc<Selector>, params: Params, stop: Stop) -> Result<Self, Error> {
        stop.check(selector.method.name, selector.method.kind == Kind::Value)?;
        let net = selector.clone();
        let ask = compile(move |(params, x, mask): In| {
            let (scores, log_p) = net.scores(&params, &x, &mask, &mut Pass::infer())?;
            Ok::<_, Error>(concat(&[&log_p, &scores], 1)?)
        });
        Ok(Acquirer { selector, params, stop, slots: 256, ask })
    }

    /// With another number of inputs side by side.
    #[must_use]
    pub fn slots(self, slots: usize) -> Self {
        Acquirer { slots: slots.max(1), ..self }
    }

    /// Acquires for `n` inputs. `pay(input, feature)` gives the columns of a feature when it is bought, and is asked for
    /// nothing else.
    ///
    /// # Errors
    /// If the method does not buy (see [`Acquirer::select`]), `pay` fails or gives other than the feature's columns as
    /// finite numbers, or the device fails.
    pub fn run(
        &self,
        n: usize,
        mut pay: impl FnMut(usize, usize) -> Result<Vec<f32>, Error>,
    ) -> Result<Vec<Acquired>, Error> {
        if !self.selector.method.buys() {
            let what = "it sees the whole input before it chooses".to_owned();
            let expected = "gdfs or dime, or `Acquirer::select`".to_owned();
            return Err(Error::Method { method: self.selector.method.name.into(), what, expected });
        }
        let features = &self.selector.features;
        let mut rows = Vec::with_capacity(n);
        for input in 0..n {
            let mut row = Row::new(features);
            for feature in (0..features.len()).filter(|j| features.cost(*j) == 0.0) {
                row.learn(features, feature, &pay(input, feature)?)?;
            }
            rows.push(row);
        }
        loop {
            let open: Vec<usize> = (0..n).filter(|i| rows[*i].reason.is_none()).collect();
            if open.is_empty() {
                break;
            }
            for chunk in open.chunks(self.slots) {
                let said = self.say(&rows, chunk)?;
                let width = said.len() / self.slots;
                for (&input, said) in chunk.iter().zip(said.chunks(width)) {
                    let row = &mut rows[input];
                    let said = Said::of(said, features.len());
                    if let Some(feature) = self.decide(row, said) {
                        row.learn(features, feature, &pay(input, feature)?)?;
                    }
                }
            }
        }
        Ok(rows.into_iter().map(Row::acquired).collect())
    }

    /// Acquires for rows that are all there, so that paying is looking.
    ///
    /// # Errors
    /// As [`Acquirer::run`].
    pub fn on(&self, rows: &Rows) -> Result<Vec<Acquired>, Error> {
        let features = &self.selector.features;
        self.run(rows.len(), |input, feature| {
            let (start, width) = features.columns(feature);
            Ok(rows.row(input).get(start..start + width).unwrap_or_default().to_vec())
        })
    }

    /// What a selector that sees the whole input (INVASE, L2X) keeps of each row, and its answers from that.
    ///
    /// # Errors
    /// If the method buys, or the device fails.
    pub fn select(&self, rows: &Rows) -> Result<Vec<Kept>, Error> {
        if self.selector.method.buys() {
            let what = "it buys features one by one".to_owned();
            return Err(Error::Method {
                method: self.selector.method.name.into(),
                what,
                expected: "`Acquirer::on`".into(),
            });
        }
        let (net, f) = (self.selector.clone(), self.selector.features.len());
        let step = compile(move |(params, x): (Params, Tensor)| {
            let (mask, scores) = net.whole_mask(&params, &x)?;
            let log_p = net.predict(&params, &x, &mask, &mut Pass::infer())?.log_softmax(1)?;
            Ok::<_, Error>(concat(&[&log_p, &mask, &scores], 1)?)
        });
        let positions: Vec<usize> = (0..rows.len()).collect();
        let mut kept = Vec::with_capacity(rows.len());
        for chunk in positions.chunks(self.slots) {
            let (x, _) = rows.batch(self.params.device(), chunk)?;
            let (_, said) = step.call_read::<f32>((self.params.clone(), x))?;
            for said in said.chunks(said.len() / chunk.len()) {
                let (log_p, rest) = said.split_at(said.len() - 2 * f);
                let (mask, scores) = rest.split_at(f);
                let mut features: Vec<usize> = (0..f).filter(|j| mask[*j] > 0.5).collect();
                features.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
                kept.push(Kept { features, probabilities: log_p.iter().map(|l| l.exp()).collect() });
            }
        }
        Ok(kept)
    }

    /// Log probabilities and scores for the inputs of a chunk, which is filled up to the slots with empty rows.
    fn say(&self, rows: &[Row], chunk: &[usize]) -> Result<Vec<f32>, Error> {
        let features = &self.selector.features;
        let mut x = Vec::with_capacity(self.slots * features.n_columns());
        let mut mask = Vec::with_capacity(self.slots * features.len());
        for &i in chunk {
            x.extend_from_slice(&rows[i].x);
            mask.extend_from_slice(&rows[i].mask);
        }
        x.resize(self.slots * features.n_columns(), 0.0);
        mask.resize(self.slots * features.len(), 0.0);
        let device = self.params.device();
        let x = Tensor::from_slice(device, &x, &[self.slots, features.n_columns()])?;
        let mask = Tensor::from_slice(device, &mask, &[self.slots, features.len()])?;
        Ok(self.ask.call_read::<f32>((self.params.clone(), x, mask))?.1)
    }

    /// The feature to buy next for a row, or none and the reason.
    fn decide(&self, row: &mut Row, said: Said<'_>) -> Option<usize> {
        let features = &self.selector.features;
        let label = crate::metrics::first_peak(&said.probabilities);
        match row.bought.last_mut() {
            Some(last) => (last.entropy_after, last.label) = (said.entropy, label),
            None => row.start = Some((said.entropy, label)),
        }
        row.probabilities = said.probabilities;
        if let Some(limit) = self.stop.confident.filter(|limit| said.entropy <= *limit) {
            row.reason = Some(Reason::Confident { entropy: said.entropy, limit });
            return None;
        }
        let left = self.stop.budget.map_or(f64::INFINITY, |b| b - row.spent);
        let mut open = (0..features.len()).filter(|j| row.mask[*j] == 0.0).peekable();
        if open.peek().is_none() {
            row.reason = Some(Reason::NothingLeft);
            return None;
        }
        let values = self.selector.method.kind == Kind::Value;
        let rank = |j: usize| f64::from(said.scores[j]) / if values { features.cost(j) } else { 1.0 };
        // Sums of costs round: a budget of .3 pays for .1 three times.
        let pays = |j: &usize| features.cost(*j) <= left * (1.0 + 1e-12) + 1e-12;
        // What everybody buys first is not weighed.
        let first = self.selector.method.first.iter().copied().find(|j| row.mask[*j] == 0.0);
        let affordable = open.filter(|j| first.is_none_or(|first| first == *j)).filter(pays);
        let Some(best) = affordable.reduce(|a, b| if rank(b) > rank(a) { b } else { a }) else {
            row.reason = Some(Reason::Budget { left });
            return None;
        };
        let expected = values.then(|| f64::from(said.scores[best]));
        if let Some(limit) = self.stop.worth.filter(|limit| first.is_none() && rank(best) < *limit) {
            row.reason = Some(Reason::NotWorthIt { expected: rank(best), limit });
            return None;
        }
        let (cost, name) = (features.cost(best), features.name(best).to_owned());
        row.spent += cost;
        row.bought.push(Bought {
            feature: best,
            name,
            cost,
            expected,
            entropy_before: said.entropy,
            entropy_after: said.entropy,
            label,
        });
        Some(best)
    }
}

impl Row {
    fn new(features: &Features) -> Self {
        Row {
            // Nothing of a feature is read before it is bought; this shows if it were.
            x: vec![f32::NAN; features.n_columns()],
            mask: vec![0.0; features.len()],
            spent: 0.0,
            bought: Vec::new(),
            start: None,
            probabilities: Vec::new(),
            reason: None,
        }
    }

    fn learn(&mut self, features: &Features, feature: usize, values: &[f32]) -> Result<(), Error> {
        let (start, width) = features.columns(feature);
        if values.len() != width {
            let what = format!("feature `{}`", features.name(feature));
            return Err(Error::size(what, format!("{width} numbers"), values.len()));
        }
        if let Some(position) = values.iter().position(|v| !v.is_finite()) {
            let (expected, found) = ("a finite number".into(), values[position].to_string());
            return Err(Error::Value { what: "a feature that was paid for", position, expected, found });
        }
        self.x[start..start + width].copy_from_slice(values);
        self.mask[feature] = 1.0;
        Ok(())
    }

    fn acquired(self) -> Acquired {
        Acquired {
            bought: self.bought,
            spent: self.spent,
            reason: self.reason.unwrap_or(Reason::NothingLeft),
            start: self.start.unwrap_or((f64::NAN, 0)),
            probabilities: self.probabilities,
        }
    }
}

impl<'a> Said<'a> {
    fn of(said: &'a [f32], n_features: usize) -> Self {
        let (log_p, scores) = said.split_at(said.len() - n_features);
        let probabilities: Vec<f32> = log_p.iter().map(|l| l.exp()).collect();
        let entropy = log_p.iter().map(|l| f64::from(*l)).filter(|l| l.is_finite()).map(|l| -l.exp() * l).sum();
        Said { probabilities, entropy, scores }
    }
}
