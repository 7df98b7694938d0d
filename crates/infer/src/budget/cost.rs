//! What each rung costs: measured when the session is warmed, then corrected by how long the last answers really took.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Answers whose times are remembered.
const REMEMBERED: usize = 32;
/// The last of them, whose median is the load of the machine.
const NOW: usize = 9;
/// A rung is judged by the times of rungs that cost at least this part of it. What a shorter one takes too long is taken
/// for an interruption, whose length does not grow with the work (threads that must be woken, another program's turn).
const COMPARABLE: f64 = 0.1;

/// Measured costs. The quotient of observed and warm cost (the load of the machine) is shared by all rungs, so that a
/// rung that was not used for a while is not judged by how fast the machine was then.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// Seconds by rung and inputs, when warmed.
    warm: HashMap<(usize, usize), f64>,
    /// Seconds when warmed, and over that, of the last answers.
    seen: VecDeque<(f64, f64)>,
    /// Seconds that the last answers took besides computing.
    besides: VecDeque<f64>,
}

impl Costs {
    /// Notes the median of some timed runs.
    pub fn warmed(&mut self, level: usize, inputs: usize, mut seconds: Vec<f64>) {
        seconds.sort_by(f64::total_cmp);
        if let Some(&median) = seconds.get(seconds.len() / 2) {
            self.warm.insert((level, inputs), median.max(1e-9));
        }
    }

    /// Notes what an answer took. The first of a rung that was not warmed held its planning, and is not counted.
    pub fn observed(&mut self, level: usize, inputs: usize, took: Duration, planned: bool) {
        let seconds = took.as_secs_f64();
        match self.warm.get(&(level, inputs)) {
            Some(&warm) => remember(&mut self.seen, (warm, seconds / warm)),
            None if planned => {}
            None => {
                let warm = seconds / self.load();
                self.warm.insert((level, inputs), warm.max(1e-9));
            }
        }
    }

    /// Notes what was spent besides computing: receipts, the log.
    pub fn spent_besides(&mut self, took: Duration) {
        remember(&mut self.besides, took.as_secs_f64());
    }

    /// What such an answer will take at most, nineteen times out of twenty; `None` if nothing is known.
    pub fn expected(&self, level: usize, inputs: usize) -> Option<f64> {
        let warm = self.warm.get(&(level, inputs)).copied().or_else(|| self.by_size(level, inputs))?;
        let besides = quantile(&self.besides, 0.95).unwrap_or(0.0);
        let factor = self.factor(warm);
        Some((warm * factor).max(warm * factor.min(1.0) + self.interruption(warm)) + besides)
    }

    /// The cost of a number of inputs that was never met, from the nearest that was: so many times it.
    fn by_size(&self, level: usize, inputs: usize) -> Option<f64> {
        let known = self.warm.iter().filter(|((l, n), _)| *l == level && *n > 0);
        let ((_, n), warm) = known.min_by_key(|((_, n), _)| (n.abs_diff(inputs), *n))?;
        Some(warm * inputs as f64 / *n as f64)
    }

    /// The median load of the last answers.
    fn load(&self) -> f64 {
        quantile(self.seen.iter().rev().take(NOW).map(|(_, load)| load), 0.5).unwrap_or(1.0)
    }

    /// The load that a rung of this cost is planned with: the 95th percentile of comparable rungs, or the last of them if
    /// it is higher, so that a sudden load is felt at once and forgotten slowly.
    fn factor(&self, warm: f64) -> f64 {
        let comparable = || self.seen.iter().filter(|(cost, _)| *cost >= COMPARABLE * warm).map(|(_, load)| load);
        let p95 = quantile(comparable(), 0.95).unwrap_or(1.0);
        comparable().next_back().map_or(p95, |last| last.max(p95))
    }

    /// Seconds by which shorter rungs were late, the 95th percentile.
    fn interruption(&self, warm: f64) -> f64 {
        let late = |(cost, load): &(f64, f64)| (cost * (load - 1.0)).max(0.0);
        let shorter: Vec<f64> = self.seen.iter().filter(|(cost, _)| *cost < COMPARABLE * warm).map(late).collect();
        quantile(&shorter, 0.95).unwrap_or(0.0)
    }
}

fn remember<T>(list: &mut VecDeque<T>, x: T) {
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(x);
}

/// The nearest-rank quantile of unsorted numbers.
pub(super) fn quantile<'a>(list: impl IntoIterator<Item = &'a f64>, q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = list.into_iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_shared_by_all_rungs_and_felt_at_once() {
        let mut costs = Costs::default();
        assert_eq!(costs.expected(0, 1), None);
        costs.warmed(0, 1, vec![0.3, 0.1, 0.2]);
        costs.warmed(1, 1, vec![0.05; 3]);
        assert_eq!(costs.expected(0, 1), Some(0.2));
        costs.observed(1, 1, Duration::from_millis(100), false);
        assert!((costs.expected(0, 1).unwrap_or(0.0) - 0.4).abs() < 1e-9);
        for _ in 0..REMEMBERED {
            costs.observed(1, 1, Duration::from_millis(50), false);
        }
        assert!((costs.expected(0, 1).unwrap_or(0.0) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn an_interruption_of_a_short_rung_is_no_load_for_a_long_one() {
        let mut costs = Costs::default();
        costs.warmed(0, 1, vec![0.010]);
        costs.warmed(1, 1, vec![0.0002]);
        for i in 0..REMEMBERED {
            // One short answer in four is interrupted for 4 ms: 21 times its cost.
            let took = if i % 4 == 0 { 4_200 } else { 200 };
            costs.observed(1, 1, Duration::from_micros(took), false);
        }
        let expected = costs.expected(0, 1).unwrap_or(0.0);
        assert!((0.0139..0.0141).contains(&expected), "{expected}");
    }

    #[test]
    fn a_size_that_was_never_met_costs_in_proportion() {
        let mut costs = Costs::default();
        costs.warmed(0, 2, vec![0.1]);
        costs.warmed(0, 20, vec![0.8]);
        assert!((costs.expected(0, 4).unwrap_or(0.0) - 0.2).abs() < 1e-9);
        assert!((costs.expected(0, 30).unwrap_or(0.0) - 1.2).abs() < 1e-9);
        assert_eq!(costs.expected(1, 4), None);
    }

    #[test]
    fn quantiles_are_of_nearest_rank() {
        let list: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&list, 0.5), Some(50.0));
        assert_eq!(quantile(&list, 0.95), Some(95.0));
        assert_eq!(quantile(&list, 1.0), Some(100.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
