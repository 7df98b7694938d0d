//! A receipt in plain English.

use std::fmt::{self, Write as _};

use super::{Action, Change, Guess, Reason, Receipt, Scope};

/// The receipt in words: paragraphs on what the answer is, what moved and how far, what it did to the loss, and why
/// the change was kept or not. Paragraphs are separated by an empty line.
pub fn explain(receipt: &Receipt) -> String {
    explain_with_names(receipt, &[])
}

/// The same with names for the classes; a class without a name is called by its number.
pub fn explain_with_names(receipt: &Receipt, class_names: &[&str]) -> String {
    [
        what_was_asked(receipt),
        what_came_out(receipt, class_names),
        what_moved(receipt),
        why(receipt),
        what_it_took(receipt),
    ]
    .into_iter()
    .chain(receipt.events.iter().map(|event| format!("Before this answer, {event}.")))
    .collect::<Vec<_>>()
    .join("\n\n")
}

fn what_was_asked(r: &Receipt) -> String {
    let company = match (r.scope, r.place.of) {
        (_, 1) => "by itself".to_owned(),
        (Scope::Input, n) => format!(
            "in slot {} of a batch of {n}, with weights of its own that no other input could touch",
            r.place.slot
        ),
        (Scope::Batch, n) => format!("in slot {} of a batch of {n}, which were adapted to together", r.place.slot),
        (Scope::Stream, n) => {
            format!(
                "in slot {} of a batch of {n}, on a state that {} earlier answers had shaped",
                r.place.slot, r.since_reset
            )
        }
    };
    format!(
        "Input {} (content {}) was answered with the method \"{}\" (configuration {}) {company}. The source model has \
         the hash {}; it was not changed.",
        r.index,
        r.input.short(),
        r.method,
        r.config_hash.short(),
        r.base.short()
    )
}

fn what_came_out(r: &Receipt, names: &[&str]) -> String {
    let (before, after) = (r.facts.before, r.facts.after);
    let mut text = format!("The source model alone says {}.", Named { guess: before, names });
    if before.class == after.class {
        write!(text, " The answer given is the same class, {} sure.", percent(after.confidence)).ok();
    } else {
        write!(text, " The answer given is {}.", Named { guess: after, names }).ok();
    }
    if let Some(guess) = r.facts.proposed {
        write!(text, " The adapted model would have said {}.", Named { guess, names }).ok();
    }
    let entropy = r.facts.entropy;
    write!(text, " The entropy of the prediction {}, in nats.", Went(entropy)).ok();
    text
}

fn what_moved(r: &Receipt) -> String {
    let moved = &r.facts.moved;
    if moved.norm == 0.0 {
        return "Nothing moved.".to_owned();
    }
    let mut text = format!(
        "Over {} and {}, what may move was moved by {} in total ({}).",
        counted(r.facts.steps, "step"),
        counted(r.facts.views, "view"),
        number(moved.norm),
        share(moved.relative)
    );
    if let [first, rest @ ..] = moved.top.as_slice() {
        write!(text, " {} moved furthest, by {} ({})", first.path, number(first.norm), share(first.relative)).ok();
        for (i, other) in rest.iter().enumerate() {
            let joint = if i + 1 == rest.len() { " and" } else { "," };
            let then = if i == 0 { " then" } else { "" };
            write!(text, "{joint}{then} {} by {} ({})", other.path, number(other.norm), share(other.relative)).ok();
        }
        text.push('.');
    }
    text
}

fn why(r: &Receipt) -> String {
    let said_by_reason = matches!(r.facts.verdict.reason, Reason::LossFell { .. } | Reason::LossRose { .. });
    let mut text = match r.facts.loss {
        Some(loss) if !said_by_reason => format!("The objective {}. ", Went(loss)),
        _ => String::new(),
    };
    let verdict = match r.facts.verdict.action {
        Action::Accepted => "The change was accepted",
        Action::RolledBack => "The change was rolled back, and the source model's answer given",
        Action::LeftAlone => "The input was left alone",
        Action::Reset => "The answer was given, and what was carried was then reset",
        Action::Frozen => "The source model answered as it is",
    };
    write!(text, "{verdict}, because {}.", r.facts.verdict.reason).ok();
    text
}

fn what_it_took(r: &Receipt) -> String {
    let budget = match r.budget_ms {
        Some(budget) if r.ms > budget => format!(", over its budget of {} ms", number(budget)),
        Some(budget) => format!(", within its budget of {} ms", number(budget)),
        None => String::new(),
    };
    let short = match r.rung.short {
        Some(s) => format!(
            ", because everything was expected to take {} ms and {} ms were left",
            number(s.needed_ms),
            number(s.left_ms)
        ),
        None => String::new(),
    };
    format!(
        "It took {} ms{budget}, on rung {} of the budget ({}{short}), seed {}, on the {} engine: {}.",
        number(r.ms),
        r.rung.level,
        r.rung.name,
        r.seed,
        r.engine,
        r.device
    )
}

/// One line: the answer, what was done and why. For the whole story see [`explain`].
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        write!(f, "#{} {}: ", self.index, self.method)?;
        if facts.before.class == facts.after.class {
            write!(f, "class {}", facts.after.class)?;
        } else {
            write!(f, "class {} → {}", facts.before.class, facts.after.class)?;
        }
        write!(
            f,
            " ({} → {}), moved {} ({}), {}: {}",
            percent(facts.before.confidence),
            percent(facts.after.confidence),
            number(facts.moved.norm),
            share(facts.moved.relative),
            facts.verdict.action,
            facts.verdict.reason
        )
    }
}

