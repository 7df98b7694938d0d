//! The value that is a method: its parts together, and whether they fit.

use acclimate_train::Statistics;
use acclimate_train::optim::Optimizer;

use super::{
    Anchor, Answer, Guard, Moves, Objective, Output, Prepare, Reset, Search, Settle, Teacher, Weighting, Window, guard,
};
use crate::error::Error;

/// An adaptation method.
#[derive(Clone, Debug)]
pub struct Adaptation {
    name: String,
    pub(crate) moves: Moves,
    pub(crate) statistics: Statistics,
    pub(crate) objective: Objective,
    pub(crate) weighting: Weighting,
    pub(crate) anchors: Vec<Anchor>,
    pub(crate) step: Option<Optimizer>,
    pub(crate) steps: usize,
    pub(crate) search: Option<Search>,
    pub(crate) sharpness: Option<f32>,
    pub(crate) settle: Vec<Settle>,
    pub(crate) teacher: Option<Teacher>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) reset: Reset,
    pub(crate) window: Window,
    pub(crate) answer: Answer,
    pub(crate) output: Output,
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
            weighting: Weighting::Equal,
            anchors: Vec::new(),
            step: None,
            steps: 0,
            search: None,
            sharpness: None,
            settle: Vec::new(),
            teacher: None,
            guards: Vec::new(),
            reset: Reset::PerInput,
            window: Window::ThisInput,
            answer: Answer::AfterStep,
            output: Output::AsIs,
            prepare: Prepare::AsIs,
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
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

    /// Another loss.
    #[must_use]
    pub fn objective(mut self, objective: Objective) -> Self {
        self.objective = objective;
        self
    }

    /// What each row counts in the loss.
    #[must_use]
    pub fn weighting(mut self, weighting: Weighting) -> Self {
        self.weighting = weighting;
        self
    }

    /// One more penalty that keeps the overlay near the source.
    #[must_use]
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchors.push(anchor);
        self
    }

    /// Which optimizer steps, and how often per window.
    #[must_use]
    pub fn step(mut self, optimizer: Optimizer, steps: usize) -> Self {
        (self.step, self.search, self.steps) = (Some(optimizer), None, steps);
        self
    }

    /// Searches by forward passes alone, so often per window, in place of an optimizer.
    #[must_use]
    pub fn search(mut self, search: Search, steps: usize) -> Self {
        (self.search, self.step, self.steps) = (Some(search), None, steps);
        self
    }

    /// Steps along the gradient at the worst point within this radius (Foret et al. 2021): two forward and backward
    /// passes a step.
    #[must_use]
    pub fn sharpness_aware(mut self, radius: f32) -> Self {
        self.sharpness = Some(radius);
        self
    }

    /// One more thing that happens to the overlay after each step.
    #[must_use]
    pub fn settle(mut self, settle: Settle) -> Self {
        self.settle.push(settle);
        self
    }

    /// This in place of everything that happens to the overlay after each step.
    #[must_use]
    pub fn replace_settle(mut self, settle: Settle) -> Self {
        self.settle = vec![settle];
        self
    }

    /// A teacher that follows the overlay.
    #[must_use]
    pub fn teacher(mut self, teacher: Teacher) -> Self {
        self.teacher = Some(teacher);
        self
    }

    /// One more guard.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Without the guards it has.
    #[must_use]
    pub fn without_guards(mut self) -> Self {
        self.guards.clear();
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

    /// What is done to the answer.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
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
        !matches!(self.window, Window::ThisBatch | Window::Memory(..))
    }

    /// Whether an objective scores inputs by source statistics.
    pub fn needs_source_statistics(&self) -> bool {
        matches!(self.objective, Objective::FeatureLikelihood { .. })
            || self.prepare == Prepare::BestCandidate
            || self.gate().is_some()
    }

    /// Whether anything is carried from batch to batch.
    pub fn carries_state(&self) -> bool {
        let running = matches!(self.statistics, Statistics::Ema(_) | Statistics::Robust(_));
        !self.is_per_input() && (self.steps > 0 || running || matches!(self.output, Output::Prototypes(_)))
    }

    /// The score at or below which an input is left alone, if there is such a guard.
    pub(crate) fn gate(&self) -> Option<f32> {
        self.guards.iter().find_map(|g| if let Guard::Unusual(x) = g { Some(*x) } else { None })
    }

    /// Whether row filters judge the very rows that are answered, so that receipts can say of each what they said.
    pub(crate) fn judges_answers(&self) -> bool {
        let rows_are_answers = match self.window {
            Window::Views(views) => views.count <= 1,
            Window::ThisInput | Window::ThisBatch => true,
            Window::Memory(..) => false,
        };
        rows_are_answers && self.filters().next().is_some()
    }

    /// The guards that choose among rows, in order.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &Guard> {
        self.guards.iter().filter(|g| g.is_filter())
    }

    /// Patches along a side, if a guard or a weight compares with shuffled patches.
    pub(crate) fn patches(&self) -> Option<usize> {
        let asked = self.guards.iter().find_map(|g| match g {
            Guard::ShapeMatters { patches, .. } => Some(*patches),
            _ => None,
        });
        asked.or(matches!(self.weighting, Weighting::ConfidenceAndShape(_)).then_some(4))
    }

    /// Whether the running mean prediction is remembered.
    pub(crate) fn remembers_classes(&self) -> bool {
        guard::needs_classes(&self.guards, self.weighting)
    }

    /// Everything that configures the method, for receipts.
    pub fn config(&self) -> serde_json::Value {
        let mut config = serde_json::json!({
            "name": self.name, "moves": self.moves, "statistics": format!("{:?}", self.statistics),
            "objective": self.objective, "optimizer": self.step.as_ref().map(ToString::to_string),
            "steps": self.steps, "guards": self.guards, "reset": self.reset,
            "window": self.window, "answer": self.answer, "prepare": self.prepare,
        });
        // Parts that few methods have are named where they are.
        let extras = [
            ("weighting", (self.weighting != Weighting::Equal).then(|| serde_json::json!(self.weighting))),
            ("anchors", (!self.anchors.is_empty()).then(|| serde_json::json!(self.anchors))),
            ("search", self.search.map(|search| serde_json::json!(search))),
            ("sharpness", self.sharpness.map(|rho| serde_json::json!(rho))),
            ("settle", (!self.settle.is_empty()).then(|| serde_json::json!(self.settle))),
            ("teacher", self.teacher.map(|teacher| serde_json::json!(teacher))),
            ("output", (self.output != Output::AsIs).then(|| serde_json::json!(self.output))),
        ];
        for (name, value) in extras {
            if let (Some(value), Some(object)) = (value, config.as_object_mut()) {
                object.insert(name.to_owned(), value);
            }
        }
        config
    }

    /// Fails if the values contradict each other.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |what: &str, expected: &str| {
            Err(Error::Method { method: self.name.clone(), what: what.into(), expected: expected.into() })
        };
        let steps = self.steps > 0;
        let moves_by = self.step.is_some() || self.search.is_some();
        if steps && (!moves_by || self.objective == Objective::None || self.moves == Moves::Nothing) {
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
        self.validate_batch_parts()?;
        self.validate_numbers()
    }

    fn validate_batch_parts(&self) -> Result<(), Error> {
        let wrong = |what: &str, expected: &str| {
            Err(Error::Method { method: self.name.clone(), what: what.into(), expected: expected.into() })
        };
        let running = matches!(self.statistics, Statistics::Ema(_) | Statistics::Robust(_));
        let remembers = self.teacher.is_some()
            || self.output.needs_features()
            || self.output == Output::PriorCorrected
            || running
            || self.remembers_classes()
            || self.guards.iter().any(|g| matches!(g, Guard::Unseen(_) | Guard::Recover(_)));
        if self.is_per_input() && remembers {
            return wrong("a part that looks at or remembers other inputs, in a per-input window", "Window::ThisBatch");
        }
        let chooses = self.filters().next().is_some() || self.weighting != Weighting::Equal;
        if chooses && !(self.objective.is_of_rows() && self.steps > 0) {
            return wrong("guards or weights of rows without a loss of rows", "an objective of rows, and a step");
        }
        if let Window::Memory(memory, _) = self.window
            && (memory.size == 0 || self.steps == 0 || !self.objective.is_of_rows())
        {
            return wrong("a memory without places, or without a step on a loss of rows", "all three");
        }
        if matches!(self.window, Window::Memory(..))
            && (!matches!(self.answer, Answer::BeforeStep | Answer::Teacher) || self.output.needs_features())
        {
            return wrong("an answer that is not of the batch before the step, with a memory", "Answer::BeforeStep");
        }
        let needs_gradients = chooses
            || self.sharpness.is_some()
            || !self.settle.is_empty()
            || self.teacher.is_some()
            || matches!(self.window, Window::Memory(..))
            || matches!(self.objective, Objective::LikelihoodRatio(Some(_)) | Objective::QuarterTurns);
        if self.search.is_some() && (needs_gradients || self.is_per_input()) {
            return wrong(
                "a search together with row filters, a teacher, a memory or a single input",
                "a plain objective of a batch",
            );
        }
        if self.sharpness.is_some() && self.steps == 0 {
            return wrong("a sharpness-aware step without a step", "at least one step");
        }
        let learns_from_teacher = self.objective == Objective::TeacherConsistency || self.answer == Answer::Teacher;
        if learns_from_teacher != self.teacher.is_some() || (self.teacher.is_some() && self.moves == Moves::Nothing) {
            return wrong("a teacher without a use, or a use without a teacher", "both, and something that moves");
        }
        if self.moves == Moves::Sensor && (self.teacher.is_some() || !self.settle.is_empty()) {
            return wrong("a teacher or a settling of the sensor", "parameters that move");
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), Error> {
        let wrong = |what: String, expected: &str| {
            Err(Error::Method { method: self.name.clone(), what, expected: expected.into() })
        };
        let at_least_zero = |x: f32| x.is_finite() && x >= 0.0;
        let share = |x: f32| (0.0..=1.0).contains(&x);
        for guard in &self.guards {
            let fine = match guard {
                Guard::Unusual(x) | Guard::TrustRegion(x) | Guard::Sure(x) | Guard::Recover(x) => at_least_zero(*x),
                Guard::Confident(x) | Guard::Unseen(x) => share(*x),
                Guard::ShapeMatters { drop, patches } => drop.is_finite() && *patches > 1,
                Guard::LossMustFall | Guard::Diverse => true,
            };
            if !fine {
                return wrong(
                    format!("guard {guard:?}"),
                    "a number of at least 0, a share of at most 1, 2 patches or more",
                );
            }
        }
        let fine = match self.weighting {
            Weighting::Equal => true,
            Weighting::Confidence(x) | Weighting::ConfidenceAndShape(x) => at_least_zero(x),
            Weighting::DiversityAndCertainty { temperature } => temperature.is_finite() && temperature > 0.0,
        };
        if !fine {
            return wrong(format!("weighting {:?}", self.weighting), "a number of at least 0, a temperature above 0");
        }
        for settle in &self.settle {
            let (Settle::TowardsSource(x) | Settle::Restore(x)) = settle;
            if !share(*x) {
                return wrong(format!("{settle:?}"), "a share in 0..=1");
            }
        }
        for anchor in &self.anchors {
            let (Anchor::Fisher { weight, .. } | Anchor::Distance(weight)) = anchor;
            if !at_least_zero(*weight) {
                return wrong(format!("an anchor of weight {weight}"), "a number of at least 0");
            }
        }
        if let Some(teacher) = self.teacher
            && !(share(teacher.keep) && share(teacher.unsure))
        {
            return wrong(format!("{teacher:?}"), "shares in 0..=1");
        }
        if let Some(rho) = self.sharpness
            && !at_least_zero(rho)
        {
            return wrong(format!("a sharpness radius of {rho}"), "a number of at least 0");
        }
        if let Some(search) = self.search
            && (search.candidates < 4 || !(search.width.is_finite() && search.width > 0.0))
        {
            return wrong(format!("{search:?}"), "at least 4 candidates and a width above 0");
        }
        match self.output {
            Output::Temperature(t) if !(t.is_finite() && t > 0.0) => wrong(format!("temperature {t}"), "above 0"),
            Output::Lame(lame) if !(lame.weight.is_finite() && lame.iterations > 0) => {
                wrong(format!("{lame:?}"), "a finite weight and at least one iteration")
            }
            Output::Prototypes(p) if p.keep == 0 => wrong(format!("{p:?}"), "at least one support of each class"),
            _ => Ok(()),
        }
    }
}
