//! What a receipt says about one answer: under which circumstances it was given, and the facts that must come out
//! again when it is recomputed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Event, exact};

/// The receipt of one answer.
///
/// Fill `config_hash` and `answer` with [`Receipt::sealed`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Sequence number of the input in its session, from 0; with the seed it gives the input's random key.
    pub index: u64,
    /// In which batch and slot the input was answered.
    pub place: Place,
    /// What the answer depends on besides the source model.
    pub scope: Scope,
    /// Answers given between the last reset of the adaptation state and this batch; 0 if the batch started afresh.
    pub since_reset: u64,
    /// Hash of the input's shape and values.
    pub input: Digest,
    /// Hash of the source parameters.
    pub base: Digest,
    /// Name of the adaptation method.
    pub method: String,
    /// Everything that configures the method.
    pub config: serde_json::Value,
    /// Hash of `config`.
    pub config_hash: Digest,
    /// The session's seed.
    pub seed: u64,
    /// The device as it prints itself, driver included.
    pub device: String,
    /// Which engine ran the plan.
    pub engine: Engine,
    /// The kernel variants chosen; another choice may round differently.
    pub variants: Vec<String>,
    /// The rung of the budget the answer was computed on.
    pub rung: Rung,
    /// What was done and what came out: the part that replay computes again.
    pub facts: Facts,
    /// Hash of `facts.logits`.
    pub answer: Digest,
    /// Milliseconds the answer took (its share of the batch).
    #[serde(with = "exact")]
    pub ms: f32,
    /// Milliseconds it was allowed to take (its share of the batch's), if there was a deadline.
    #[serde(with = "exact::option")]
    pub budget_ms: Option<f32>,
    /// What happened to the session before this answer and since the one before: resets, sources no longer trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// Where in the stream an input was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Number of the batch in its session, from 0.
    pub batch: u64,
    /// The input's slot in the batch, from 0.
    pub slot: u32,
    /// Inputs in the batch.
    pub of: u32,
}

/// What an answer depends on besides the source model; replay needs all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This input alone: every slot adapts by itself and is reset.
    Input,
    /// All inputs of its batch.
    Batch,
    /// All inputs since the last reset.
    Stream,
}

/// The engine that ran the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Native code.
    Cpu,
    /// wgpu compute shaders.
    Gpu,
}

/// A rung of the budget's ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// 0 is everything the method asks for; each further rung does less.
    pub level: u32,
    /// What the rung does, as in "full", "fewer views (8)", "frozen".
    pub name: String,
    /// Why it is not rung 0, if time was short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<Shortage>,
}

/// Time that was not there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shortage {
    /// Milliseconds that everything the method asks for was expected to take.
    #[serde(with = "exact")]
    pub needed_ms: f32,
    /// Milliseconds that were left.
    #[serde(with = "exact")]
    pub left_ms: f32,
}

/// What was done to one input and what came out. Everything here is recomputed by replay and compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Optimizer steps taken.
    pub steps: u32,
    /// Views of the input the objective saw; 1 is the input itself.
    pub views: u32,
    /// What moved, and how far.
    pub moved: Moved,
    /// The objective before and after the steps, if there is one.
    pub loss: Option<Change>,
    /// Entropy of the prediction in nats, before and after.
    pub entropy: Change,
    /// What the frozen source says.
    pub before: Guess,
    /// What the answer says.
    pub after: Guess,
    /// What the adapted model would have said, where it was only computed for comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<Guess>,
    /// What was decided about the change, and why.
    pub verdict: Verdict,
    /// The answer: one logit for each class.
    #[serde(with = "exact::list")]
    pub logits: Vec<f32>,
}

/// What the overlay Δ = θ − θ₀ holds after the last step, before the verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    /// ‖Δ‖₂ over everything that moved.
    #[serde(with = "exact")]
    pub norm: f32,
    /// ‖Δ‖₂ / ‖θ₀‖₂ over the same.
    #[serde(with = "exact")]
    pub relative: f32,
    /// The parameters that moved furthest, furthest first.
    pub top: Vec<Move>,
}

impl Moved {
    /// How many parameters a receipt names.
    pub const TOP: usize = 5;

