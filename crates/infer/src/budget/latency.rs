//! How long answers took.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::cost::quantile;

/// Calls whose times are remembered for quantiles.
const REMEMBERED: usize = 4096;

/// Quantiles of the time that calls of `answer` took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Calls they are of.
    pub calls: usize,
    /// Half of the calls took at most this.
    pub p50_ms: f64,
    /// 95 of 100 took at most this.
    pub p95_ms: f64,
    /// 99 of 100 took at most this.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// What a session says about its time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Over the last 4,096 calls.
    pub all: Quantiles,
    /// Over those of them that took a step.
    pub adapted: Quantiles,
    /// Over those of them that took none.
    pub unadapted: Quantiles,
    /// Calls since the session began.
    pub calls: u64,
    /// Those of them that took longer than the deadline.
    pub misses: u64,
    /// Inputs answered on each rung, by its name, in order of the ladder.
    pub rungs: Vec<(String, u64)>,
}

/// Remembers the last calls.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    calls: VecDeque<(f64, bool)>,
    total: u64,
    misses: u64,
    by_rung: Vec<u64>,
}

impl Recorder {
    /// Notes an input answered on a rung.
    pub fn answered(&mut self, level: usize, inputs: usize) {
        if self.by_rung.len() <= level {
            self.by_rung.resize(level + 1, 0);
        }
        self.by_rung[level] += inputs as u64;
    }

    /// Notes a call.
    pub fn call(&mut self, took: Duration, allowed: Option<Duration>, adapted: bool) {
        if self.calls.len() == REMEMBERED {
            self.calls.pop_front();
        }
        self.calls.push_back((took.as_secs_f64() * 1e3, adapted));
        self.total += 1;
        self.misses += u64::from(allowed.is_some_and(|allowed| took > allowed));
    }

    /// All of it, with the names of the rungs.
    pub fn report<'a>(&self, names: impl Iterator<Item = &'a str>) -> Latency {
        let of = |which: &dyn Fn(bool) -> bool| {
            let times: Vec<f64> = self.calls.iter().filter(|c| which(c.1)).map(|c| c.0).collect();
            let at = |q| quantile(&times, q).unwrap_or(0.0);
            Quantiles { calls: times.len(), p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1.0) }
        };
        Latency {
            all: of(&|_| true),
            adapted: of(&|adapted| adapted),
            unadapted: of(&|adapted| !adapted),
            calls: self.total,
            misses: self.misses,
            rungs: names
                .enumerate()
                .map(|(i, name)| (name.to_owned(), self.by_rung.get(i).copied().unwrap_or(0)))
                .collect(),
        }
    }
}
