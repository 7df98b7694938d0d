//! Step rules of online learning, as links of [`acclimate_train::optim`]: they move linear models and networks alike.
//!
//! SGD and AdaGrad are there already ([`optim::sgd`](acclimate_train::optim::sgd),
//! [`optim::adagrad`](acclimate_train::optim::adagrad)); with a rate that falls as 1/√t and [`project`] the former is
//! online gradient descent.

use std::sync::Arc;

use acclimate_tensor::Tensor;
use acclimate_train::optim::{self, Flat, Optimizer, Schedule, State, StepCx, StepRule, Transform};
use acclimate_train::{Error, Result};

/// Online gradient descent (Zinkevich 2003): on a set of diameter `diameter` with gradients of norm at most `gradient`,
/// the rate D/(G√t), after each step back into the ball of that diameter around zero. Its regret after T convex losses
/// is at most (3/2)·D·G·√T.
pub fn ogd(diameter: f32, gradient: f32) -> Optimizer {
    optim::sgd(Schedule::power(diameter / gradient, 0.5)).transform(Project { radius: (diameter / 2.0).into() })
}

/// FTRL-proximal (McMahan et al. 2013) with per-coordinate rates: for each coordinate, with g its gradient,
///
/// σ = (√(n + g²) − √n)/α, z ← z + g − σ·w, n ← n + g², and then w = 0 if |z| ≤ λ₁, else
/// −(z − sign(z)·λ₁) / ((β + √n)/α + λ₂).
///
/// α is the rate; β is 1, λ₁ and λ₂ are 0 here. Exact zeros come of λ₁. Weights that are not zero at the beginning are
/// where it starts from: z is chosen to give them.
pub fn ftrl(alpha: f64) -> Optimizer {
    ftrl_with(alpha, FtrlConfig::default())
}

/// [`ftrl`] with its other constants.
pub fn ftrl_with(alpha: f64, config: FtrlConfig) -> Optimizer {
    Optimizer::new(config, alpha)
}

/// Passive-aggressive (Crammer et al. 2006): the smallest step that makes the loss of this input zero, bounded as
/// [`Aggressiveness`] says. With ℓ the loss and g its gradient, θ ← θ − τ·g. For the hinge loss of a linear model ‖g‖² is
/// ‖x‖² (plus one for a bias), which gives the paper's closed form; for other models it is Polyak's step.
pub fn passive_aggressive(how: Aggressiveness) -> Optimizer {
    Optimizer::new(PassiveAggressive { how }, 1.0)
}

/// Keeps the parameters in a ball around zero.
pub fn project(radius: f64) -> Project {
    Project { radius }
}

/// Constants of [`ftrl`] beside the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FtrlConfig {
    /// Slows the first steps; above 0.
    pub beta: f64,
    /// Weight of ‖w‖₁: weights whose evidence is below it are exactly zero.
    pub l1: f64,
    /// Weight of ½‖w‖².
    pub l2: f64,
}

impl Default for FtrlConfig {
    fn default() -> Self {
        FtrlConfig { beta: 1.0, l1: 0.0, l2: 0.0 }
    }
}

impl FtrlConfig {
    /// (β + √n)/α + λ₂.
    fn curvature(&self, n: &Tensor, alpha: &Tensor) -> Result<Tensor> {
        Ok(n.sqrt()?.add_scalar(single(self.beta))?.div(alpha)?.add_scalar(single(self.l2))?)
    }

    /// The weights for z and n.
    fn weights(&self, z: &Tensor, n: &Tensor, alpha: &Tensor) -> Result<Tensor> {
        let l1 = z.full_like(single(self.l1))?;
        let shrunk = z.sub(&z.sign()?.mul(&l1)?)?.div(&self.curvature(n, alpha)?)?.neg()?;
        Ok(z.abs()?.le(&l1)?.select(&z.zeros_like()?, &shrunk)?)
    }
}

impl StepRule for FtrlConfig {
    fn name(&self) -> &'static str {
        "ftrl"
    }

    fn check(&self) -> Result<()> {
        positive("beta of ftrl", self.beta)?;
        for (what, x) in [("l1 of ftrl", self.l1), ("l2 of ftrl", self.l2)] {
            if !(x.is_finite() && x >= 0.0) {
                return Err(Error::argument(what, "a finite number of at least 0", x));
            }
        }
        Ok(())
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        let w = like.flat();
        // z is made of w in the first step, which knows the rate.
        Ok(State::new()
            .with("step", Tensor::zeros(w.device(), &[1])?)
            .with("z", w.zeros_like()?)
            .with("n", w.zeros_like()?))
    }

    fn step(&self, theta: &Tensor, grads: &Tensor, state: State, cx: &StepCx) -> Result<(Tensor, State)> {
        let (step, z, n) = (state.require("step")?, state.require("z")?, state.require("n")?);
        let alpha = cx.rate.broadcast_to(theta.shape())?;
        let started = step.gt(&step.zeros_like()?)?.broadcast_to(theta.shape())?;
        let sign_w = theta.sign()?.mul_scalar(single(self.l1))?;
        let z = started.select(z, &theta.mul(&self.curvature(n, &alpha)?)?.add(&sign_w)?.neg()?)?;
        let n_new = n.add(&grads.square()?)?;
        let sigma = n_new.sqrt()?.sub(&n.sqrt()?)?.div(&alpha)?;
        let z = z.add(&grads.sub(&sigma.mul(theta)?)?)?;
        let w = self.weights(&z, &n_new, &alpha)?;
        Ok((w, State::new().with("step", step.add_scalar(1.0)?).with("z", z).with("n", n_new)))
    }
}

