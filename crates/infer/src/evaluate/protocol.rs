//! The runner: one method over one stream, with time, memory and, in real time, the inputs it was too slow for.

use std::time::Duration;

use serde::Serialize;

use super::stream::{Order, Part, Row, Visit, visits};
use crate::error::Error;
use crate::metrics::{Scores, first_peak};
use crate::receipt::Action;
use crate::report_row::softmax;
use crate::session::{Answered, Session};

/// A stream that does not wait (Alfarra et al. 2024).
///
/// While a method adapts to a batch for the time t, max(0, ⌈speed · t / t₀⌉ − 1) further batches arrive, where t₀ is what
/// the frozen model takes for a batch. They are answered by the model as it stands, without adapting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RealTime {
    /// Speed of the stream; 1 is as fast as the frozen model answers.
    pub speed: f64,
    /// Milliseconds that the frozen model takes for an input in the same batches.
    pub frozen_ms: f64,
}

impl RealTime {
    /// How many batches arrive while one of `n` inputs takes so long.
    fn missed(&self, took: Duration, n: usize) -> usize {
        let batches = self.speed * took.as_secs_f64() * 1e3 / (self.frozen_ms * n as f64);
        // A hair above a whole number is that number: both times were measured.
        ((batches - 1e-9).ceil() - 1.0).max(0.0) as usize
    }

    fn check(&self) -> Result<(), Error> {
        for (what, x) in [("speed of a stream", self.speed), ("milliseconds of the frozen model", self.frozen_ms)] {
            if !(x.is_finite() && x > 0.0) {
                return Err(Error::size(what, "a number above 0", x));
            }
        }
        Ok(())
    }
}

/// How a method meets its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// In which order.
    pub order: Order,
    /// Inputs of a batch; 1 for [`Order::Single`].
    pub batch: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Whether the stream goes on while the method is busy.
    pub real_time: Option<RealTime>,
}

/// What a method did on one part of a stream. Lists are in the part's own order, whatever the order of the stream, so
/// that runs can be compared input by input.
#[derive(Clone, Debug)]
pub struct PartRun {
    /// Name of the shift.
    pub name: String,
    /// Severity; 0 for clean images.
    pub severity: u8,
    /// Accuracy and calibration.
    pub scores: Scores,
    /// Whether each answer was right.
    pub right: Vec<bool>,
    /// Whether each input was acted on: something was moved and kept, or it was answered otherwise than by the frozen model.
    pub acted: Vec<bool>,
    /// Answers that a guard rolled back.
    pub rolled_back: usize,
    /// Inputs that the method was too busy to adapt to.
    pub late: usize,
    /// Milliseconds of work for an input.
    pub ms_per_input: f64,
}

/// One method over one stream.
#[derive(Clone, Debug)]
pub struct Run {
    /// The method's name.
    pub method: String,
    /// The order.
    pub order: Order,
    /// Each part.
    pub parts: Vec<PartRun>,
    /// Milliseconds of work for an input, planning apart. In real time, of the inputs adapted to.
    pub ms_per_input: f64,
    /// Bytes that the work took at its peak, beyond what was there before, for an input of a submission.
    pub bytes_per_input: f64,
}

impl Run {
    /// Whether each answer was right, part after part.
    pub fn right(&self) -> Vec<bool> {
        self.parts.iter().flat_map(|part| part.right.iter().copied()).collect()
    }

    /// Whether each input was acted on, part after part.
    pub fn acted(&self) -> Vec<bool> {
        self.parts.iter().flat_map(|part| part.acted.iter().copied()).collect()
    }
}

/// What is noted of each answer.
#[derive(Clone, Debug, Default)]
struct Noted {
    probabilities: Vec<f32>,
    acted: bool,
    rolled_back: bool,
    late: bool,
    ms: f64,
}

