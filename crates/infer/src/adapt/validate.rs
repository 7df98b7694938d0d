//! Whether the parts of a method fit together, and whether its numbers make sense.

use acclimate_train::Statistics;

use super::{
    Adaptation, Anchor, Answer, Form, Guard, Moves, Objective, Output, Prepare, Reset, Settle, Weighting, Window,
};
use crate::error::Error;

impl Adaptation {
    /// Fails if the values contradict each other.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |what: &str, expected: &str| {
            Err(Error::Method { method: self.name().to_owned(), what: what.into(), expected: expected.into() })
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
        let views_of_batch = self.window == Window::ThisBatch
            && self.steps > 0
            && matches!(self.objective, Objective::LikelihoodRatio(Some(_)));
        if self.answer == Answer::MeanOfViews && !matches!(self.window, Window::Views(_)) && !views_of_batch {
            let expected = "Window::Views, or a step against Objective::LikelihoodRatio(Some(views)) of a batch";
            return wrong("a mean over views without views", expected);
        }
        self.validate_batch_parts()?;
        self.validate_form()?;
        self.validate_numbers()
    }

    fn validate_batch_parts(&self) -> Result<(), Error> {
        let wrong = |what: &str, expected: &str| {
            Err(Error::Method { method: self.name().to_owned(), what: what.into(), expected: expected.into() })
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
            || matches!(
                self.objective,
                Objective::LikelihoodRatio(Some(_)) | Objective::QuarterTurns | Objective::MaskedPatches(_)
            );
        if self.search.is_some() && (needs_gradients || self.is_per_input()) {
            return wrong(
                "a search together with row filters, a teacher, a memory or a single input",
                "a plain objective of a batch",
            );
        }
        if matches!(self.reset, Reset::Selective { .. })
            && (self.search.is_some() || matches!(self.window, Window::Memory(..)))
        {
            return wrong("a selective reset with a search or a memory", "an optimizer that steps on the batch");
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

    /// Pairs say what plain gradient descent did to one input, and nothing else.
    fn validate_form(&self) -> Result<(), Error> {
        if self.form == Form::Delta {
            return Ok(());
        }
        let plain = self.step.as_ref().is_some_and(acclimate_train::optim::Optimizer::is_linear)
            && self.sharpness.is_none()
            && self.settle.is_empty()
            && self.anchors.is_empty()
            && self.filters().next().is_none();
        let parameters = !matches!(self.moves, Moves::Nothing | Moves::Sensor | Moves::LowRank { .. });
        let on_logits = !matches!(self.objective, Objective::FeatureLikelihood { .. });
        if plain && parameters && on_logits && self.is_per_input() {
            return Ok(());
        }
        Err(Error::Method {
            method: self.name().to_owned(),
            what: "steps kept as pairs that are not plain gradient descent of single inputs on parameters".into(),
            expected:
                "`optim::sgd(rate)` without momentum, decay or links, a per-input window, parameters that move, and \
                       no anchor, settling, sharpness or row filter; or Form::Delta"
                    .into(),
        })
    }

    fn validate_numbers(&self) -> Result<(), Error> {
        let wrong = |what: String, expected: &str| {
            Err(Error::Method { method: self.name().to_owned(), what, expected: expected.into() })
        };
        let at_least_zero = |x: f32| x.is_finite() && x >= 0.0;
        let share = |x: f32| (0.0..=1.0).contains(&x);
        if let Objective::MaskedPatches(masks) = &self.objective {
            masks.check()?;
        }
        for guard in &self.guards {
            let fine = match guard {
                Guard::Unusual(x) | Guard::TrustRegion(x) | Guard::Sure(x) | Guard::Recover(x) => at_least_zero(*x),
                Guard::Confident(x) | Guard::Unseen(x) => share(*x),
                Guard::ShapeMatters { drop, patches } => drop.is_finite() && *patches > 1,
                Guard::LossMustFall | Guard::Diverse => true,
                Guard::MustBeSurer => self.is_per_input(),
            };
            if !fine {
                return wrong(
                    format!("guard {guard:?}"),
                    "a number of at least 0, a share of at most 1, 2 patches or more; one input if the answer must be surer",
                );
            }
        }
        if let Objective::Distill { temperature } = self.objective
            && !(temperature.is_finite() && temperature > 0.0)
        {
            return wrong(format!("a temperature of {temperature}"), "a number above 0");
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
        if let Reset::Selective { first } = self.reset
            && !(first > 0.0 && first <= 1.0)
        {
            return wrong(format!("{:?}", self.reset), "a share of the classes in (0, 1]");
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
