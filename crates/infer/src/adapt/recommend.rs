//! Which method fits a network and a stream: a first choice with its reasons, from the layers and a few inputs without
//! labels.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use acclimate_tensor::Tensor;
use acclimate_train::{Layer, Params};

use super::Adaptation;
use super::presets::frozen;
use super::rules::{Candidate, choose};
use crate::budget::{Clock, MachineClock, Work};
use crate::error::Error;
use crate::source::SourceStatistics;

pub use super::measured::{Measured, Unusual};

/// How labels follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Not known: the order of the predicted classes is tested.
    #[default]
    Unknown,
    /// In no order.
    Shuffled,
    /// In runs: sorted, or as a camera that stays with what it sees.
    Correlated,
}

/// What the caller knows about the stream.
#[derive(Clone, Debug)]
pub struct Situation {
    source: Option<SourceStatistics>,
    pub(super) batch: usize,
    deadline: Option<Duration>,
    pub(super) order: Order,
    pub(super) stream: Option<u64>,
    clock: Arc<dyn Clock>,
}

impl Situation {
    /// Inputs are answered `batch` at a time; nothing else is known.
    pub fn batches_of(batch: usize) -> Self {
        let clock = Arc::new(MachineClock::default());
        Situation { source: None, batch, deadline: None, order: Order::Unknown, stream: None, clock }
    }

    /// Statistics of source images.
    #[must_use]
    pub fn source(mut self, source: SourceStatistics) -> Self {
        self.source = Some(source);
        self
    }

    /// How long a batch may take. A forward pass is then timed.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How labels follow each other.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// How many inputs will come.
    #[must_use]
    pub fn stream_of(mut self, inputs: u64) -> Self {
        self.stream = Some(inputs);
        self
    }

    /// Times the forward pass by this clock instead of the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// A method and what speaks for it.
#[derive(Clone, Debug)]
pub struct Recommendation {
    /// The method.
    pub method: Adaptation,
    /// Why, in the order in which it was decided.
    pub why: Vec<Because>,
    /// What was looked at.
    pub measured: Measured,
}

impl fmt::Display for Recommendation {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: Vec<String> = self.why.iter().map(ToString::to_string).collect();
        write!(f, "{}: {}", self.method.name(), why.join("; "))
    }
}

/// One reason of a recommendation.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is explained by its sentence")]
pub enum Because {
    Layers { batch_norms: usize, other_norms: usize },
    Ordinary { share: f64, limit: f64 },
    Shifted { share: f64, limit: f64 },
    Sure { entropy: f64, limit: f64 },
    Unsure { entropy: f64, limit: f64 },
    ToldInRuns,
    InRuns { deviations: f64, limit: f64 },
    OneClass { share: f64, limit: f64 },
    Batch { inputs: usize },
    Length { inputs: Option<u64>, least: u64 },
    TooSlow { method: String, needed_ms: f64, left_ms: f64 },
    DoesNotFit { method: String, error: String },
    For(&'static str),
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |x: &f64| format!("{:.0} %", 100.0 * x);
        match self {
            Self::Layers { batch_norms: 0, other_norms: 0 } => f.write_str("the network has no normalization layers"),
            Self::Layers { batch_norms: 0, other_norms } => {
                write!(f, "{other_norms} normalization layers look at one input at a time")
            }
            Self::Layers { batch_norms, .. } => write!(f, "{batch_norms} layers have batch statistics"),
            Self::Ordinary { share, limit } | Self::Shifted { share, limit } => write!(
                f,
                "{} of the inputs look unlike the source images (ordinary: up to {})",
                percent(share),
                percent(limit)
            ),
            Self::Sure { entropy, limit } | Self::Unsure { entropy, limit } => write!(
                f,
                "no source statistics say whether inputs are ordinary; the entropy is {} of the most (sure: up to {})",
                percent(entropy),
                percent(limit)
            ),
            Self::ToldInRuns => f.write_str("labels are said to come in runs"),
            Self::InRuns { deviations, limit } => write!(
                f,
                "predicted classes come in runs, {deviations:.1} standard deviations from a random order (limit {limit})"
            ),
            Self::OneClass { share, limit } => write!(
                f,
                "{} of the inputs get one class (limit {}), so the stream may have one class only",
                percent(share),
                percent(limit)
            ),
            Self::Batch { inputs: 1 } => f.write_str("inputs are answered one at a time"),
            Self::Batch { inputs } => write!(f, "{inputs} inputs are answered together"),
            Self::Length { inputs: None, least } => {
                write!(f, "steps pay off from about {least} inputs on, and how many will come is not known")
            }
            Self::Length { inputs: Some(n), least } => {
                write!(f, "{n} inputs will come (steps pay off from about {least} on)")
            }
            Self::TooSlow { method, needed_ms, left_ms } => {
                write!(f, "{method} would take about {needed_ms:.1} ms of {left_ms:.1}")
            }
            Self::DoesNotFit { method, error } => write!(f, "{method} does not fit: {error}"),
            Self::For(what) => f.write_str(what),
        }
    }
}

impl Adaptation {
    /// Which method fits a network and a few of its inputs, `images`: [n, c, h, w] on the host, in the order in which they
    /// arrive; some hundred say more than ten. The same numbers give the same answer (with a deadline, the same times).
    ///
    /// It is a first choice: what helps is told by labels, see [`crate::evaluate`] and [`crate::feedback`].
    pub fn recommend(
        model: &dyn Layer,
        params: &Params,
        images: &[f32],
        dims: [usize; 3],
        situation: &Situation,
    ) -> Result<Recommendation, Error> {
        if situation.batch == 0 {
            return Err(Error::Empty { what: "a batch of the situation" });
        }
        let measured = Measured::of(model, params, images, dims, situation.source.as_ref())?;
        let (mut why, candidates) = choose(&measured, situation);
        let pass = match situation.deadline {
            Some(_) => Some(time(model, params, images, dims, situation)?),
            None => None,
        };
        for Candidate(method, passes, reason) in candidates {
            if let Err(error) = method.validate().and_then(|()| method.moves.overlay(params, method.name())) {
                why.push(Because::DoesNotFit { method: method.name().to_owned(), error: error.to_string() });
                continue;
            }
            if let (Some(pass), Some(deadline)) = (pass, situation.deadline) {
                let (needed_ms, left_ms) = (1e3 * passes * pass, 1e3 * deadline.as_secs_f64());
                if needed_ms > left_ms {
                    why.push(Because::TooSlow { method: method.name().to_owned(), needed_ms, left_ms });
                    continue;
                }
            }
            why.push(Because::For(reason));
            return Ok(Recommendation { method, why, measured });
        }
        why.push(Because::For("nothing else is left"));
        Ok(Recommendation { method: frozen(), why, measured })
    }
}

/// Seconds of a forward pass over a batch, after one that plans it.
fn time(
    model: &dyn Layer,
    params: &Params,
    images: &[f32],
    dims: [usize; 3],
    situation: &Situation,
) -> Result<f64, Error> {
    let size: usize = dims.iter().product();
    let n = situation.batch.min(images.len() / size);
    let x = Tensor::from_slice(params.device(), &images[..n * size], &[n, dims[0], dims[1], dims[2]])?;
    model.forward(params, &x)?.to_vec::<f32>()?;
    let before = situation.clock.now();
    model.forward(params, &x)?.to_vec::<f32>()?;
    situation.clock.worked(&Work { level: 0, steps: 0, views: 1, inputs: n });
    let took = situation.clock.now().saturating_sub(before).as_secs_f64();
    Ok(took * situation.batch as f64 / n as f64)
}
