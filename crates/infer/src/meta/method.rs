//! Meta-learning methods as values: what moves in a task, by which steps, and what the meta-step sees of them.

use acclimate_train::Statistics;
use acclimate_train::optim::{self, Optimizer};

use crate::adapt::inner::Order;
use crate::error::Error;

/// How the starting point learns from tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Toward {
    /// The gradient of the loss that the adapted parameters have on the query.
    Query(Order),
    /// The adapted parameters themselves.
    Adapted,
}

/// A meta-learning method.
#[derive(Clone, Debug)]
pub struct Meta {
    pub(super) name: &'static str,
    pub(super) toward: Toward,
    pub(super) moves: Option<Vec<String>>,
    pub(super) inner: Optimizer,
    pub(super) steps: usize,
    pub(super) learned_rates: bool,
    pub(super) minibatch: Option<usize>,
    pub(super) statistics: Statistics,
}

impl Meta {
    fn new(name: &'static str, toward: Toward, inner: Optimizer, steps: usize) -> Self {
        let statistics = Statistics::Batch;
        Meta { name, toward, moves: None, inner, steps, learned_rates: false, minibatch: None, statistics }
    }

    /// Normalization statistics in inner steps and answers; those of the batch at hand if not said, because running
    /// statistics of one task are wrong for the next.
    #[must_use]
    pub fn statistics(self, statistics: Statistics) -> Self {
        Meta { statistics, ..self }
    }

    /// Each inner step takes the next `rows` rows of the support, around and around, in place of all.
    #[must_use]
    pub fn minibatch(self, rows: usize) -> Self {
        Meta { minibatch: Some(rows), ..self }
    }

    /// The method's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Inner steps in training.
    pub fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |what: &str, expected: &str| {
            Err(Error::Method { method: self.name.into(), what: what.into(), expected: expected.into() })
        };
        self.inner.check()?;
        if self.steps == 0 {
            return wrong("no inner step", "1 or more");
        }
        if self.minibatch == Some(0) {
            return wrong("minibatches without rows", "1 row or more");
        }
        if self.moves.as_ref().is_some_and(Vec::is_empty) {
            return wrong("nothing that moves", "the paths of the head");
        }
        Ok(())
    }
}

/// MAML (Finn, Abbeel, Levine 2017): θ′ = θ − α∇L_support(θ), `steps` times, all parameters; the meta-step follows the exact
/// gradient of L_query(θ′) with respect to θ, second order included.
pub fn maml(rate: f64, steps: usize) -> Meta {
    Meta::new("maml", Toward::Query(Order::Second), optim::sgd(rate), steps)
}

/// MAML whose inner gradients count as given: no second order (the same paper, section 5.2).
pub fn fomaml(rate: f64, steps: usize) -> Meta {
    Meta::new("fomaml", Toward::Query(Order::First), optim::sgd(rate), steps)
}

/// ANIL (Raghu et al. 2020): as MAML, but only the head, the parameters at `paths`, moves in a task.
pub fn anil<S: Into<String>>(rate: f64, steps: usize, paths: impl IntoIterator<Item = S>) -> Meta {
    let moves = Some(paths.into_iter().map(Into::into).collect());
    Meta { moves, ..Meta::new("anil", Toward::Query(Order::Second), optim::sgd(rate), steps) }
}

/// Meta-SGD (Li et al. 2017): as MAML, with a rate for each parameter that is learned too, from `rate` on.
pub fn meta_sgd(rate: f64, steps: usize) -> Meta {
    Meta { learned_rates: true, ..Meta::new("meta-sgd", Toward::Query(Order::Second), optim::sgd(rate), steps) }
}

/// Reptile (Nichol, Achiam, Schulman 2018): `steps` steps of any optimizer on the support, then θ ← θ + ε(θ′ − θ), with ε
/// the rate of an outer [`optim::sgd`]. The paper steps by Adam without momentum, `optim::adam(1e-3).betas(0.0, 0.999)`.
pub fn reptile(inner: Optimizer, steps: usize) -> Meta {
    Meta::new("reptile", Toward::Adapted, inner, steps)
}