    /// From every parameter that may move, given as (path, ‖Δ‖₂, ‖θ₀‖₂): the totals, and the five furthest.
    ///
    /// Parameters with ‖Δ‖ = 0 are not named; equal norms are ordered by path. A ratio to ‖θ₀‖ = 0 is infinite.
    pub fn summarize<P: AsRef<str>>(parameters: impl IntoIterator<Item = (P, f32, f32)>) -> Self {
        let ratio = |norm: f64, base: f64| if norm == 0.0 { 0.0 } else { norm / base };
        let (mut delta, mut base) = (0.0_f64, 0.0_f64);
        let mut top = Vec::new();
        for (path, norm, source) in parameters {
            let (norm, source) = (f64::from(norm), f64::from(source));
            delta += norm * norm;
            base += source * source;
            if norm != 0.0 {
                top.push(Move {
                    path: path.as_ref().to_owned(),
                    norm: norm as f32,
                    relative: ratio(norm, source) as f32,
                });
            }
        }
        // total_cmp puts NaN above infinity: what went wrong most is named first.
        top.sort_by(|a, b| b.norm.total_cmp(&a.norm).then_with(|| a.path.cmp(&b.path)));
        top.truncate(Self::TOP);
        Self { norm: delta.sqrt() as f32, relative: ratio(delta.sqrt(), base.sqrt()) as f32, top }
    }
}

/// How far one parameter moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Move {
    /// The parameter's path.
    pub path: String,
    /// ‖Δ‖₂.
    #[serde(with = "exact")]
    pub norm: f32,
    /// ‖Δ‖₂ / ‖θ₀‖₂.
    #[serde(with = "exact")]
    pub relative: f32,
}

/// A number before and after adapting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Change {
    /// With the source model.
    #[serde(with = "exact")]
    pub before: f32,
    /// With what was moved, whether or not it was kept.
    #[serde(with = "exact")]
    pub after: f32,
}

/// A class and the probability given to it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Guess {
    /// Index of the class.
    pub class: u32,
    /// Its probability, in [0, 1].
    #[serde(with = "exact")]
    pub confidence: f32,
}

impl Guess {
    /// The likeliest class of some logits (the first of equals) and its softmax probability; `None` for no logits.
    /// With a NaN among the logits the class is the first NaN's and the confidence NaN.
    pub fn from_logits(logits: &[f32]) -> Option<Self> {
        let mut best = 0;
        for (i, x) in logits.iter().enumerate() {
            if x.is_nan() {
                return Some(Self { class: u32::try_from(i).ok()?, confidence: f32::NAN });
            }
            if *x > logits[best] {
                best = i;
            }
        }
        let peak = f64::from(*logits.get(best)?);
        let total: f64 = logits.iter().map(|&x| (f64::from(x) - peak).exp()).sum();
        Some(Self { class: u32::try_from(best).ok()?, confidence: (1.0 / total) as f32 })
    }
}

/// What was decided about a change, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// What was done with the change.
    pub action: Action,
    /// Why, with the numbers that decided.
    pub reason: Reason,
}

/// What was done with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The answer was given with the change.
    Accepted,
    /// The change was computed and undone: the answer is the source model's.
    RolledBack,
    /// A gate or filter left the input alone: no change was computed from it.
    LeftAlone,
    /// The answer was given, and then what was carried went back to its initial values, in whole or in part.
    Reset,
    /// The method, or the rung of the budget, moves nothing.
    Frozen,
}