/// How far [`passive_aggressive`] goes. C is above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aggressiveness {
    /// PA: τ = ℓ/‖g‖².
    Full,
    /// PA-I: τ = min(C, ℓ/‖g‖²).
    AtMost(f64),
    /// PA-II: τ = ℓ/(‖g‖² + 1/(2C)).
    Soft(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct PassiveAggressive {
    how: Aggressiveness,
}

impl StepRule for PassiveAggressive {
    fn name(&self) -> &'static str {
        "passive_aggressive"
    }

    fn check(&self) -> Result<()> {
        match self.how {
            Aggressiveness::Full => Ok(()),
            Aggressiveness::AtMost(c) | Aggressiveness::Soft(c) => positive("aggressiveness C", c),
        }
    }

    fn init(&self, _: &dyn Flat) -> Result<State> {
        Ok(State::new())
    }

    fn step(&self, theta: &Tensor, grads: &Tensor, state: State, cx: &StepCx) -> Result<(Tensor, State)> {
        let Some(loss) = &cx.loss else {
            return Err(Error::argument("passive_aggressive", "the loss in the step's context", "none"));
        };
        let loss = loss.reshape(&[1])?;
        let length = grads.square()?.sum_keep(&[0])?;
        let none = length.le(&length.zeros_like()?)?;
        let safe = none.select(&length.ones_like()?, &length)?;
        let tau = match self.how {
            Aggressiveness::Full => loss.div(&safe)?,
            Aggressiveness::AtMost(c) => loss.div(&safe)?.minimum(&safe.full_like(single(c))?)?,
            Aggressiveness::Soft(c) => loss.div(&safe.add_scalar(single(0.5 / c))?)?,
        };
        let tau = none.select(&tau.zeros_like()?, &tau)?.mul(&cx.rate)?;
        Ok((theta.sub(&grads.mul(&tau.broadcast_to(grads.shape())?)?)?, state))
    }

    fn with(&self, _: optim::Setting) -> Option<Arc<dyn StepRule>> {
        None
    }
}

/// θ ← θ · min(1, radius/‖θ‖) after the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Project {
    /// Largest norm.
    pub radius: f64,
}

impl Transform for Project {
    fn name(&self) -> &'static str {
        "project"
    }

    fn check(&self) -> Result<()> {
        positive("radius of project", self.radius)
    }

    fn apply(&self, grads: Tensor, _: &Tensor, state: State, _: &StepCx) -> Result<(Tensor, State)> {
        Ok((grads, state))
    }

    fn settle(&self, _: &Tensor, new: Tensor, _: &State) -> Result<Tensor> {
        let length = optim::norm(&new)?;
        let limit = length.full_like(single(self.radius))?;
        let scale = length.gt(&limit)?.select(&limit.div(&length)?, &length.ones_like()?)?;
        Ok(new.mul(&scale)?)
    }
}

/// Elastic weight consolidation (Kirkpatrick et al. 2017): adds the gradient of (λ/2)·Σ F(θ − θ*)², which holds each
/// parameter near where it was when something was worth keeping, by how much that depended on it. Anchor θ* and Fisher
/// information F are state, zero until [`super::Learner::consolidate`] sets them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ewc {
    /// λ.
    pub weight: f64,
}

impl Transform for Ewc {
    fn name(&self) -> &'static str {
        "ewc"
    }

    fn check(&self) -> Result<()> {
        if self.weight.is_finite() && self.weight >= 0.0 {
            return Ok(());
        }
        Err(Error::argument("weight of ewc", "a finite number of at least 0", self.weight))
    }

    fn init(&self, like: &dyn Flat) -> Result<State> {
        let zero = like.flat().zeros_like()?;
        Ok(State::new().with("anchor", zero.clone()).with("fisher", zero))
    }

    fn apply(&self, grads: Tensor, theta: &Tensor, state: State, _: &StepCx) -> Result<(Tensor, State)> {
        let (anchor, fisher) = (state.require("anchor")?, state.require("fisher")?);
        let pull = theta.sub(anchor)?.mul(fisher)?.mul_scalar(single(self.weight))?;
        Ok((grads.add(&pull)?, state))
    }
}

fn positive(what: &'static str, x: f64) -> Result<()> {
    let fits = x.is_finite() && x > 0.0;
    if fits { Ok(()) } else { Err(Error::argument(what, "a finite number above 0", x)) }
}

fn single(x: f64) -> f32 {
    x as f32
}