impl fmt::Display for Reason {
    /// A clause that can follow "because".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LossFell { before, after } => {
                write!(f, "the objective fell from {} to {}", number(*before), number(*after))
            }
            Self::LossRose { before, after } => {
                write!(f, "the objective went from {} to {} and had to fall", number(*before), number(*after))
            }
            Self::LessSure { before, after } => write!(
                f,
                "the prediction's entropy went from {} to {} nats and had to fall",
                number(*before),
                number(*after)
            ),
            Self::BetterCandidate { name, none, score } => write!(
                f,
                "the correction \"{name}\" scores {} where no correction scores {} (lower is better)",
                number(*score),
                number(*none)
            ),
            Self::NoGuard => f.write_str("the method has no guard"),
            Self::TooFar { norm, limit } => {
                write!(f, "it moved by {}, beyond the trust region of {}", number(*norm), number(*limit))
            }
            Self::NotFinite { place } => write!(f, "the {place} has a NaN or an infinity"),
            Self::TooUncertain { entropy, limit } => {
                write!(f, "its entropy of {} nats is above the limit of {}", number(*entropy), number(*limit))
            }
            Self::Redundant { cosine, limit } => write!(
                f,
                "it resembles what was adapted to already (cosine {}, limit {})",
                number(*cosine),
                number(*limit)
            ),
            Self::TooUnsure { confidence, limit } => {
                write!(f, "its likeliest class has {}, below the limit of {}", percent(*confidence), percent(*limit))
            }
            Self::NotByShape { drop, limit } => write!(
                f,
                "its answer hardly rests on the arrangement of its parts (shuffling them costs {} of probability, limit {})",
                number(*drop),
                number(*limit)
            ),
            Self::NotDiverse { diversity, limit } => write!(
                f,
                "its prediction is too near the running mean (diversity {}, the batch's mean {})",
                number(*diversity),
                number(*limit)
            ),
            Self::PassedFilters => f.write_str("it passed every filter"),
            Self::NothingKept => f.write_str("no row of its window passed the filters"),
            Self::LossTooLow { mean, limit } => write!(
                f,
                "the running mean of the objective, {}, fell below {}, as in a collapse",
                number(*mean),
                number(*limit)
            ),
            Self::PredictionsTooAlike { entropy, limit } => write!(
                f,
                "the entropy of the batch's mean prediction, {}, fell below its running level of {}",
                number(*entropy),
                number(*limit)
            ),
            Self::UpdatesDone { updates } => write!(f, "the method resets after {updates} updates"),
            Self::AlreadyOrdinary { score, threshold } => write!(
                f,
                "it looks like the images the model was trained on (unusualness {}, threshold {})",
                number(*score),
                number(*threshold)
            ),
            Self::OutOfBudget { needed_ms, left_ms } => {
                write!(f, "a step needs {} ms and {} ms were left", number(*needed_ms), number(*left_ms))
            }
            Self::MovesNothing => f.write_str("the method moves nothing"),
            Self::Shadow => f.write_str("it was computed for comparison only, until labels show that it helps"),
            Self::Custom { guard, value, limit } => {
                write!(f, "the guard \"{guard}\" measured {}, limit {}", number(*value), number(*limit))
            }
        }
    }
}

/// "class 7 (bag), 31 % sure".
struct Named<'a> {
    guess: Guess,
    names: &'a [&'a str],
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guess { class, confidence } = self.guess;
        match usize::try_from(class).ok().and_then(|i| self.names.get(i)) {
            Some(name) => write!(f, "\"{name}\" (class {class}), {} sure", percent(confidence)),
            None => write!(f, "class {class}, {} sure", percent(confidence)),
        }
    }
}

/// "fell from 1.2 to 0.3".
struct Went(Change);

impl fmt::Display for Went {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { before, after } = self.0;
        let verb = match after.partial_cmp(&before) {
            Some(std::cmp::Ordering::Less) => "fell",
            Some(std::cmp::Ordering::Greater) => "rose",
            Some(std::cmp::Ordering::Equal) => return write!(f, "stayed at {}", number(after)),
            None => "went",
        };
        write!(f, "{verb} from {} to {}", number(before), number(after))
    }
}

fn counted(n: u32, noun: &str) -> String {
    if n == 1 { format!("{n} {noun}") } else { format!("{n} {noun}s") }
}

/// Three significant digits: what a person reads. The log has all of them.
fn number(x: f32) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    let magnitude = x.abs().log10().floor();
    if (-4.0..6.0).contains(&magnitude) {
        let decimals = (2.0 - magnitude).clamp(0.0, 6.0) as usize;
        format!("{x:.decimals$}")
    } else {
        format!("{x:.2e}")
    }
}

fn percent(x: f32) -> String {
    if x.is_finite() { format!("{} %", number(x * 100.0)) } else { format!("{x}") }
}

/// ‖Δ‖ relative to the norm it started from.
fn share(relative: f32) -> String {
    if relative.is_infinite() { "from zero".to_owned() } else { format!("{} of its norm", percent(relative)) }
}
