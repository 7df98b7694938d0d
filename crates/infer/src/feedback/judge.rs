//! Late labels and scores: is the adapted answer better than the frozen one, and can the labels be believed?

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::receipt::{Event, Facts, Guess, Reason};

/// What comes back about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Feedback {
    /// The class it should have been.
    Label(u32),
    /// How good it was, from 0 to 1.
    Score(f32),
}

/// Compares adapted and frozen answers by what comes back about them. Adaptation has to earn its place: at first it runs
/// in the shadow (it is computed, and the frozen model answers), it is let free where the adapted answers are shown to be
/// better, and held back where they are shown to be worse.
///
/// Only answers where the two differ tell them apart. Each such answer is a bet for the adapted model and one against
/// it: the stake of the one grows and that of the other shrinks, and neither falls below what it was at first. Labels that
/// are wrong at random are wrong for both, so they slow the bets and do not turn them. Where the stake against has grown
/// tenfold, the state is reset; if adaptation was free, it is held back, for a number of answers that doubles each time,
/// and then tried in the shadow again.
///
/// Labels lose their credit where they contradict too many answers of which both models are sure. They are then still
/// counted against adaptation, and no more for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judge {
    /// Part of a stake that is put on each bet.
    bet: f64,
    /// Growth of a stake that decides.
    limit: f64,
    stake_for: f64,
    stake_against: f64,
    hold: u64,
    stance: Stance,
    /// The class of the last bet that the adapted model won.
    last_won: Option<u32>,
    /// Answers that may still get feedback.
    open: VecDeque<Open>,
    /// Whether the last sure answers were contradicted.
    contradicted: VecDeque<bool>,
    sure: f32,
    distrust_above: f64,
    trusted: bool,
}

/// What a judge allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stance {
    /// Adapted answers.
    Free,
    /// Adapted answers for comparison.
    Shadow,
    /// None, until the answer with this index.
    Held {
        /// The index.
        until: u64,
    },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Open {
    index: u64,
    frozen: Guess,
    adapted: Guess,
}

/// Answers that are remembered for feedback.
const OPEN: usize = 4096;
/// Sure answers that decide on the labels' credit, and how many it takes at least.
const SURE: (usize, usize) = (100, 40);
/// Standard errors by which the contradicted share must be above its limit.
const CLEARLY: f64 = 1.64;

impl Default for Judge {
    fn default() -> Self {
        Judge {
            bet: 0.6,
            limit: 10.0,
            stake_for: 1.0,
            stake_against: 1.0,
            hold: 200,
            stance: Stance::Shadow,
            last_won: None,
            open: VecDeque::new(),
            contradicted: VecDeque::new(),
            sure: 0.9,
            distrust_above: 0.15,
            trusted: true,
        }
    }
}

impl Judge {
    /// Begins in the shadow and holds back for 200 answers the first time; believes labels that contradict not clearly more than
    /// 15 % of the answers that both models give with at least 90 %.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets adaptation go from the start, on credit.
    #[must_use]
    pub fn on_credit(mut self) -> Self {
        self.stance = Stance::Free;
        self
    }

    /// For how many answers adaptation is held back the first time.
    #[must_use]
    pub fn hold(mut self, answers: u64) -> Self {
        self.hold = answers.max(1);
        self
    }

    /// The confidence from which an answer counts as sure, and the share of contradicted sure answers above which
    /// labels are not believed.
    #[must_use]
    pub fn distrust(mut self, sure: f32, above: f64) -> Self {
        (self.sure, self.distrust_above) = (sure, above);
        self
    }

    /// Whether labels are believed.
    pub fn trusts_labels(&self) -> bool {
        self.trusted
    }

    /// Remembers an answer.
    pub(crate) fn answered(&mut self, index: u64, facts: &Facts) {
        if self.open.len() == OPEN {
            self.open.pop_front();
        }
        let adapted = facts.proposed.unwrap_or(facts.after);
        self.open.push_back(Open { index, frozen: facts.before, adapted });
    }

    /// What is allowed for the answer with this index, and what changed by it.
    pub(crate) fn stance(&mut self, index: u64) -> (Stance, Option<Event>) {
        match self.stance {
            Stance::Held { until } if index >= until => {
                self.stance = Stance::Shadow;
                let because =
                    Reason::Custom { guard: "answers held back".into(), value: index as f32, limit: until as f32 };
                (Stance::Shadow, Some(Event::Resumed { because }))
            }
            stance => (stance, None),
        }
    }

