//! From the numbers that a plan reports for a window to the facts of its receipts.

use crate::adapt::driver::FACTS;
use crate::adapt::{Adaptation, Guard, Moves, Objective, Prepare, Reset, Window};
use crate::error::Error;
use crate::overlay::Overlay;
use crate::receipt::{Action, Change, Facts, Guess, Moved, Reason, Verdict};

/// How a report is laid out.
pub(crate) struct Layout<'a> {
    pub method: &'a Adaptation,
    pub overlay: &'a Overlay,
    pub base_norms: &'a [f32],
    /// Whether the answer is the frozen model's, and the adapted one is a proposal.
    pub shadow: bool,
}

/// Softmax, stable.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|&x| f64::from(x - peak).exp()).collect();
    let total: f64 = e.iter().sum();
    e.iter().map(|x| (x / total) as f32).collect()
}

fn entropy(logits: &[f32]) -> f32 {
    softmax(logits).iter().filter(|p| **p != 0.0).map(|p| -p * p.ln()).sum()
}

/// What the driver says of a window as a whole; the order of [`FACTS`].
struct Told<'a> {
    facts: &'a [f32],
    /// Entropy of the source model's prediction for the row.
    source_entropy: f32,
}

/// What a row filter said of a row.
struct Filtered<'a> {
    guard: &'a Guard,
    measured: f32,
    limit: f32,
}

/// The facts of the `rows` answers of one window. `values`: answers' logits, frozen logits, facts, squared norms, and for
/// methods with row filters the filter's number of each row, what it measured, its limit.
pub(crate) fn facts_of(layout: &Layout<'_>, values: &[f32], rows: usize, images: &[f32]) -> Result<Vec<Facts>, Error> {
    let verdict_len = if layout.method.judges_answers() { 3 * rows } else { 0 };
    let tail = FACTS + layout.overlay.entries().len() + verdict_len;
    let classes = values.len().saturating_sub(tail) / (2 * rows);
    if classes == 0 || values.len() != 2 * rows * classes + tail {
        return Err(Error::size("report of a window", format!("{rows} answers and {tail} facts"), values.len()));
    }
    let (answers, rest) = values.split_at(rows * classes);
    let (frozen, rest) = rest.split_at(rows * classes);
    let (facts, rest) = rest.split_at(FACTS);
    let (norms, verdicts) = rest.split_at(layout.overlay.entries().len());
    let finite_input =
        |i: usize| images[i * images.len() / rows..(i + 1) * images.len() / rows].iter().all(|x| x.is_finite());
    let moved = Moved::summarize(
        layout.overlay.entries().iter().zip(norms).zip(layout.base_norms).map(|((e, n), b)| (&e.path, n.sqrt(), *b)),
    );
    let method = layout.method;
    let filters: Vec<&Guard> = method.filters().collect();
    let filtered = |i: usize| {
        let number = verdicts.get(i).copied().unwrap_or(0.0);
        let guard = filters.get((number as usize).checked_sub(1)?)?;
        Some(Filtered { guard, measured: verdicts[rows + i], limit: verdicts[2 * rows + i] })
    };
    (0..rows)
        .map(|i| {
            let adapted = &answers[i * classes..(i + 1) * classes];
            let source = &frozen[i * classes..(i + 1) * classes];
            let answer = if layout.shadow { source } else { adapted };
            let guess = |l: &[f32]| Guess::from_logits(l).ok_or(Error::Empty { what: "the logits of an answer" });
            let source_entropy = entropy(source);
            let mut verdict = Told { facts, source_entropy }.verdict(method, finite_input(i), filtered(i));
            if layout.shadow && verdict.action == Action::Accepted {
                verdict = Verdict { action: Action::RolledBack, reason: Reason::Shadow };
            }
            Ok(Facts {
                steps: u32::try_from(method.steps).unwrap_or(u32::MAX),
                views: match method.window {
                    Window::Views(v) => u32::try_from(v.count).unwrap_or(u32::MAX),
                    _ => 1,
                },
                moved: moved.clone(),
                loss: (method.objective != Objective::None).then_some(Change { before: facts[0], after: facts[1] }),
                entropy: Change { before: source_entropy, after: entropy(answer) },
                before: guess(source)?,
                after: guess(answer)?,
                proposed: layout.shadow.then(|| guess(adapted)).transpose()?,
                verdict,
                logits: answer.to_vec(),
            })
        })
        .collect()
}

impl Told<'_> {
    fn verdict(&self, method: &Adaptation, finite_input: bool, filtered: Option<Filtered<'_>>) -> Verdict {
        let &[before, after, finite, fell, unusual, score, kept, low, mean, limit, due, surer, entropy] = self.facts
        else {
            return Verdict { action: Action::RolledBack, reason: Reason::NotFinite { place: "report".into() } };
        };
        let (action, reason) = match (method.gate(), filtered) {
            _ if !finite_input => (Action::RolledBack, Reason::NotFinite { place: "input".into() }),
            (Some(threshold), _) if unusual == 0.0 => (Action::LeftAlone, Reason::AlreadyOrdinary { score, threshold }),
            _ if finite == 0.0 => {
                let place = if after.is_finite() { "answer" } else { "loss" };
                (Action::RolledBack, Reason::NotFinite { place: place.into() })
            }
            _ if fell == 0.0 => (Action::RolledBack, Reason::LossRose { before, after }),
            _ if surer == 0.0 => (Action::RolledBack, Reason::LessSure { before: self.source_entropy, after: entropy }),
            _ if low != 0.0 && matches!(method.reset, Reset::Selective { .. }) => {
                (Action::Reset, Reason::PredictionsTooAlike { entropy: mean, limit })
            }
            _ if low != 0.0 => (Action::Reset, Reason::LossTooLow { mean, limit }),
            _ if due != 0.0 => {
                let updates = if let Reset::EveryUpdates(n) = method.reset { n } else { 0 };
                (Action::Reset, Reason::UpdatesDone { updates })
            }
            (_, Some(f)) => (Action::LeftAlone, f.guard.reason(f.measured, f.limit)),
            // The rows of this window are views: none of them passed.
            _ if kept == 0.0 => (Action::LeftAlone, Reason::NothingKept),
            _ if method.moves == Moves::Nothing && method.prepare == Prepare::AsIs => {
                (Action::Frozen, Reason::MovesNothing)
            }
            _ if method.guards.contains(&Guard::LossMustFall) => (Action::Accepted, Reason::LossFell { before, after }),
            _ if method.filters().next().is_some() => (Action::Accepted, Reason::PassedFilters),
            _ => (Action::Accepted, Reason::NoGuard),
        };
        Verdict { action, reason }
    }
}
