//! A monitor: label-free signals of each answer, detectors on them, and what to do when one of them fires.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Collapse, Detector, Sign};
use crate::receipt::{Facts, Reason};
use crate::report_row::softmax;

/// What can be watched without labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// Entropy of the answer, in nats.
    Entropy,
    /// Probability of the answer's class.
    Confidence,
    /// 1 where the answer's class is not the frozen model's, else 0.
    Disagreement,
    /// Entropy of the mean prediction over the last 64 answers, in nats.
    MarginalEntropy,
    /// ‖Δ‖ relative to what may move.
    Moved,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Entropy => "entropy",
            Self::Confidence => "confidence",
            Self::Disagreement => "disagreement with the frozen model",
            Self::MarginalEntropy => "entropy of the mean prediction",
            Self::Moved => "distance moved",
        }
    }
}

/// What an alarm does to a state that is carried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAlarm {
    /// Back to the source model.
    Reset,
    /// Back to the newest state that went through a whole period of so many batches without an alarm; to the source
    /// model if there is none.
    GoBack {
        /// Batches of a period.
        period: u64,
    },
}

/// A signal, its detector, and the numbers it compares.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Watch {
    signal: Signal,
    detector: Detector,
}

/// Watches the answers of a session. An alarm resets every detector, so that one cause is one alarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Monitor {
    watches: Vec<Watch>,
    collapse: Option<Collapse>,
    /// Share of disagreement over the last answers above which the state is not believed.
    disagreement: Option<(usize, f64)>,
    on_alarm: OnAlarm,
    recent: VecDeque<Vec<f32>>,
    disagreed: VecDeque<bool>,
}

/// Answers that the mean prediction is taken over.
const RECENT: usize = 64;

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}

impl Monitor {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Monitor {
            watches: Vec::new(),
            collapse: None,
            disagreement: None,
            on_alarm: OnAlarm::Reset,
            recent: VecDeque::new(),
            disagreed: VecDeque::new(),
        }
    }

    /// What guards against the usual ends of entropy minimization: one class for all (32 answers, more than 90 %), and
    /// an answer that is no longer the frozen model's for more than half of 64 inputs.
    pub fn careful() -> Self {
        Self::new().collapse(Collapse::new(32, 0.9)).disagreement(64, 0.5)
    }

    /// One more signal under a detector.
    #[must_use]
    pub fn watch(mut self, signal: Signal, detector: Detector) -> Self {
        self.watches.push(Watch { signal, detector });
        self
    }

    /// Watches for one class for all.
    #[must_use]
    pub fn collapse(mut self, collapse: Collapse) -> Self {
        self.collapse = Some(collapse);
        self
    }

    /// An alarm where more than `share` of the last `answers` differ from the frozen model's.
    #[must_use]
    pub fn disagreement(mut self, answers: usize, share: f64) -> Self {
        self.disagreement = Some((answers.max(1), share));
        self
    }

    /// What an alarm does (by default, a reset).
    #[must_use]
    pub fn on_alarm(mut self, action: OnAlarm) -> Self {
        self.on_alarm = action;
        self
    }

    /// What an alarm does.
    pub fn action(&self) -> OnAlarm {
        self.on_alarm
    }

    /// Takes in an answer; the reason for an alarm, if it is one.
    pub fn observe(&mut self, facts: &Facts) -> Option<Reason> {
        let marginal = self.marginal(&facts.logits);
        let mut alarm = None;
        for Watch { signal, detector } in &mut self.watches {
            let x = match signal {
                Signal::MarginalEntropy => match marginal {
                    Some(marginal) => marginal,
                    // It rises while there are few answers, whatever they are.
                    None => continue,
                },
                Signal::Entropy => f64::from(facts.entropy.after),
                Signal::Confidence => f64::from(facts.after.confidence),
                Signal::Disagreement => f64::from(u8::from(facts.before.class != facts.after.class)),
                Signal::Moved => f64::from(facts.moved.relative),
            };
            if detector.update(x) == Sign::Drift {
                let (value, limit) = detector.evidence();
                alarm.get_or_insert(reason(format!("{} on {}", detector.name(), signal.name()), value, limit));
            }
        }
        if let Some(collapse) = &mut self.collapse
            && let Some(share) = collapse.update(facts.after.class, f64::from(facts.after.confidence))
        {
            alarm.get_or_insert(reason("collapse to one class".into(), share, collapse.limit()));
        }
        if let Some((n, limit)) = self.disagreement {
            if self.disagreed.len() == n {
                self.disagreed.pop_front();
            }
            self.disagreed.push_back(facts.before.class != facts.after.class);
            let share = self.disagreed.iter().filter(|d| **d).count() as f64 / n as f64;
            if self.disagreed.len() == n && share > limit {
                alarm.get_or_insert(reason("share of answers unlike the frozen model's".into(), share, limit));
            }
        }
        if alarm.is_some() {
            self.reset();
        }
        alarm
    }

    /// Forgets the answers; keeps what is watched.
    pub fn reset(&mut self) {
        self.watches.iter_mut().for_each(|w| w.detector.reset());
        self.collapse.iter_mut().for_each(Collapse::reset);
        self.recent.clear();
        self.disagreed.clear();
    }

    fn marginal(&mut self, logits: &[f32]) -> Option<f64> {
        let p = softmax(logits);
        if p.iter().all(|x| x.is_finite()) {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(p);
        }
        let n = self.recent.len() as f64;
        let entropy = (0..logits.len())
            .map(|k| self.recent.iter().filter_map(|p| p.get(k)).map(|&x| f64::from(x)).sum::<f64>() / n)
            .filter(|&p| p > 0.0)
            .map(|p| -p * p.ln())
            .sum();
        (self.recent.len() == RECENT).then_some(entropy)
    }
}

fn reason(guard: String, value: f64, limit: f64) -> Reason {
    Reason::Custom { guard, value: value as f32, limit: limit as f32 }
}