    /// Takes in what came back about answer `index`; `now` is the index of the next answer.
    pub(crate) fn take_in(&mut self, index: u64, feedback: Feedback, now: u64) -> Result<Vec<Event>, Error> {
        let at = self.open.binary_search_by_key(&index, |open| open.index).map_err(|_| {
            let range = match (self.open.front(), self.open.back()) {
                (Some(first), Some(last)) => {
                    format!("one of the answers {} to {} without feedback", first.index, last.index)
                }
                _ => "an answer that was given".to_owned(),
            };
            Error::size("index of the feedback", range, index)
        })?;
        let Some(open) = self.open.remove(at) else { return Ok(Vec::new()) };
        let mut events = Vec::new();
        let payoff = match feedback {
            Feedback::Label(label) => {
                events.extend(self.credit(&open, label));
                f64::from(u8::from(open.adapted.class == label)) - f64::from(u8::from(open.frozen.class == label))
            }
            Feedback::Score(score) if !(0.0..=1.0).contains(&score) => {
                self.open.insert(at, open);
                return Err(Error::Value {
                    what: "score of an answer",
                    position: 0,
                    expected: "a number from 0 to 1".into(),
                    found: score.to_string(),
                });
            }
            // A bad adapted answer does not say that the frozen one was good: it counts half. In the shadow the score
            // is of the frozen answer.
            Feedback::Score(score) if open.frozen.class != open.adapted.class => {
                let good = 2.0 * f64::from(score) - 1.0;
                let of_adapted = if self.stance == Stance::Free { good } else { -good };
                if of_adapted < 0.0 { of_adapted / 2.0 } else { of_adapted }
            }
            Feedback::Score(_) => 0.0,
        };
        if payoff != 0.0 && !matches!(self.stance, Stance::Held { .. }) {
            // A collapsed model wins every bet while the stream has its class: wins of one class in a row count once.
            let class = if let Feedback::Label(label) = feedback { Some(label) } else { None };
            let again = payoff > 0.0 && class.is_some() && self.last_won == class;
            if payoff > 0.0 {
                self.last_won = class;
            }
            let credited = payoff < 0.0 || (self.trusted && !again);
            self.stake_for = if credited { grown(self.stake_for, self.bet * payoff) } else { self.stake_for };
            self.stake_against = grown(self.stake_against, -self.bet * payoff);
            events.extend(self.decide(now));
        }
        Ok(events)
    }

    /// Whether the stakes have decided.
    fn decide(&mut self, now: u64) -> Option<Event> {
        let because = |guard: &str, stake: f64, limit: f64| Reason::Custom {
            guard: guard.to_owned(),
            value: stake as f32,
            limit: limit as f32,
        };
        if self.stake_against >= self.limit {
            let reason = because("evidence that the frozen model answers better", self.stake_against, self.limit);
            (self.stake_for, self.stake_against) = (1.0, 1.0);
            if self.stance == Stance::Shadow {
                return Some(Event::Reset { because: reason });
            }
            self.stance = Stance::Held { until: now.saturating_add(self.hold) };
            self.hold = self.hold.saturating_mul(2);
            return Some(Event::HeldBack { because: reason });
        }
        if self.stance == Stance::Shadow && self.stake_for >= self.limit {
            let reason = because("evidence that the adapted model answers better", self.stake_for, self.limit);
            (self.stake_for, self.stake_against) = (1.0, 1.0);
            self.stance = Stance::Free;
            return Some(Event::Resumed { because: reason });
        }
        None
    }

    /// Whether the labels win or lose their credit by this one.
    fn credit(&mut self, open: &Open, label: u32) -> Option<Event> {
        let agreed = open.frozen.class == open.adapted.class;
        if !agreed || open.frozen.confidence < self.sure || open.adapted.confidence < self.sure {
            return None;
        }
        if self.contradicted.len() == SURE.0 {
            self.contradicted.pop_front();
        }
        self.contradicted.push_back(open.adapted.class != label);
        if self.contradicted.len() < SURE.1 {
            return None;
        }
        let wrong = self.contradicted.iter().filter(|c| **c).count() as f64;
        let n = self.contradicted.len() as f64;
        let share = wrong / n;
        match self.trusted {
            true if share - CLEARLY * (share * (1.0 - share) / n).sqrt() > self.distrust_above => {
                self.trusted = false;
                let guard = "share of sure answers that the labels contradict".into();
                let because = Reason::Custom { guard, value: share as f32, limit: self.distrust_above as f32 };
                Some(Event::Distrusted { source: "labels".into(), because })
            }
            false if share < self.distrust_above / 2.0 => {
                self.trusted = true;
                Some(Event::Trusted { source: "labels".into() })
            }
            _ => None,
        }
    }
}

/// A stake after a bet, never below what it was at first.
fn grown(stake: f64, by: f64) -> f64 {
    (stake * (1.0 + by)).max(1.0)
}
