//! One piece of work: a function of graph, compiled, with what it starts from.

use acclimate_tensor::{Compiled, Tensor, Tree, compile, oracle};
use anyhow::{Context, Result, ensure};

/// How large the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As in the tables.
    Full,
    /// For tests: the oracle walks it in an instant.
    Small,
}

impl Size {
    /// One of two numbers.
    pub fn of(self, full: usize, small: usize) -> usize {
        if self == Size::Full { full } else { small }
    }
}

/// Reproducible numbers in [-0.5, 0.5): the peers make the same ones from the same words.
pub fn values(n: usize, salt: u32) -> Vec<f32> {
    let word = |i: usize| {
        let mut h = (i as u32).wrapping_mul(0x9E37_79B1).wrapping_add(salt.wrapping_mul(0x85EB_CA77));
        h ^= h >> 16;
        h = h.wrapping_mul(0x85EB_CA6B);
        h ^= h >> 13;
        h = h.wrapping_mul(0xC2B2_AE35);
        h ^ (h >> 16)
    };
    (0..n).map(|i| (word(i) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

/// Work that can be run again and again; state that it changes is carried on.
pub struct Row {
    name: &'static str,
    call: Box<dyn FnMut() -> Result<Tensor>>,
    graph: Box<dyn Fn(usize) -> Result<Tensor>>,
}

impl Row {
    /// `f` gives the next state and the result. `inputs` stay, `state` moves on.
    pub fn new<S, X, F>(name: &'static str, state: S, inputs: X, f: F) -> Self
    where
        S: Tree + Clone + 'static,
        X: Tree + Clone + 'static,
        F: Fn(S, X) -> Result<(S, Tensor)> + Clone + Send + Sync + 'static,
    {
        let traced = f.clone();
        let step: Compiled<(S, X), (S, Tensor), Failed> =
            compile(move |(state, inputs): (S, X)| traced(state, inputs).map_err(Failed));
        let (mut now, mine) = (Some(state.clone()), inputs.clone());
        let call = move || {
            let (next, result) =
                step.call((now.take().context("the call before this one failed")?, mine.clone())).map_err(|e| e.0)?;
            now = Some(next);
            Ok(result)
        };
        let graph = move |n_steps: usize| {
            let (mut state, mut result) = f(state.clone(), inputs.clone())?;
            for _ in 1..n_steps {
                (state, result) = f(state, inputs.clone())?;
            }
            Ok(result)
        };
        Row { name, call: Box::new(call), graph: Box::new(graph) }
    }

    /// Its name in tables and in the peers.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs once; the result is where the host can read it.
    pub fn run(&mut self) -> Result<Tensor> {
        let result = (self.call)()?;
        result.with_data(|x: &[f32]| std::hint::black_box(x.first().copied()))?;
        Ok(result)
    }

    /// The result of the last of some first steps, by the oracle.
    pub fn oracle(&self, n_steps: usize) -> Result<Vec<f64>> {
        Ok(oracle::evaluate(&(self.graph)(n_steps)?, &[])?.real().to_vec())
    }

    /// Compares the first two steps with the oracle: each element within `tolerance` of the largest. Run it before the
    /// clock starts.
    pub fn check(&mut self, tolerance: f64) -> Result<()> {
        for step in 1..=2 {
            let (got, expected) = (self.run()?.to_vec::<f32>()?, self.oracle(step)?);
            ensure!(got.len() == expected.len(), "{}: {} values, not {}", self.name, got.len(), expected.len());
            let largest = expected.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
            for (i, (&g, &e)) in got.iter().zip(&expected).enumerate() {
                let error = (f64::from(g) - e).abs() / largest;
                ensure!(error <= tolerance, "{} step {step}: value {i} is {g}, the oracle says {e}", self.name);
            }
        }
        Ok(())
    }
}

/// An error of a row, through `compile`.
struct Failed(anyhow::Error);

impl From<acclimate_tensor::Error> for Failed {
    fn from(e: acclimate_tensor::Error) -> Self {
        Failed(e.into())
    }
}
