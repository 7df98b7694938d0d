//! Methods as values: how a selector learns which feature to ask for.

use crate::error::Error;

/// How the choice is made and learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A policy picks the next feature; gradients flow through a Concrete relaxation of its choice.
    Policy,
    /// A network predicts what each feature will take off the loss.
    Value,
    /// A network that sees the whole input keeps each feature or not; REINFORCE against a network that sees all.
    Actor {
        /// Price of a feature, in nats.
        price: f32,
    },
    /// A network that sees the whole input keeps k features; gradients flow through k Concrete draws.
    KOfAll {
        /// How many it keeps.
        k: usize,
    },
}

/// A method of adaptive feature selection.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Steps of an acquisition in training.
    pub(super) horizon: usize,
    /// From which temperature to which, and in how many stages.
    pub(super) temperature: (f64, f64, usize),
    /// Share of random actions at the first stage; each stage has a fifth of the one before.
    pub(super) explore: f64,
    /// What everybody buys before the method chooses.
    pub(super) first: Vec<usize>,
}

/// Greedy dynamic feature selection (Covert et al. 2023): the policy's choice is relaxed to a Concrete draw, whose loss is
/// Σ_t CE(f(x, max(m_t, draw_t)), y) / `horizon`; then the draw's largest is bought for good and no gradient flows back to
/// it. Its minimum picks argmax_j I(y; x_j | x_S) at each step. Temperatures 1 to .1 in five stages, geometric. Costs do
/// not enter the choice, only the budget.
pub fn gdfs(horizon: usize) -> Method {
    Method { name: "gdfs", kind: Kind::Policy, horizon, temperature: (1.0, 0.1, 5), explore: 0.0, first: Vec::new() }
}

/// DIME (Gadgil, Covert, Lee 2024): a network v(x_S), squashed to [0, H(y | x_S)], is regressed on what a bought feature
/// really took off the loss, so that it estimates I(y; x_j | x_S); it buys argmax_j v_j / cost_j. In training a share of
/// the purchases is random: .4, then a fifth of it at each of five stages.
pub fn dime(horizon: usize) -> Method {
    Method { name: "dime", kind: Kind::Value, horizon, temperature: (1.0, 1.0, 5), explore: 0.4, first: Vec::new() }
}

/// INVASE (Yoon, Jordon, van der Schaar 2019): an actor that sees the whole input keeps each feature with a probability of
/// its own, and learns by REINFORCE with the reward CE(critic on what is kept) − CE(baseline on all), plus `price` nats for
/// each feature it keeps in the mean. It selects; it does not buy, as it has seen everything.
pub fn invase(price: f32) -> Method {
    Method {
        name: "invase",
        kind: Kind::Actor { price },
        horizon: 1,
        temperature: (1.0, 1.0, 1),
        explore: 0.0,
        first: Vec::new(),
    }
}

/// L2X (Chen et al. 2018): a network that sees the whole input keeps its `k` best features; learned through the
/// element-wise largest of k Concrete draws at temperature .1. It selects; it does not buy.
pub fn l2x(k: usize) -> Method {
    Method {
        name: "l2x",
        kind: Kind::KOfAll { k },
        horizon: 1,
        temperature: (0.1, 0.1, 1),
        explore: 0.0,
        first: Vec::new(),
    }
}

impl Method {
    /// The method's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it asks for features one by one, and so needs to know only what it has bought.
    pub fn buys(&self) -> bool {
        matches!(self.kind, Kind::Policy | Kind::Value)
    }

    /// These features are bought first, in this order, by every input, before the method chooses `horizon` more. The first purchase
    /// is the same for all inputs anyway, and a greedy one need not be part of the best pair: a good static pair may start.
    #[must_use]
    pub fn starting_with(self, features: &[usize]) -> Self {
        Method { first: features.to_vec(), ..self }
    }

    /// Temperatures from `first` to `last`, geometric, in `stages`.
    #[must_use]
    pub fn temperatures(self, first: f64, last: f64, stages: usize) -> Self {
        Method { temperature: (first, last, stages), ..self }
    }

    /// Temperature and share of random actions, once `done` in 0..1 of the training is done.
    pub(super) fn knobs(&self, done: f64) -> [f32; 2] {
        let (first, last, stages) = self.temperature;
        let stage = ((done * stages as f64).floor()).clamp(0.0, stages as f64 - 1.0);
        let along = if stages > 1 { stage / (stages as f64 - 1.0) } else { 0.0 };
        [(first * (last / first).powf(along)) as f32, (self.explore * 0.2f64.powf(stage)) as f32]
    }

    pub(super) fn check(&self, n_features: usize) -> Result<(), Error> {
        let wrong = |what: String, expected: String| Err(Error::Method { method: self.name.into(), what, expected });
        let (first, last, stages) = self.temperature;
        if !(first.is_finite() && first > 0.0 && last.is_finite() && last > 0.0 && stages > 0) {
            return wrong(format!("temperatures {first} to {last} in {stages} stages"), "positive numbers".into());
        }
        let repeated = (0..self.first.len()).any(|i| self.first[..i].contains(&self.first[i]));
        if repeated || self.first.iter().any(|j| *j >= n_features) {
            return wrong(format!("it starts with {:?}", self.first), format!("different features below {n_features}"));
        }
        if !self.first.is_empty() && !self.buys() {
            return wrong("it starts with features".into(), "gdfs or dime: it does not buy".into());
        }
        let n_features = n_features - self.first.len();
        if self.horizon == 0 || self.horizon > n_features {
            return wrong(format!("a horizon of {}", self.horizon), format!("1 to {n_features} features"));
        }
        match self.kind {
            Kind::KOfAll { k } if k == 0 || k > n_features => {
                wrong(format!("k = {k}"), format!("1 to {n_features} features"))
            }
            Kind::Actor { price } if !(price.is_finite() && price >= 0.0) => {
                wrong(format!("a price of {price}"), "a finite price of 0 or more".into())
            }
            _ => Ok(()),
        }
    }
}
