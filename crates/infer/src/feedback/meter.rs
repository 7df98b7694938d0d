//! A reading beside the inputs, such as a light meter's: it may gate adaptation as long as it can be believed.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::receipt::{Event, Reason};

/// A side sensor with one number for each batch of inputs.
///
/// While it is believed, inputs are only adapted to where its reading lies in a range (a light meter: in the dark).
/// It loses its credit where readings are missing, not numbers, out of range, the same over and over, or do not follow
/// the images' brightness though they should; from then on the session decides without it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meter {
    name: String,
    possible: (f64, f64),
    adapt: (f64, f64),
    follows_brightness: bool,
    stuck_after: usize,
    bad_after: usize,
    /// The reading for the next inputs.
    next: Option<f64>,
    last: Option<f64>,
    same: usize,
    bad: usize,
    good: usize,
    /// Reading and brightness of the last inputs.
    pairs: VecDeque<(f64, f64)>,
    trusted: bool,
}

/// Readings that the comparison with the images looks at, and readings in order that win back credit.
const COMPARED: usize = 60;
/// Standard deviation of brightness from which on a meter has something to follow.
const VARIES: f64 = 0.03;
/// Correlation with brightness below which a meter does not follow it.
const FOLLOWS: f64 = 0.2;

impl Meter {
    /// A meter with these possible readings, which gates nothing yet. 30 equal readings are a stuck meter, 3 missing or
    /// impossible ones in a row a broken one.
    pub fn new(name: impl Into<String>, possible: RangeInclusive<f64>) -> Self {
        let possible = (*possible.start(), *possible.end());
        Meter {
            name: name.into(),
            possible,
            adapt: possible,
            follows_brightness: false,
            stuck_after: 30,
            bad_after: 3,
            next: None,
            last: None,
            same: 0,
            bad: 0,
            good: 0,
            pairs: VecDeque::new(),
            trusted: true,
        }
    }

    /// Inputs are adapted to only where the reading is in this range.
    #[must_use]
    pub fn adapt_within(mut self, range: RangeInclusive<f64>) -> Self {
        self.adapt = (*range.start(), *range.end());
        self
    }

    /// The reading should rise and fall with the mean of the images' pixels.
    #[must_use]
    pub fn follows_brightness(mut self) -> Self {
        self.follows_brightness = true;
        self
    }

    /// How many equal readings in a row are a stuck meter.
    #[must_use]
    pub fn stuck_after(mut self, readings: usize) -> Self {
        self.stuck_after = readings.max(2);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is believed.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The reading for the next inputs.
    pub(crate) fn sense(&mut self, reading: f64) {
        self.next = Some(reading);
    }

    /// Before inputs of this mean brightness are answered: whether the meter holds adaptation back, and what happened to
    /// its credit.
    pub(crate) fn gate(&mut self, brightness: f64) -> (Option<Reason>, Option<Event>) {
        let reading = self.next.take();
        let possible = |x: &f64| x.is_finite() && (self.possible.0..=self.possible.1).contains(x);
        let usable = reading.filter(possible);
        let fault = self.fault(reading, usable, brightness);
        let event = match (&fault, self.trusted) {
            (Some(because), true) => {
                (self.trusted, self.good) = (false, 0);
                Some(Event::Distrusted { source: self.name.clone(), because: because.clone() })
            }
            (None, false) if usable.is_some() => {
                self.good += 1;
                (self.good >= COMPARED).then(|| {
                    self.trusted = true;
                    Event::Trusted { source: self.name.clone() }
                })
            }
            (Some(_), false) | (None, false) => {
                self.good = 0;
                None
            }
            (None, true) => None,
        };
        let outside = usable.filter(|x| self.trusted && !(self.adapt.0..=self.adapt.1).contains(x));
        let held = outside.map(|x| {
            let limit = if x > self.adapt.1 { self.adapt.1 } else { self.adapt.0 };
            reason(format!("reading of {}", self.name), x, limit)
        });
        (held, event)
    }

    /// What is wrong with the meter now, if anything.
    fn fault(&mut self, reading: Option<f64>, usable: Option<f64>, brightness: f64) -> Option<Reason> {
        let Some(x) = usable else {
            self.bad += 1;
            self.pairs.clear();
            let what = match reading {
                None => "missing readings in a row",
                Some(x) if !x.is_finite() => "readings in a row that are no numbers",
                Some(_) => "readings in a row that are out of range",
            };
            return (self.bad >= self.bad_after).then(|| reason(what.into(), self.bad as f64, self.bad_after as f64));
        };
        self.bad = 0;
        self.same = if self.last == Some(x) { self.same + 1 } else { 1 };
        self.last = Some(x);
        if self.same >= self.stuck_after {
            return Some(reason("equal readings in a row".into(), self.same as f64, self.stuck_after as f64));
        }
        if !self.follows_brightness || !brightness.is_finite() {
            return None;
        }
        if self.pairs.len() == COMPARED {
            self.pairs.pop_front();
        }
        self.pairs.push_back((x, brightness));
        let follows = correlation(&self.pairs)?;
        (follows < FOLLOWS).then(|| reason("correlation with the images' brightness".into(), follows, FOLLOWS))
    }
}

/// Pearson's correlation of a full list whose second part varies; 0 if the first does not.
fn correlation(pairs: &VecDeque<(f64, f64)>) -> Option<f64> {
    if pairs.len() < COMPARED {
        return None;
    }
    let n = pairs.len() as f64;
    let mean = |part: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(part).sum::<f64>() / n;
    let (mx, my) = (mean(&|p| p.0), mean(&|p| p.1));
    let (vx, vy) = (mean(&|p| (p.0 - mx).powi(2)), mean(&|p| (p.1 - my).powi(2)));
    if vy.sqrt() < VARIES {
        return None;
    }
    if vx == 0.0 {
        return Some(0.0);
    }
    Some(mean(&|p| (p.0 - mx) * (p.1 - my)) / (vx * vy).sqrt())
}

fn reason(guard: String, value: f64, limit: f64) -> Reason {
    Reason::Custom { guard, value: value as f32, limit: limit as f32 }
}
