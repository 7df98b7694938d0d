//! Replay: every answer of a log is computed again, along the recorded rung of the budget, and compared.
//!
//! Bits are required where engine, device and kernel variants are those of the receipt; elsewhere the caller may give
//! a tolerance. What cannot be recomputed is reported as missing, which is never a pass.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::compare::{Tolerance, first_difference};
use super::read::{Record, Verification, read};
use super::write::inputs_beside;
use super::{Digest, Engine, Facts, Input, Receipt, Scope};
use crate::error::Error;

/// Something that can answer again: a session with the source model.
pub trait Recompute {
    /// Hash of the source parameters it answers with.
    ///
    /// # Errors
    /// Whatever keeps the parameters from being read.
    fn base_hash(&self) -> Result<Digest, Error>;

    /// The device as it prints itself, as in [`Receipt::device`].
    fn device(&self) -> String;

    /// The engine it runs on.
    fn engine(&self) -> Engine;

    /// The kernel variants it chooses, as in [`Receipt::variants`].
    fn variants(&self) -> Vec<String>;

    /// Answers one batch again: one element of the result for each receipt, in order. `inputs` go with `receipts`.
    ///
    /// What to do is in the receipts (method, configuration, seed, sequence number, rung, steps, views); the clock
    /// plays no part. All receipts are of one batch; slots whose input is missing are left out where
    /// [`Receipt::scope`] allows. If `since_reset` is 0, the adaptation state is reset first; otherwise it is the one
    /// that the call before left.
    ///
    /// # Errors
    /// Whatever keeps the batch from being computed; replay ends with it.
    fn answer(&mut self, receipts: &[Receipt], inputs: &[Input]) -> Result<Vec<Facts>, Error>;
}

/// Where replay finds the inputs.
#[derive(Debug, Default)]
pub enum Inputs {
    /// Where [`Writer::keep_inputs`](super::Writer::keep_inputs) puts them, beside the log.
    #[default]
    Kept,
    /// In a folder of kept inputs.
    KeptIn(PathBuf),
    /// Handed in by the caller, by content hash.
    Given(HashMap<Digest, Input>),
}

impl Inputs {
    /// The inputs kept beside the log.
    pub fn kept() -> Self {
        Self::Kept
    }

    /// These inputs, in any order; each is found by its content.
    pub fn given(inputs: impl IntoIterator<Item = Input>) -> Self {
        Self::Given(inputs.into_iter().map(|input| (input.digest(), input)).collect())
    }

    /// The input of that hash, or why it cannot be had.
    fn find(&self, log: &Path, digest: Digest) -> Result<Input, String> {
        let loaded = match self {
            Self::Given(inputs) => Ok(inputs.get(&digest).cloned()),
            Self::KeptIn(folder) => Input::load(folder, digest),
            Self::Kept => Input::load(&inputs_beside(log), digest),
        };
        match loaded {
            Ok(Some(input)) => Ok(input),
            Ok(None) => Err(format!("the input {} is not there", digest.short())),
            Err(e) => Err(format!("the input cannot be used: {e}")),
        }
    }
}

/// What replay found for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Recomputed, and every number has the recorded bits.
    Equal,
    /// Recomputed on another device or with other kernel variants: every number within the tolerance given, every
    /// class, count and verdict the same.
    WithinTolerance,
    /// Recomputed, and something is not as recorded.
    Differs {
        /// The first thing that differs, with both values.
        what: String,
    },
    /// Not recomputed: the receipt is about other source parameters.
    BaseDiffers,
    /// Not recomputed: something the answer depends on is not there.
    Missing {
        /// What is missing.
        what: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => f.write_str("equal"),
            Self::WithinTolerance => f.write_str("equal within the tolerance for another device"),
            Self::Differs { what } => write!(f, "differs: {what}"),
            Self::BaseDiffers => f.write_str("was given by a model with other parameters"),
            Self::Missing { what } => write!(f, "could not be recomputed: {what}"),
        }
    }
}

/// What a replay found.
#[derive(Clone, Debug)]
pub struct ReplayReport {
    /// What the log's hashes and manifest say.
    pub verification: Verification,
    /// The outcome of every sound record, by its number in the log.
    pub outcomes: Vec<(usize, Outcome)>,
}

impl ReplayReport {
    /// True if the log is whole and every record was recomputed and found equal (or within the tolerance given).
    pub fn holds(&self) -> bool {
        self.verification.holds() && self.outcomes.iter().all(|(_, outcome)| passes(outcome))
    }

