//! Where time goes: the launches of everything a device ran while somebody looked.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::plan::{Plan, Step};

/// One launch.
#[derive(Clone, Debug)]
pub struct Launched {
    /// The ops in it.
    pub label: String,
    /// Where the user recorded it.
    pub at: &'static Location<'static>,
    /// Since the profile began.
    pub start: Duration,
    /// How long it took.
    pub time: Duration,
    /// Bytes of the values that it reads and writes, each once.
    pub bytes: u64,
    /// Multiplications and additions, by the formula; 0 where nobody counts them.
    pub flop: u64,
}

/// What a device was measured to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Bytes read and written a second by a copy.
    pub bytes_per_s: f64,
    /// Multiplications and additions a second, by fused ones.
    pub flop_per_s: f64,
}

impl Peaks {
    /// The least seconds that so many bytes and so much arithmetic can take.
    pub fn least(&self, bytes: u64, flop: u64) -> f64 {
        (bytes as f64 / self.bytes_per_s).max(flop as f64 / self.flop_per_s)
    }
}

/// The launches of a while. Prints as a table; see [`crate::Device::profile`].
#[derive(Clone, Debug, Default)]
pub struct Profile {
    pub(crate) launches: Vec<Launched>,
    pub(crate) wall: Duration,
    pub(crate) peaks: Option<Peaks>,
}

impl Profile {
    /// In the order in which they ran.
    pub fn launches(&self) -> &[Launched] {
        &self.launches
    }

    /// Time of all launches together.
    pub fn time(&self) -> Duration {
        self.launches.iter().map(|l| l.time).sum()
    }

    /// Time of what was profiled, launches and all else.
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// The same with a column that says how near each launch comes to what the device was measured to reach: the least time
    /// for its bytes and its arithmetic, whichever takes longer, as a share of the time it took.
    #[must_use]
    pub fn against(self, peaks: Peaks) -> Self {
        Profile { peaks: Some(peaks), ..self }
    }

    /// The least time of all launches by these peaks, as a share of the time they took. Below the truth where nobody counts
    /// a launch's arithmetic.
    pub fn share_of_peak(&self, peaks: Peaks) -> f64 {
        let least: f64 = self.launches.iter().map(|l| peaks.least(l.bytes, l.flop)).sum();
        least / self.time().as_secs_f64().max(1e-12)
    }

    /// The launches as events for `chrome://tracing` or Perfetto (JSON).
    pub fn chrome_trace(&self) -> String {
        let mut events = Vec::with_capacity(self.launches.len());
        for l in &self.launches {
            let (start, time) = (l.start.as_secs_f64() * 1e6, l.time.as_secs_f64() * 1e6);
            // Labels are names of ops and paths: quotes and backslashes alone need care.
            let text = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
            events.push(format!(
                r#"{{"name":"{}","ph":"X","pid":1,"tid":1,"ts":{start:.3},"dur":{time:.3},"args":{{"at":"{}","bytes":{},"flop":{}}}}}"#,
                text(&l.label),
                text(&l.at.to_string()),
                l.bytes,
                l.flop
            ));
        }
        format!("{{\"traceEvents\":[\n{}\n]}}\n", events.join(",\n"))
    }
}

/// Where an engine notes its launches while somebody looks.
#[derive(Default)]
pub(crate) struct Notes {
    on: AtomicBool,
    since: Mutex<Option<(Instant, Vec<Launched>)>>,
}

impl Notes {
    /// Whether somebody looks.
    pub fn are_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begins or stops; gives what was noted.
    pub fn switch(&self, on: bool) -> Vec<Launched> {
        self.on.store(on, Ordering::Relaxed);
        let now = on.then(|| (Instant::now(), Vec::new()));
        let before = std::mem::replace(&mut *self.since.lock().unwrap_or_else(PoisonError::into_inner), now);
        before.map(|b| b.1).unwrap_or_default()
    }

    /// Notes a launch of a step, which has so many, each with its share of the work.
    pub fn add(&self, plan: &Plan, step: &Step, label: &str, began: Instant, time: Duration, launches: u64) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((start, noted)) = &mut *since else { return };
        let (bytes, flop) = plan.cost(step);
        let (bytes, flop) = (bytes / launches.max(1), flop / launches.max(1));
        let start = began.saturating_duration_since(*start);
        noted.push(Launched { label: label.to_owned(), at: step.at, start, time, bytes, flop });
    }
}

impl fmt::Display for Profile {
    /// Launches of one label and place are one line; the dearest come first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: BTreeMap<(&str, String), (u64, Duration, u64, u64)> = BTreeMap::new();
        for l in &self.launches {
            let at = format!("{}:{}", l.at.file().rsplit('/').next().unwrap_or_default(), l.at.line());
            let line = lines.entry((&l.label, at)).or_default();
            *line = (line.0 + 1, line.1 + l.time, line.2 + l.bytes, line.3 + l.flop);
        }
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort_by_key(|(_, line)| std::cmp::Reverse(line.1));
        let total = self.time().as_secs_f64().max(1e-12);
        let peak = if self.peaks.is_some() { format!(" {:>6}", "peak") } else { String::new() };
        writeln!(f, "{:>9} {:>6} {:>6} {:>8} {:>8}{peak}  launch", "ms", "share", "times", "GB/s", "GFLOP/s")?;
        for ((label, at), (n, time, bytes, flop)) in lines {
            let s = time.as_secs_f64().max(1e-12);
            let (share, rate) = (100.0 * s / total, |x: u64| x as f64 / s / 1e9);
            write!(f, "{:9.3} {share:5.1}% {n:6} {:8.1} {:8.1}", s * 1e3, rate(bytes), rate(flop))?;
            if let Some(peaks) = self.peaks {
                write!(f, " {:5.1}%", 100.0 * peaks.least(bytes, flop) / s)?;
            }
            f.write_str("  ")?;
            let label: String = if label.chars().count() > 80 {
                label.chars().take(77).chain("...".chars()).collect()
            } else {
                label.to_owned()
            };
            writeln!(f, "{label} ({at})")?;
        }
        let (time, wall) = (self.time().as_secs_f64() * 1e3, self.wall.as_secs_f64() * 1e3);
        write!(f, "{time:9.3} of {wall:.3} ms in {} launches", self.launches.len())
    }
}
