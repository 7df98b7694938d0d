//! The value that is a method: its parts together.

use acclimate_train::Statistics;
use acclimate_train::optim::Optimizer;

use super::{
    Anchor, Answer, Form, Guard, Moves, Objective, Output, Prepare, Reset, Search, Settle, Teacher, Weighting, Window,
    guard,
};

/// An adaptation method: a value made of parts. A method of one's own is a function like those of [`super::presets`]:
///
/// ```
/// use acclimate_infer::{Adaptation, Answer, Guard, Moves, Objective, Reset, Window};
/// use acclimate_train::{Statistics, optim};
///
/// /// TENT for the careful: sure rows teach, the source's statistics count as 16 inputs, and nothing lasts.
/// fn careful_tent(rate: f64) -> Adaptation {
///     Adaptation::new("careful-tent", Objective::Entropy)
///         .moves(Moves::NormAffine)
///         .statistics(Statistics::Prior(16.0))
///         .step(optim::sgd(rate), 1)
///         .guard(Guard::Sure(0.4)) // rows whose entropy is below 0.4 ln C
///         .guard(Guard::TrustRegion(0.02)) // no further than this from the source
///         .window(Window::ThisBatch)
///         .reset(Reset::Every(100))
///         .answer(Answer::BeforeStep)
/// }
/// # use std::sync::Arc;
/// # use acclimate_train::Layer;
/// # let model = Arc::new(acclimate_train::nn::SmallCnn::new("", [1, 8, 8], &[4], 3)?);
/// # let params = model.init(&acclimate_tensor::Device::cpu(), 7)?;
/// # let images: Vec<f32> = (0..4 * 64).map(|i| (i % 37) as f32 / 36.0).collect();
/// let mut session = acclimate_infer::Session::new(model, params, careful_tent(1e-3))?;
/// for answer in session.answer(&images, [1, 8, 8])? {
///     println!("{}", answer.receipt); // what moved, how far, and why, or why not
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Parts that contradict each other are an error when the session is built ([`Adaptation::validate`]). Which of the known
/// methods fits: [`Adaptation::recommend`].
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
    pub(crate) form: Form,
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
            form: Form::Delta,
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

    /// As what the steps of an input are kept until it is answered. With [`Form::Pairs`] the answers are those of
    /// [`Form::Delta`], but for rounding, and no input has a copy of large weights: see [`super::pairs`]. The session's
    /// overlay names what moves and has no length.
    #[must_use]
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
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
            ("form", (self.form != Form::Delta).then(|| serde_json::json!(self.form))),
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
}