    /// Records for which `which` says yes.
    pub fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| which(outcome)).count()
    }

    /// An error unless the replay [holds](ReplayReport::holds).
    ///
    /// # Errors
    /// [`Error::ReplayFailed`] with the summary.
    pub fn require_equal(&self) -> Result<(), Error> {
        if self.holds() { Ok(()) } else { Err(Error::ReplayFailed { summary: self.to_string() }) }
    }
}

fn passes(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Equal | Outcome::WithinTolerance)
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equal = self.count(|o| matches!(o, Outcome::Equal));
        let near = self.count(|o| matches!(o, Outcome::WithinTolerance));
        let differ = self.count(|o| matches!(o, Outcome::Differs { .. }));
        let base = self.count(|o| matches!(o, Outcome::BaseDiffers));
        let missing = self.count(|o| matches!(o, Outcome::Missing { .. }));
        write!(
            f,
            "{}; recomputed {} of {}: {equal} equal",
            self.verification,
            equal + near + differ,
            self.outcomes.len()
        )?;
        for (count, words) in [
            (near, "within tolerance"),
            (differ, "differing"),
            (base, "from another model"),
            (missing, "with something missing"),
        ] {
            if count > 0 {
                write!(f, ", {count} {words}")?;
            }
        }
        match self.outcomes.iter().find(|(_, outcome)| !passes(outcome)) {
            Some((record, outcome)) => write!(f, "; first: record {record} {outcome}"),
            None => Ok(()),
        }
    }
}

/// Computes every answer of the log at `path` again. Bits are required of every number; see [`Replay`] for a tolerance.
///
/// # Errors
/// [`Error::Io`] if the log cannot be read, or what `session` fails with. An answer that differs is no error but an
/// [`Outcome`].
pub fn replay(path: impl AsRef<Path>, session: &mut impl Recompute, inputs: Inputs) -> Result<ReplayReport, Error> {
    Replay::new(inputs).run(path, session)
}

/// A replay with its settings.
#[derive(Debug)]
pub struct Replay {
    inputs: Inputs,
    tolerance: Option<Tolerance>,
}

impl Replay {
    /// Requires the recorded bits of every number.
    pub fn new(inputs: Inputs) -> Self {
        Self { inputs, tolerance: None }
    }

