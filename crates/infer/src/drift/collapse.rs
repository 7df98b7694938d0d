//! Collapse: the answers have become one class, and sure of it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Looks at the last answers' classes and confidences: a collapse is one class above a share of them while the mean
/// confidence is high. On a stream that really is of one class it fires as well, and a reset does no harm there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collapse {
    window: usize,
    share: f64,
    confidence: f64,
    seen: VecDeque<(u32, f64)>,
}

impl Collapse {
    /// One class above `share` of the last `window` answers, at a mean confidence of at least 0.5.
    pub fn new(window: usize, share: f64) -> Self {
        Collapse { window: window.max(2), share, confidence: 0.5, seen: VecDeque::new() }
    }

    /// Takes in an answer's class and confidence; the share of the most frequent class if that is a collapse.
    pub fn update(&mut self, class: u32, confidence: f64) -> Option<f64> {
        if self.seen.len() == self.window {
            self.seen.pop_front();
        }
        self.seen.push_back((class, if confidence.is_finite() { confidence } else { 0.0 }));
        if self.seen.len() < self.window {
            return None;
        }
        let n = self.seen.len() as f64;
        let most = self.seen.iter().map(|(c, _)| self.seen.iter().filter(|(d, _)| c == d).count()).max().unwrap_or(0);
        let (share, sure) = (most as f64 / n, self.seen.iter().map(|(_, s)| s).sum::<f64>() / n);
        (share > self.share && sure >= self.confidence).then_some(share)
    }

    /// The share above which it fires.
    pub fn limit(&self) -> f64 {
        self.share
    }

    /// Forgets the answers.
    pub fn reset(&mut self) {
        self.seen.clear();
    }
}
