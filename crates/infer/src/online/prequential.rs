//! Prequential evaluation: each input is a test first and a lesson after (Dawid 1984; Gama, Sebastião, Rodrigues 2013).

use serde::Serialize;

use super::learner::{Event, Labeled, Learner};
use crate::error::Error;

/// A point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Labels so far.
    pub n: u64,
    /// Mean error so far.
    pub error: f64,
    /// Mean error of the last window.
    pub recent_error: f64,
    /// Mean loss so far.
    pub loss: f64,
    /// Mean error so far of answering the last label.
    pub no_change: f64,
}

/// Errors and losses of answers that were given before their label was learned, beside two answers that learn nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Prequential {
    window: u64,
    n: u64,
    errors: f64,
    recent: f64,
    losses: f64,
    no_change: f64,
    last: Option<f32>,
    by_label: Vec<(f32, u64)>,
    curve: Vec<Point>,
    #[serde(skip)]
    each_loss: Vec<f64>,
    skipped: u64,
    alarms: Vec<u64>,
}

impl Prequential {
    /// Before the first label. The curve has a point for each `window` labels.
    pub fn new(window: u64) -> Self {
        Prequential {
            window: window.max(1),
            n: 0,
            errors: 0.0,
            recent: 0.0,
            losses: 0.0,
            no_change: 0.0,
            last: None,
            by_label: Vec::new(),
            curve: Vec::new(),
            each_loss: Vec::new(),
            skipped: 0,
            alarms: Vec::new(),
        }
    }

    /// One more label.
    pub fn add(&mut self, labeled: &Labeled) {
        let Labeled { label, error, loss, alarm, .. } = *labeled;
        if alarm {
            self.alarms.push(self.n);
        }
        self.n += 1;
        self.errors += error;
        self.recent += error;
        self.losses += loss;
        self.each_loss.push(loss);
        // The first label has none before it: an error.
        let same = self.last.is_some_and(|last| last.to_bits() == label.to_bits());
        self.no_change += f64::from(u8::from(!same));
        self.last = Some(label);
        // Numbers have no majority worth counting.
        match self.by_label.iter().position(|(l, _)| l.to_bits() == label.to_bits()) {
            Some(place) => self.by_label[place].1 += 1,
            None if self.by_label.len() < 1000 => self.by_label.push((label, 1)),
            None => {}
        }
        if self.n.is_multiple_of(self.window) {
            let n = self.n as f64;
            self.curve.push(Point {
                n: self.n,
                error: self.errors / n,
                recent_error: self.recent / self.window as f64,
                loss: self.losses / n,
                no_change: self.no_change / n,
            });
            self.recent = 0.0;
        }
    }

    /// Labels so far.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there was no label yet.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Mean error.
    pub fn error(&self) -> f64 {
        self.errors / self.n as f64
    }

    /// One minus the mean error: of classes, the accuracy.
    pub fn accuracy(&self) -> f64 {
        1.0 - self.error()
    }

    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.losses / self.n as f64
    }

    /// Accuracy of answering the label before.
    pub fn no_change_accuracy(&self) -> f64 {
        1.0 - self.no_change / self.n as f64
    }

    /// Accuracy of always answering the most frequent label.
    pub fn majority_accuracy(&self) -> f64 {
        self.by_label.iter().map(|(_, n)| *n).max().unwrap_or(0) as f64 / self.n as f64
    }

    /// (p − p′)/(1 − p′) with p the accuracy and p′ that of no change: above 0 is better than persistence (Žliobaitė et
    /// al. 2015 call it the temporal kappa).
    pub fn temporal_kappa(&self) -> f64 {
        let persistence = self.no_change_accuracy();
        (self.accuracy() - persistence) / (1.0 - persistence)
    }

    /// The curve.
    pub fn curve(&self) -> &[Point] {
        &self.curve
    }

    /// The loss of each label, in order: what regret is made of.
    pub fn losses(&self) -> &[f64] {
        &self.each_loss
    }

    /// At which labels the learner's signal saw a change, counted from 0.
    pub fn alarms(&self) -> &[u64] {
        &self.alarms
    }

    /// Inputs that were left out because of a value or label that is not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// Tests and teaches a learner on rows and labels in order. The label of a row comes `delay` rows after it; 0 is at
/// once. Rows with a value that is not finite, or a label that is not, are left out and counted.
pub fn prequential(
    learner: &mut Learner,
    rows: &[f32],
    labels: &[f32],
    delay: usize,
    window: u64,
) -> Result<Prequential, Error> {
    prequential_watched(learner, rows, labels, delay, Prequential::new(window), |_| {})
}

/// The same, going on from `measured`, with a look at it after each thousand rows.
pub fn prequential_watched(
    learner: &mut Learner,
    rows: &[f32],
    labels: &[f32],
    delay: usize,
    mut measured: Prequential,
    mut look: impl FnMut(&Prequential),
) -> Result<Prequential, Error> {
    let width = rows.len() / labels.len().max(1);
    if labels.is_empty() || width * labels.len() != rows.len() {
        return Err(Error::size("rows", format!("a multiple of {} values", labels.len()), rows.len()));
    }
    let mut waiting = std::collections::VecDeque::new();
    // So many rows at a time that blocks are full.
    for chunk in 0..labels.len().div_ceil(CHUNK) {
        let mut events = Vec::with_capacity(2 * CHUNK);
        let mut id = learner.next_id();
        for i in chunk * CHUNK..((chunk + 1) * CHUNK).min(labels.len()) {
            let row = &rows[i * width..(i + 1) * width];
            if !labels[i].is_finite() || row.iter().any(|x| !x.is_finite()) {
                measured.skipped += 1;
                continue;
            }
            events.push(Event::Input(row));
            waiting.push_back((id, labels[i]));
            id += 1;
            if waiting.len() > delay {
                events.extend(waiting.pop_front().map(|(id, label)| Event::Label { id, label }));
            }
        }
        learner.take(&events)?.labeled.iter().for_each(|l| measured.add(l));
        look(&measured);
    }
    let rest: Vec<Event> = waiting.into_iter().map(|(id, label)| Event::Label { id, label }).collect();
    learner.take(&rest)?.labeled.iter().for_each(|l| measured.add(l));
    Ok(measured)
}

/// Rows that are handed over at a time.
const CHUNK: usize = 1024;