    /// Allows numbers to differ this far, but only where device, engine or kernel variants differ from the recorded.
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = Some(tolerance);
        self
    }

    /// Computes every answer of the log at `path` again.
    ///
    /// # Errors
    /// As [`replay`].
    pub fn run(&self, path: impl AsRef<Path>, session: &mut impl Recompute) -> Result<ReplayReport, Error> {
        let path = path.as_ref();
        let log = read(path)?;
        let here = Here {
            base: session.base_hash()?,
            device: session.device(),
            engine: session.engine(),
            variants: session.variants(),
        };
        let mut outcomes = Vec::with_capacity(log.records.len());
        let mut state = StateOf::default();
        for batch in batches(&log.records) {
            let broken = state.before(batch);
            let found = self.run_batch(path, batch, &here, session, broken.as_deref())?;
            state.after(batch, &found);
            outcomes.extend(found);
        }
        Ok(ReplayReport { verification: log.verification, outcomes })
    }

    fn run_batch(
        &self,
        path: &Path,
        batch: &[Record],
        here: &Here,
        session: &mut impl Recompute,
        stream_broken: Option<&str>,
    ) -> Result<Vec<(usize, Outcome)>, Error> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
        let mut inputs = Vec::with_capacity(batch.len());
        for (record, outcome) in batch.iter().zip(&mut outcomes) {
            let found = if record.receipt.base == here.base {
                self.inputs.find(path, record.receipt.input).map_err(|what| Outcome::Missing { what })
            } else {
                Err(Outcome::BaseDiffers)
            };
            match found {
                Ok(input) => inputs.push(input),
                Err(why) => *outcome = Some(why),
            }
        }
        let whole = batch.iter().all(|record| record.receipt.place.of as usize == batch.len());
        let complete = whole && outcomes.iter().all(Option::is_none);
        // The session works on what is left of the batch; the inputs stay in step with the receipts.
        let mut receipts = Vec::with_capacity(inputs.len());
        let mut open = Vec::with_capacity(inputs.len());
        let mut left = Vec::with_capacity(inputs.len());
        let present = outcomes.iter().enumerate().filter(|(_, o)| o.is_none()).map(|(i, _)| i).collect::<Vec<_>>();
        for (i, input) in present.into_iter().zip(inputs) {
            let receipt = &batch[i].receipt;
            let broken = match receipt.scope {
                Scope::Input => None,
                Scope::Batch | Scope::Stream if !complete => {
                    Some("the answer depends on its whole batch, which is not there".to_owned())
                }
                Scope::Stream => stream_broken.map(str::to_owned),
                Scope::Batch => None,
            };
            match broken {
                Some(what) => outcomes[i] = Some(Outcome::Missing { what }),
                None => {
                    receipts.push(receipt.clone());
                    left.push(input);
                    open.push(i);
                }
            }
        }
        if !receipts.is_empty() {
            let again = session.answer(&receipts, &left)?;
            if again.len() != receipts.len() {
                return Err(Error::size("answers of a replayed batch", receipts.len(), again.len()));
            }
            for ((i, receipt), facts) in open.into_iter().zip(&receipts).zip(&again) {
                outcomes[i] = Some(self.judge(receipt, facts, here)?);
            }
        }
        let unjudged = || Outcome::Missing { what: "it was not recomputed".to_owned() };
        Ok(batch.iter().zip(outcomes).map(|(r, o)| (r.record, o.unwrap_or_else(unjudged))).collect())
    }

    fn judge(&self, receipt: &Receipt, again: &Facts, here: &Here) -> Result<Outcome, Error> {
        if let Some(what) = receipt.contradiction() {
            return Ok(Outcome::Differs { what: what.to_owned() });
        }
        let json = |facts: &Facts| {
            serde_json::to_value(facts).map_err(|source| Error::Encode { what: "the facts of a receipt", source })
        };
        let (recorded, recomputed) = (json(&receipt.facts)?, json(again)?);
        let Some(bits) = first_difference(&recorded, &recomputed, None, "") else {
            return Ok(Outcome::Equal);
        };
        let elsewhere = here.differs_from(receipt);
        Ok(match (elsewhere, self.tolerance) {
            (None, _) => Outcome::Differs { what: bits },
            (Some(how), None) => Outcome::Differs { what: format!("{bits} ({how}, and no tolerance was given)") },
            (Some(_), Some(tolerance)) => match first_difference(&recorded, &recomputed, Some(tolerance), "") {
                None => Outcome::WithinTolerance,
                Some(what) => Outcome::Differs { what },
            },
        })
    }
}

/// Whether the session's adaptation state is the one the log had: records that were not recomputed break it, a reset
/// mends it.
#[derive(Default)]
struct StateOf {
    answers_since_reset: u64,
    broken: Option<String>,
}

impl StateOf {
    /// Why the state is not the one `batch` started from, if it is not.
    fn before(&mut self, batch: &[Record]) -> Option<String> {
        let recorded = batch.first().map_or(0, |first| first.receipt.since_reset);
        if recorded == 0 {
            *self = Self::default();
        } else if recorded != self.answers_since_reset && self.broken.is_none() {
            let counted = self.answers_since_reset;
            let what = format!("{recorded} answers shaped the state, of which the log has {counted}");
            self.broken = Some(what);
        }
        self.broken.clone()
    }

    fn after(&mut self, batch: &[Record], found: &[(usize, Outcome)]) {
        self.answers_since_reset += batch.len() as u64;
        let skipped = found.iter().find(|(_, o)| matches!(o, Outcome::Missing { .. } | Outcome::BaseDiffers));
        if let (Some((record, _)), None) = (skipped, &self.broken) {
            self.broken = Some(format!("the state depends on record {record}, which was not recomputed"));
        }
    }
}

/// The circumstances of the replay, to be compared with those of a receipt.
struct Here {
    base: Digest,
    device: String,
    engine: Engine,
    variants: Vec<String>,
}

impl Here {
    fn differs_from(&self, receipt: &Receipt) -> Option<String> {
        if self.engine != receipt.engine {
            Some(format!("recorded on the {} engine, replayed on the {} engine", receipt.engine, self.engine))
        } else if self.device != receipt.device {
            Some(format!("recorded on \"{}\", replayed on \"{}\"", receipt.device, self.device))
        } else if self.variants != receipt.variants {
            Some("the kernel variants are not the recorded ones".to_owned())
        } else {
            None
        }
    }
}

/// Splits records into runs of one batch. A slot that does not rise starts a new batch even under the same number, as
/// when a second session goes on with the log of a first.
fn batches(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    records.chunk_by(|a, b| {
        let (a, b) = (a.receipt.place, b.receipt.place);
        a.batch == b.batch && a.of == b.of && a.slot < b.slot
    })
}
