//! ADWIN (Bifet and Gavaldà 2007): a window that grows while its parts have one mean, and is cut where they do not.
//!
//! The window is kept as an exponential histogram: row i holds at most 6 buckets of 2^i numbers each, so that n numbers
//! take O(log n) memory. For each border between an old part (n₀ numbers) and a new one (n₁), the window is cut if
//! |μ₀ − μ₁| > ε with ε = √(2 m σ² δ′) + ⅔ δ′ m, δ′ = ln(2 ln n / δ), m = 1/(n₀ − 4) + 1/(n₁ − 4).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Sign;

/// Parameters and window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adwin {
    delta: f64,
    /// Looks for a cut after every so many numbers.
    clock: u64,
    /// Buckets of one size that are kept; with one more, two are merged.
    max_buckets: usize,
    min_part: f64,
    grace: f64,
    /// Row i: buckets of 2^i numbers, the oldest first.
    rows: Vec<VecDeque<Bucket>>,
    ticks: u64,
    width: f64,
    total: f64,
    /// Sum of squared deviations over the window.
    squares: f64,
    drifted: bool,
    evidence: (f64, f64),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    squares: f64,
}

impl Default for Adwin {
    fn default() -> Self {
        Self::new(0.002)
    }
}

impl Adwin {
    /// With this bound on false alarms; checked every 32 numbers, parts of at least 5, after 10.
    pub fn new(delta: f64) -> Self {
        Adwin {
            delta,
            clock: 32,
            max_buckets: 5,
            min_part: 5.0,
            grace: 10.0,
            rows: vec![VecDeque::new()],
            ticks: 0,
            width: 0.0,
            total: 0.0,
            squares: 0.0,
            drifted: false,
            evidence: (0.0, f64::MAX),
        }
    }

    /// Numbers in the window.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Mean of the window; 0 if it is empty.
    pub fn mean(&self) -> f64 {
        if self.width == 0.0 { 0.0 } else { self.total / self.width }
    }

    /// ε for parts of n₀ and n₁ numbers and the variance of the whole.
    pub fn epsilon(&self, n0: f64, n1: f64, variance: f64) -> f64 {
        let delta = (2.0 * (n0 + n1).ln() / self.delta).ln();
        let m = 1.0 / (n0 - self.min_part + 1.0) + 1.0 / (n1 - self.min_part + 1.0);
        (2.0 * m * variance * delta).sqrt() + 2.0 / 3.0 * delta * m
    }

    pub(super) fn evidence(&self) -> (f64, f64) {
        self.evidence
    }

    pub(super) fn reset(&mut self) {
        *self = Adwin { rows: vec![VecDeque::new()], ..Adwin::new(self.delta) };
    }

    /// Takes in a number.
    pub fn update(&mut self, x: f64) -> Sign {
        if self.drifted {
            self.reset();
        }
        self.insert(x);
        self.ticks += 1;
        if self.ticks.is_multiple_of(self.clock) && self.width > self.grace {
            while self.cut() {
                self.drifted = true;
            }
        }
        if self.drifted { Sign::Drift } else { Sign::Stable }
    }

    fn insert(&mut self, x: f64) {
        self.width += 1.0;
        if self.width > 1.0 {
            let off = x - self.total / (self.width - 1.0);
            self.squares += (self.width - 1.0) * off * off / self.width;
        }
        self.total += x;
        self.rows[0].push_back(Bucket { total: x, squares: 0.0 });
        self.compress();
    }

    /// Merges the two oldest buckets of a row that is too long into one of the next.
    fn compress(&mut self) {
        let mut row = 0;
        while self.rows[row].len() > self.max_buckets {
            let n = size(row);
            let (Some(a), Some(b)) = (self.rows[row].pop_front(), self.rows[row].pop_front()) else { return };
            let between = a.total / n - b.total / n;
            let merged = Bucket {
                total: a.total + b.total,
                squares: a.squares + b.squares + n * n * between * between / (n + n),
            };
            if row + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            row += 1;
            self.rows[row].push_back(merged);
        }
    }

    /// Looks for a border where the means differ, from the oldest on, and drops the oldest bucket if there is one.
    fn cut(&mut self) -> bool {
        let variance = self.squares / self.width;
        let (mut n0, mut u0, mut n1, mut u1) = (0.0, 0.0, self.width, self.total);
        for row in (0..self.rows.len()).rev() {
            for bucket in &self.rows[row] {
                n0 += size(row);
                n1 -= size(row);
                u0 += bucket.total;
                u1 -= bucket.total;
                if n0 < self.min_part || n1 < self.min_part {
                    continue;
                }
                let apart = (u0 / n0 - u1 / n1).abs();
                let epsilon = self.epsilon(n0, n1, variance);
                if apart > epsilon {
                    self.evidence = (apart, epsilon);
                    self.drop_oldest();
                    return true;
                }
            }
        }
        false
    }

    fn drop_oldest(&mut self) {
        let row = self.rows.len() - 1;
        let Some(bucket) = self.rows[row].pop_front() else { return };
        let n = size(row);
        self.width -= n;
        self.total -= bucket.total;
        let off = bucket.total / n - self.total / self.width;
        self.squares -= bucket.squares + n * self.width * off * off / (n + self.width);
        if self.rows[row].is_empty() && row > 0 {
            self.rows.pop();
        }
    }
}

/// Numbers in a bucket of a row.
fn size(row: usize) -> f64 {
    2f64.powi(i32::try_from(row).unwrap_or(i32::MAX))
}
