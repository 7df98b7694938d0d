//! An adaptation method is a value: what moves, which loss, which guards, when it resets, what it sees, what it answers.
//! One driver runs them all.
//!
//! Modules in reading order: the values below, [`presets`] of known methods, [`driver`] the one graph that steps,
//! [`inner`] the step itself.

pub mod driver;
pub mod inner;
pub mod presets;

use acclimate_train::Statistics;
use acclimate_train::optim::Optimizer;
use serde::Serialize;

use crate::error::Error;
use crate::views::Views;

pub use presets::{calibrate, frozen, memo_affine, statistics, stretch, tent, vote};

/// What moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Moves {
    /// Nothing.
    Nothing,
    /// Scale and shift of every normalization layer.
    NormAffine,
    /// Every bias, those of normalization layers included.
    Bias,
    /// All parameters.
    All,
    /// These parameters.
    Paths(Vec<String>),
    /// Gain, offset, gamma and sharpening of the image; nothing of the network. See [`crate::sensor`].
    Sensor,
}

/// Which loss. Losses are of one window: over the slots of a batch they are summed, never averaged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Objective {
    /// None: nothing is stepped.
    None,
    /// Mean entropy of the window's predictions (Wang et al. 2021).
    Entropy,
    /// Entropy of the mean prediction over the window's views (Zhang, Levine, Finn 2022).
    MarginalEntropy,
    /// How unusual the layer statistics are under the source's, plus `entropy` times the entropy, plus `prior` times ‖Δ‖².
    FeatureLikelihood {
        /// Weight of the prediction's entropy.
        entropy: f32,
        /// Weight of ‖Δ‖².
        prior: f32,
    },
}

/// Which guards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Guard {
    /// Input filter: leaves alone an input whose layer statistics score at most this under the source's.
    Unusual(f32),
    /// Update filter: Δ is scaled back to this norm where it is longer.
    TrustRegion(f32),
    /// Outcome check: rolls back unless the objective fell.
    LossMustFall,
}

/// When the overlay goes back to zeros. (That loss, overlay and answer are finite is always checked.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// After every input: inputs cannot influence each other.
    PerInput,
    /// After so many batches.
    Every(u64),
    /// Never.
    Never,
}

/// What the method sees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// One input.
    ThisInput,
    /// Views of one input.
    Views(Views),
    /// A whole batch.
    ThisBatch,
}

/// What it answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The forward pass before the step.
    BeforeStep,
    /// The input after the last step.
    AfterStep,
    /// The mean probability over the window's views.
    MeanOfViews,
}

/// A closed form applied to the image first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepare {
    /// The image as it is.
    AsIs,
    /// The 5 to 98 percentile stretch.
    Stretch,
    /// The candidate of [`crate::sensor::CANDIDATES`] that the objective scores best.
    BestCandidate,
}

/// An adaptation method.
#[derive(Clone, Debug)]
pub struct Adaptation {
    name: String,
    pub(crate) moves: Moves,
    pub(crate) statistics: Statistics,
    pub(crate) objective: Objective,
    pub(crate) step: Option<Optimizer>,
    pub(crate) steps: usize,
    pub(crate) guards: Vec<Guard>,
    pub(crate) reset: Reset,
    pub(crate) window: Window,
    pub(crate) answer: Answer,
    pub(crate) prepare: Prepare,
}

impl Adaptation {
    /// A method that moves nothing yet: source statistics, one input at a time, reset after each.
    pub fn new(name: impl Into<String>, objective: Objective) -> Self {
        Adaptation {
            name: name.into(),
            moves: Moves::Nothing,
            statistics: Statistics::Source,
            objective,
            step: None,
            steps: 0,
            guards: Vec::new(),
            reset: Reset::PerInput,
            window: Window::ThisInput,
            answer: Answer::AfterStep,
            prepare: Prepare::AsIs,
        }
    }

    /// What moves.
    #[must_use]
    pub fn moves(mut self, moves: Moves) -> Self {
        self.moves = moves;
        self
    }

    /// Whose statistics normalization layers use.
    #[must_use]
    pub fn statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// Which optimizer steps, and how often per window.
    #[must_use]
    pub fn step(mut self, optimizer: Optimizer, steps: usize) -> Self {
        (self.step, self.steps) = (Some(optimizer), steps);
        self
    }

    /// One more guard.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// When to reset.
    #[must_use]
    pub fn reset(mut self, reset: Reset) -> Self {
        self.reset = reset;
        self
    }

    /// What it sees.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// What it answers with.
    #[must_use]
    pub fn answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// The closed form before everything.
    #[must_use]
    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = prepare;
        self
    }

    /// The method's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether each input adapts by itself.
    pub fn is_per_input(&self) -> bool {
        !matches!(self.window, Window::ThisBatch)
    }

    /// Whether an objective scores inputs by source statistics.
    pub fn needs_source_statistics(&self) -> bool {
        matches!(self.objective, Objective::FeatureLikelihood { .. })
            || self.prepare == Prepare::BestCandidate
            || self.gate().is_some()
    }

    /// The score at or below which an input is left alone, if there is such a guard.
    pub(crate) fn gate(&self) -> Option<f32> {
        self.guards.iter().find_map(|g| if let Guard::Unusual(x) = g { Some(*x) } else { None })
    }

    /// Everything that configures the method, for receipts.
    pub fn config(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name, "moves": self.moves, "statistics": format!("{:?}", self.statistics),
            "objective": self.objective, "optimizer": self.step.as_ref().map(ToString::to_string),
            "steps": self.steps, "guards": self.guards, "reset": self.reset,
            "window": self.window, "answer": self.answer, "prepare": self.prepare,
        })
    }

    /// Fails if the values contradict each other.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |what: &str, expected: &str| {
            Err(Error::Method { method: self.name.clone(), what: what.into(), expected: expected.into() })
        };
        let steps = self.steps > 0;
        if steps && (self.step.is_none() || self.objective == Objective::None || self.moves == Moves::Nothing) {
            return wrong("steps without something to move, a loss or an optimizer", "all three");
        }
        if let Some(optimizer) = &self.step {
            optimizer.check()?;
        }
        if self.is_per_input() && self.reset != Reset::PerInput {
            return wrong(
                "a per-input window with a reset that carries state on",
                "Reset::PerInput, or Window::ThisBatch",
            );
        }
        if !self.is_per_input() && self.reset == Reset::PerInput && self.steps > 0 {
            return wrong("a batch window that is reset after each input", "Reset::Every(n) or Reset::Never");
        }
        if !self.is_per_input() && (self.prepare == Prepare::BestCandidate || self.moves == Moves::Sensor) {
            return wrong("a sensor correction over a batch", "a per-input window");
        }
        if self.answer == Answer::MeanOfViews && !matches!(self.window, Window::Views(_)) {
            return wrong("a mean over views without views", "Window::Views");
        }
        for guard in &self.guards {
            if let Guard::Unusual(x) | Guard::TrustRegion(x) = guard
                && !(x.is_finite() && *x >= 0.0)
            {
                return wrong(&format!("guard {guard:?}"), "a number of at least 0");
            }
        }
        Ok(())
    }
}
