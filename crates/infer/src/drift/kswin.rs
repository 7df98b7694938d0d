//! KSWIN (Raab, Heusinger, Schleif 2020): do the newest numbers of a window come from the distribution of the others?

use std::collections::VecDeque;

use acclimate_train::data::rng::Philox;
use serde::{Deserialize, Serialize};

use super::Sign;

/// Numbers in the window.
const WINDOW: usize = 100;
/// The newest of them, which are compared with as many drawn from the others.
const NEWEST: usize = 30;
const ALPHA: f64 = 0.005;
/// A difference of the distribution functions up to this is never a drift.
const LEAST: f64 = 0.1;

/// A Kolmogorov-Smirnov test of the newest 30 numbers against 30 drawn from the 70 before them: drift where p ≤ 0.005
/// and the statistic is above 0.1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kswin {
    seed: u64,
    draws: u64,
    window: VecDeque<f64>,
    drifted: bool,
    p: f64,
}

impl Kswin {
    /// With the seed of its draws.
    pub fn new(seed: u64) -> Self {
        Kswin { seed, draws: 0, window: VecDeque::new(), drifted: false, p: 1.0 }
    }

    /// Takes in a number.
    pub fn update(&mut self, x: f64) -> Sign {
        let drawn = self.draw();
        self.update_drawing(x, &drawn)
    }

    /// As [`Kswin::update`], with the positions to draw from the 70 older numbers.
    pub fn update_drawing(&mut self, x: f64, drawn: &[usize; NEWEST]) -> Sign {
        if self.drifted {
            self.window.clear();
            self.drifted = false;
        }
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(x);
        if self.window.len() < WINDOW {
            return Sign::Stable;
        }
        let older: Vec<f64> =
            drawn.iter().filter_map(|&i| self.window.get(i.min(WINDOW - NEWEST - 1))).copied().collect();
        let newest: Vec<f64> = self.window.iter().skip(WINDOW - NEWEST).copied().collect();
        let (statistic, p) = ks_two_sample(&older, &newest);
        self.p = p;
        self.drifted = p <= ALPHA && statistic > LEAST;
        if self.drifted { Sign::Drift } else { Sign::Stable }
    }

    /// 30 different positions below 70, by a partial shuffle.
    fn draw(&mut self) -> [usize; NEWEST] {
        let mut all: Vec<usize> = (0..WINDOW - NEWEST).collect();
        let mut drawn = [0; NEWEST];
        let words = |draw: u64, block: usize| {
            Philox::from_seed(self.seed).block([draw as u32, (draw >> 32) as u32, block as u32, 0x4B53])
        };
        for (i, slot) in drawn.iter_mut().enumerate() {
            let word = words(self.draws, i / 4)[i % 4];
            let left = all.len() - i;
            // The product's upper half is uniform below `left`, up to one part in 2^25.
            let at = i + ((u64::from(word) * left as u64) >> 32) as usize;
            all.swap(i, at.min(WINDOW - NEWEST - 1));
            *slot = all[i];
        }
        self.draws += 1;
        drawn
    }

    pub(super) fn evidence(&self) -> (f64, f64) {
        (self.p, ALPHA)
    }

    pub(super) fn reset(&mut self) {
        (self.window, self.drifted, self.p) = (VecDeque::new(), false, 1.0);
    }
}

/// The two-sample Kolmogorov-Smirnov statistic of samples of one size n, and its exact two-sided p-value:
/// 2 Σ_k (−1)^(k+1) C(2n, n − kh) / C(2n, n) with h = n times the statistic (Gnedenko and Korolyuk 1951). Samples of
/// other sizes are cut to the shorter.
pub fn ks_two_sample(a: &[f64], b: &[f64]) -> (f64, f64) {
    let n = a.len().min(b.len());
    let sorted = |s: &[f64]| {
        let mut s: Vec<f64> = s.iter().take(n).copied().collect();
        s.sort_by(f64::total_cmp);
        s
    };
    let (a, b) = (sorted(a), sorted(b));
    let below = |s: &[f64], x: f64| s.partition_point(|&y| y <= x);
    let h = a.iter().chain(&b).map(|&x| below(&a, x).abs_diff(below(&b, x))).max().unwrap_or(0);
    if h == 0 {
        return (0.0, 1.0);
    }
    // C(2n, n − m) / C(2n, n) = Π_{i=1..m} (n − m + i) / (n + i).
    let term = |m: usize| (1..=m).map(|i| (n - m + i) as f64 / (n + i) as f64).product::<f64>();
    let mut p = 0.0;
    for (k, m) in (h..=n).step_by(h).enumerate() {
        p += if k % 2 == 0 { 2.0 } else { -2.0 } * term(m);
    }
    (h as f64 / n as f64, p.clamp(0.0, 1.0))
}