/// Runs a fresh session over a stream, by the session's clock. `after` hears how many of how many batches are done.
///
/// # Errors
/// Those of [`visits`], [`Session::answer`] and [`Scores::measure`]; [`Error::Size`] if the parts' images differ in size
/// or do not match their labels.
pub fn run(
    session: &mut Session,
    parts: &[Part<'_>],
    protocol: &Protocol,
    after: &mut dyn FnMut(usize, usize),
) -> Result<Run, Error> {
    protocol.real_time.map_or(Ok(()), |pace| pace.check())?;
    let dims = sizes(parts)?;
    let plan = visits(parts, protocol.order, protocol.batch, protocol.seed)?;
    session.device().forget_peak();
    let held_before = session.device().stats().bytes_live;
    // Planning is no part of the time for an input. A last batch may be smaller.
    let mut lengths: Vec<usize> = plan.iter().map(|visit| visit.rows.len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    for n in lengths {
        session.warm(dims, n)?;
    }
    let mut noted: Vec<Vec<Noted>> = parts.iter().map(|part| vec![Noted::default(); part.data.labels.len()]).collect();
    let mut behind = 0;
    for (i, visit) in plan.iter().enumerate() {
        if visit.resets {
            session.reset();
            // A new shift begins when the method is ready for it.
            behind = 0;
        }
        let late = behind > 0;
        let took = answer(session, parts, dims, visit, late, &mut noted)?;
        behind = match protocol.real_time {
            _ if late => behind - 1,
            Some(pace) => pace.missed(took, visit.rows.len()),
            None => 0,
        };
        after(i + 1, plan.len());
    }
    let held = session.device().stats().bytes_peak.saturating_sub(held_before);
    let largest = plan.iter().map(|visit| visit.rows.len()).max().unwrap_or(1);
    let inputs = if session.method().is_per_input() { session.n_slots() } else { largest };
    let every: Vec<&Noted> = noted.iter().flatten().collect();
    Ok(Run {
        method: session.method().name().to_owned(),
        order: protocol.order,
        ms_per_input: mean_ms(&every),
        bytes_per_input: held as f64 / inputs.max(1) as f64,
        parts: parts.iter().zip(&noted).map(|(part, noted)| part_run(part, noted)).collect::<Result<_, _>>()?,
    })
}

/// Answers one batch and notes what came out.
fn answer(
    session: &mut Session,
    parts: &[Part<'_>],
    dims: [usize; 3],
    visit: &Visit,
    late: bool,
    noted: &mut [Vec<Noted>],
) -> Result<Duration, Error> {
    let size: usize = dims.iter().product();
    let image = |row: &Row| &parts[row.part].data.images[row.item * size..(row.item + 1) * size];
    let images: Vec<f32> = visit.rows.iter().flat_map(|row| image(row).iter().copied()).collect();
    let began = session.time();
    let new: Vec<Noted> = if late {
        let logits = session.answer_unadapted(&images, dims)?;
        logits.iter().map(|l| Noted { probabilities: softmax(l), late, ..Noted::default() }).collect()
    } else {
        session.answer(&images, dims)?.iter().map(note).collect()
    };
    let took = session.time().saturating_sub(began);
    let ms = took.as_secs_f64() * 1e3 / visit.rows.len() as f64;
    for (row, new) in visit.rows.iter().zip(new) {
        noted[row.part][row.item] = Noted { ms, ..new };
    }
    Ok(took)
}

fn part_run(part: &Part<'_>, noted: &[Noted]) -> Result<PartRun, Error> {
    let classes = noted.first().map_or(0, |n| n.probabilities.len());
    let probabilities: Vec<f32> = noted.iter().flat_map(|n| n.probabilities.iter().copied()).collect();
    let labels: Vec<usize> = part.data.labels.iter().map(|&l| l as usize).collect();
    Ok(PartRun {
        name: part.name.to_owned(),
        severity: part.severity,
        scores: Scores::measure(&probabilities, classes, &labels)?,
        right: noted.iter().zip(&labels).map(|(n, &label)| first_peak(&n.probabilities) == label).collect(),
        acted: noted.iter().map(|n| n.acted).collect(),
        rolled_back: noted.iter().filter(|n| n.rolled_back).count(),
        late: noted.iter().filter(|n| n.late).count(),
        ms_per_input: mean_ms(&noted.iter().collect::<Vec<_>>()),
    })
}

fn note(answered: &Answered) -> Noted {
    let facts = &answered.receipt.facts;
    let action = facts.verdict.action;
    // Batch statistics and votes move nothing, and answer otherwise than the frozen model all the same.
    let otherwise = facts.entropy.before.to_bits() != facts.entropy.after.to_bits();
    Noted {
        probabilities: answered.probabilities(),
        acted: action == Action::Accepted || (action == Action::Frozen && otherwise),
        rolled_back: action == Action::RolledBack,
        ..Noted::default()
    }
}

/// Mean time of the inputs that were not late.
fn mean_ms(noted: &[&Noted]) -> f64 {
    let timed: Vec<f64> = noted.iter().filter(|n| !n.late).map(|n| n.ms).collect();
    if timed.is_empty() { 0.0 } else { timed.iter().sum::<f64>() / timed.len() as f64 }
}

/// The one size of all images.
fn sizes(parts: &[Part<'_>]) -> Result<[usize; 3], Error> {
    let Some(first) = parts.first() else { return Err(Error::Empty { what: "the parts of the stream" }) };
    let dims = first.data.dims;
    let size: usize = dims.iter().product();
    for part in parts {
        let n = part.data.labels.len();
        if part.data.dims != dims || part.data.images.len() != n * size || n == 0 {
            let found = format!("{} values of {:?}, {n} labels", part.data.images.len(), part.data.dims);
            return Err(Error::size(
                format!("images of part `{}`", part.name),
                format!("{dims:?} each, one label each"),
                found,
            ));
        }
    }
    Ok(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_arrive_in_the_meantime() {
        let pace = |speed| RealTime { speed, frozen_ms: 2.0 };
        for (speed, took_ms, expected) in
            [(1.0, 100, 0), (1.0, 101, 1), (1.0, 200, 1), (1.0, 201, 2), (1.0, 20, 0), (0.5, 200, 0), (3.0, 100, 2)]
        {
            // Fifty inputs take the frozen model 100 ms.
            assert_eq!(pace(speed).missed(Duration::from_millis(took_ms), 50), expected, "{speed} {took_ms}");
        }
        assert!(pace(0.0).check().is_err() && pace(f64::NAN).check().is_err() && pace(1.0).check().is_ok());
    }
}