/// Why a verdict was given, with the numbers that decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The objective fell.
    LossFell {
        /// Before the steps.
        #[serde(with = "exact")]
        before: f32,
        /// After them.
        #[serde(with = "exact")]
        after: f32,
    },
    /// The objective did not fall, though it had to.
    LossRose {
        /// Before the steps.
        #[serde(with = "exact")]
        before: f32,
        /// After them.
        #[serde(with = "exact")]
        after: f32,
    },
    /// The prediction did not get surer, though it had to.
    LessSure {
        /// Entropy of the source model's prediction, nats.
        #[serde(with = "exact")]
        before: f32,
        /// Entropy of the changed model's, nats.
        #[serde(with = "exact")]
        after: f32,
    },
    /// A candidate correction scored better than none.
    BetterCandidate {
        /// The candidate's name.
        name: String,
        /// The score of no correction; lower is better.
        #[serde(with = "exact")]
        none: f32,
        /// The candidate's score.
        #[serde(with = "exact")]
        score: f32,
    },
    /// No guard was asked.
    NoGuard,
    /// ‖Δ‖₂ exceeded the trust region.
    TooFar {
        /// ‖Δ‖₂.
        #[serde(with = "exact")]
        norm: f32,
        /// The region's radius.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// A NaN or an infinity turned up.
    NotFinite {
        /// Where: "input", "gradient", "loss", "logits".
        place: String,
    },
    /// The prediction's entropy was above the filter's limit, so its gradient would be noise.
    TooUncertain {
        /// Nats.
        #[serde(with = "exact")]
        entropy: f32,
        /// Nats.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// The input resembles what was adapted to already.
    Redundant {
        /// Cosine of its probabilities with the running mean's.
        #[serde(with = "exact")]
        cosine: f32,
        /// The filter's limit.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// The likeliest class was not likely enough to learn from.
    TooUnsure {
        /// Its probability.
        #[serde(with = "exact")]
        confidence: f32,
        /// The filter's limit.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// The answer does not rest on the arrangement of the image's parts.
    NotByShape {
        /// What the class lost in probability when patches were shuffled.
        #[serde(with = "exact")]
        drop: f32,
        /// The filter's limit.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// The prediction is too near the running mean prediction.
    NotDiverse {
        /// 1 − cosine with the mean, scaled to 0..1 over the batch.
        #[serde(with = "exact")]
        diversity: f32,
        /// The batch's mean of it.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// The input passed every filter.
    PassedFilters,
    /// No row of the window passed the filters.
    NothingKept,
    /// The running mean of the objective fell so low that a collapse is likely.
    LossTooLow {
        /// The running mean.
        #[serde(with = "exact")]
        mean: f32,
        /// Nats.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// The batch's mean prediction got surer than its running level: the inputs seem to collapse onto few classes.
    PredictionsTooAlike {
        /// Entropy of the mean logits, nats.
        #[serde(with = "exact")]
        entropy: f32,
        /// The running level, nats.
        #[serde(with = "exact")]
        limit: f32,
    },
    /// The method resets after so many updates.
    UpdatesDone {
        /// The number.
        updates: u32,
    },
    /// The input looks like the source's: nothing to correct.
    AlreadyOrdinary {
        /// How unusual the input is.
        #[serde(with = "exact")]
        score: f32,
        /// The gate's threshold.
        #[serde(with = "exact")]
        threshold: f32,
    },
    /// The deadline left no time for a step.
    OutOfBudget {
        /// Milliseconds a step would have needed.
        #[serde(with = "exact")]
        needed_ms: f32,
        /// Milliseconds that were left.
        #[serde(with = "exact")]
        left_ms: f32,
    },
    /// The method moves nothing by design.
    MovesNothing,
    /// The change was computed for comparison only: adaptation has yet to earn its place.
    Shadow,
    /// A guard of the user's own.
    Custom {
        /// The guard's name.
        guard: String,
        /// What it measured.
        #[serde(with = "exact")]
        value: f32,
        /// What it allows.
        #[serde(with = "exact")]
        limit: f32,
    },
}

impl Receipt {
    /// The receipt with `config_hash` and `answer` computed from what they stand for.
    pub fn sealed(mut self) -> Self {
        self.config_hash = Digest::of_json(&self.config);
        self.answer = answer_digest(&self.facts.logits);
        self
    }

    /// What the receipt says about itself that is not so: `None` when the hashes match what they stand for.
    pub fn contradiction(&self) -> Option<&'static str> {
        if self.config_hash != Digest::of_json(&self.config) {
            Some("the configuration's hash is not the configuration's")
        } else if self.answer != answer_digest(&self.facts.logits) {
            Some("the answer's hash is not the answer's")
        } else {
            None
        }
    }
}

/// The hash that stands for an answer.
fn answer_digest(logits: &[f32]) -> Digest {
    Digest::of_tensor(&[logits.len()], logits)
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::RolledBack => "rolled back",
            Self::LeftAlone => "left alone",
            Self::Reset => "reset",
            Self::Frozen => "frozen",
        })
    }
}
