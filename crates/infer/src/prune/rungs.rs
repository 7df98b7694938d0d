//! The knob at run time: several networks that do more or less with the same parameters, each planned in advance.

use std::time::Duration;

use acclimate_tensor::{Compiled, Tensor, compile};
use acclimate_train::{Layer, Params};

use super::trace::flop;
use crate::budget::{Budget, Clock, MachineClock};
use crate::error::Error;

/// Timed runs from which a rung's cost is known, after one that plans it.
const TIMED: usize = 7;

/// A network at one setting of its knob.
#[derive(Clone, Debug)]
pub struct Rung {
    /// What it is called.
    pub name: String,
    /// Multiplications and additions of its products for one input.
    pub flop: u64,
    /// How long an answer took when it was planned, the median.
    pub time: Duration,
}

/// An answer and the rung it was given on.
#[derive(Clone, Debug)]
pub struct OnRung {
    /// The network's output, row-major.
    pub output: Vec<f32>,
    /// Which rung: 0 does the most.
    pub rung: usize,
}

/// Networks at several settings, the one that does the most first.
pub struct Rungs {
    rungs: Vec<Rung>,
    steps: Vec<(Compiled<(Params, Tensor), Tensor, Error>, Params)>,
    budget: Budget,
    clock: MachineClock,
}

impl Rungs {
    /// Plans and times each network on `x`; inputs of the same sizes are answered later. They are to be in order of what
    /// they do. Parameters that are clones are shared; running statistics may be each setting's own, as they should be
    /// where the settings change what a normalization sees.
    ///
    /// # Errors
    /// If there is none, or one does not take the parameters or the input.
    pub fn new<L: Layer + 'static>(
        networks: impl IntoIterator<Item = (String, L, Params)>,
        x: &Tensor,
    ) -> Result<Self, Error> {
        let (mut rungs, mut steps, mut budget) = (Vec::new(), Vec::new(), Budget::default());
        let clock = MachineClock::default();
        let inputs = x.dims().first().copied().unwrap_or(1);
        for (level, (name, network, params)) in networks.into_iter().enumerate() {
            let flop = flop(&network, &params, x)?;
            let step = compile(move |(params, x): (Params, Tensor)| Ok::<_, Error>(network.forward(&params, &x)?));
            step.call_read::<f32>((params.clone(), x.clone()))?;
            let mut took = Vec::with_capacity(TIMED);
            for _ in 0..TIMED {
                let start = clock.now();
                step.call_read::<f32>((params.clone(), x.clone()))?;
                took.push(clock.now().saturating_sub(start).as_secs_f64());
            }
            budget.costs.warmed(level, inputs, took.clone());
            took.sort_by(f64::total_cmp);
            rungs.push(Rung { name, flop, time: Duration::from_secs_f64(took[TIMED / 2]) });
            steps.push((step, params));
        }
        if rungs.is_empty() {
            return Err(Error::Empty { what: "the list of networks" });
        }
        Ok(Rungs { rungs, steps, budget, clock })
    }

    /// The rungs, in order.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Answers on the first rung that will be done within `left`, by what the rungs cost when they were planned and how
    /// much longer the last answers took; on the last if none will. Without a limit on the first.
    ///
    /// # Errors
    /// If the network does not take the input.
    pub fn answer(&mut self, x: &Tensor, left: Option<Duration>) -> Result<OnRung, Error> {
        let inputs = x.dims().first().copied().unwrap_or(1);
        let (rung, _) = self.budget.choose(left, inputs, self.rungs.len());
        let output = self.answer_on(rung, x)?;
        Ok(OnRung { output, rung })
    }

    /// Answers on a rung.
    ///
    /// # Errors
    /// If there is no such rung, or the network does not take the input.
    pub fn answer_on(&mut self, rung: usize, x: &Tensor) -> Result<Vec<f32>, Error> {
        let Some((step, params)) = self.steps.get(rung) else {
            return Err(Error::prune("rung", format!("below {}", self.steps.len()), rung));
        };
        let inputs = x.dims().first().copied().unwrap_or(1);
        let start = self.clock.now();
        let (_, output) = step.call_read::<f32>((params.clone(), x.clone()))?;
        self.budget.costs.observed(rung, inputs, self.clock.now().saturating_sub(start), false);
        Ok(output)
    }
}
