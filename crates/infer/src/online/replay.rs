//! The replay buffer: labeled inputs that are learned from again, so that what was learned is not forgotten.

use acclimate_train::data::rng::Philox;

/// How many labeled inputs are kept and how many are learned from again with each new label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Replay {
    /// Kept inputs.
    pub capacity: usize,
    /// Learned again with each label, drawn from the kept ones with replacement.
    pub rows: usize,
    /// Which are kept.
    pub keep: Keep,
}

/// Which inputs a full buffer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The latest.
    Latest,
    /// A uniform sample of all there were (Vitter 1985, algorithm R).
    Sample,
}

/// A labeled input.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub input: Vec<f32>,
    pub label: f32,
}

/// The buffer. What it draws depends on the seed and on how many inputs it has seen, on nothing else.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    config: Replay,
    kept: Vec<Kept>,
    seen: u64,
    seed: Philox,
}

impl Buffer {
    pub fn new(config: Replay, seed: u64) -> Self {
        Buffer { config, kept: Vec::new(), seen: 0, seed: Philox::from_seed(seed).fold_name("replay") }
    }

    /// Draws what is learned again beside `new`, then keeps `new` as configured.
    pub fn draw_and_keep(&mut self, new: &Kept) -> Vec<Kept> {
        let mut stream = self.seed.stream(self.seen);
        let n = self.kept.len();
        let mut index = |below: usize| usize::try_from(stream.below(below as u64)).unwrap_or(0);
        let drawn =
            if n == 0 { Vec::new() } else { (0..self.config.rows).map(|_| self.kept[index(n)].clone()).collect() };
        if n < self.config.capacity {
            self.kept.push(new.clone());
        } else if n > 0 {
            let seen = usize::try_from(self.seen).unwrap_or(usize::MAX);
            let place = match self.config.keep {
                Keep::Latest => seen % n,
                Keep::Sample => index(seen.saturating_add(1)),
            };
            if let Some(old) = self.kept.get_mut(place) {
                *old = new.clone();
            }
        }
        self.seen += 1;
        drawn
    }

    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    pub fn clear(&mut self) {
        (self.kept, self.seen) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(keep: Keep, n: u16) -> Vec<f32> {
        let mut buffer = Buffer::new(Replay { capacity: 50, rows: 2, keep }, 3);
        for i in 0..n {
            let drawn = buffer.draw_and_keep(&Kept { input: vec![], label: f32::from(i) });
            assert_eq!(drawn.len(), if i == 0 { 0 } else { 2 });
        }
        buffer.kept().iter().map(|k| k.label).collect()
    }

    #[test]
    fn latest_are_the_latest() {
        let mut kept = filled(Keep::Latest, 133);
        kept.sort_by(f32::total_cmp);
        assert_eq!(kept, (83..133).map(|i| i as f32).collect::<Vec<_>>());
    }

    /// Each of 1,000 inputs is kept with probability 1/20: the mean of 50 kept positions is 499.5 with a standard
    /// deviation of 288.7/√50 = 40.8; five of these are the bound, and the seed is fixed.
    #[test]
    fn a_sample_is_spread_over_all() {
        let kept = filled(Keep::Sample, 1000);
        let mean = kept.iter().sum::<f32>() / 50.0;
        assert!((mean - 499.5).abs() < 204.0, "{mean}");
        assert!(kept.iter().any(|k| *k < 250.0) && kept.iter().any(|k| *k > 750.0), "{kept:?}");
    }
}
