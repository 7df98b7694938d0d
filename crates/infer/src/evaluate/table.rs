//! What runs say, as rows: for a table in Markdown, for JSON, for a report.

use serde::{Deserialize, Serialize};

use super::protocol::Run;
use super::versus::{Versus, missed_benefit};
use crate::error::Error;
use crate::report::ResultRow;

/// One method on one part of a stream, or on the whole stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Order of the stream, with `@speed` behind it in real time.
    pub stream: String,
    /// Name of the shift; `all` for the whole stream.
    pub shift: String,
    /// Severity; 0 for clean images and the whole stream.
    pub severity: u8,
    /// The method.
    pub method: String,
    /// Inputs.
    pub n: usize,
    /// Percent answered wrong.
    pub error: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Mean −ln p of the label.
    pub nll: f64,
    /// Brier score.
    pub brier: f64,
    /// Milliseconds of work for an input.
    pub ms_per_input: f64,
    /// Kilobytes (1000 bytes) that the work takes for an input at its peak, beyond the model.
    pub kb_per_input: f64,
    /// Inputs that were acted on.
    pub acted: usize,
    /// Answers that a guard rolled back.
    pub rolled_back: usize,
    /// Inputs that came while the method was busy.
    pub late: usize,
    /// Against the frozen model on the same inputs.
    pub frozen: Option<Versus>,
    /// Against the vote over as many views as cost the same, on the same inputs.
    pub vote: Option<Versus>,
    /// Inputs that frozen got wrong and the method did not act on, but another method of the table got right.
    pub missed_benefit: usize,
    /// Seed of the run.
    pub seed: u64,
}

/// The runs of one stream: the same inputs in the same order.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// Name of the stream.
    pub stream: String,
    /// The frozen model.
    pub frozen: &'a Run,
    /// Each method, with the vote that costs as much if there was one.
    pub methods: Vec<(&'a Run, Option<&'a Run>)>,
    /// Seed of the stream.
    pub seed: u64,
}

impl Compared<'_> {
    /// Rows of each part, frozen first, then of the whole stream (if it has several parts).
    ///
    /// # Errors
    /// [`Error::Size`] if the runs are of different inputs.
    pub fn rows(&self) -> Result<Vec<Row>, Error> {
        let n_parts = self.frozen.parts.len();
        let every = self.methods.iter().flat_map(|(run, vote)| [Some(*run), *vote]).flatten();
        if let Some(other) = every.into_iter().find(|run| run.parts.len() != n_parts) {
            return Err(Error::size(format!("parts of the run of {}", other.method), n_parts, other.parts.len()));
        }
        let mut rows = Vec::new();
        for i in 0..n_parts {
            rows.extend(
                self.group(&self.frozen.parts[i].name, self.frozen.parts[i].severity, &|run| pooled(run, Some(i)))?,
            );
        }
        if n_parts > 1 {
            rows.extend(self.group("all", 0, &|run| pooled(run, None))?);
        }
        Ok(rows)
    }

    /// The rows of one part, or of all.
    fn group(&self, shift: &str, severity: u8, of: &dyn Fn(&Run) -> Pooled) -> Result<Vec<Row>, Error> {
        let frozen = of(self.frozen);
        let all: Vec<Pooled> = self.methods.iter().map(|(run, _)| of(run)).collect();
        let row = |run: &Run, here: &Pooled, vote: Option<&Run>, others: &[&[bool]]| -> Result<Row, Error> {
            let is_frozen = std::ptr::eq(run, self.frozen);
            let against = |baseline: &[bool]| Versus::of(baseline, &here.right);
            Ok(Row {
                stream: self.stream.clone(),
                shift: shift.to_owned(),
                severity,
                method: run.method.clone(),
                n: here.right.len(),
                error: 100.0 * (1.0 - here.mean(|s| s.accuracy)),
                ece: here.mean(|s| s.ece),
                nll: here.mean(|s| s.nll),
                brier: here.mean(|s| s.brier),
                ms_per_input: here.ms_per_input,
                kb_per_input: run.bytes_per_input / 1e3,
                acted: here.acted.iter().filter(|acted| **acted).count(),
                rolled_back: here.rolled_back,
                late: here.late,
                frozen: if is_frozen { None } else { Some(against(&frozen.right)?) },
                vote: vote.map(|vote| against(&of(vote).right)).transpose()?,
                missed_benefit: if is_frozen { 0 } else { missed_benefit(&frozen.right, &here.acted, others)? },
                seed: self.seed,
            })
        };
        let mut rows = vec![row(self.frozen, &frozen, None, &[])?];
        for (k, (run, vote)) in self.methods.iter().enumerate() {
            let others: Vec<&[bool]> =
                all.iter().enumerate().filter(|(other, _)| *other != k).map(|(_, pooled)| &*pooled.right).collect();
            rows.push(row(run, &all[k], *vote, &others)?);
        }
        Ok(rows)
    }
}

/// One part of a run, or all parts together.
struct Pooled {
    /// Scores with the number of inputs they are of. Over several parts, calibration is the mean over the parts: pooled
    /// inputs of an overconfident and an underconfident part would cancel.
    scores: Vec<(usize, crate::metrics::Scores)>,
    right: Vec<bool>,
    acted: Vec<bool>,
    rolled_back: usize,
    late: usize,
    ms_per_input: f64,
}

impl Pooled {
    fn mean(&self, of: impl Fn(&crate::metrics::Scores) -> f64) -> f64 {
        let n: usize = self.scores.iter().map(|(n, _)| n).sum();
        self.scores.iter().map(|(n, scores)| *n as f64 * of(scores)).sum::<f64>() / n.max(1) as f64
    }
}

fn pooled(run: &Run, part: Option<usize>) -> Pooled {
    let parts: Vec<_> = run.parts.iter().enumerate().filter(|(i, _)| part.is_none_or(|part| part == *i)).collect();
    let each = || parts.iter().map(|(_, part)| part);
    Pooled {
        scores: each().map(|part| (part.right.len(), part.scores)).collect(),
        right: each().flat_map(|part| part.right.iter().copied()).collect(),
        acted: each().flat_map(|part| part.acted.iter().copied()).collect(),
        rolled_back: each().map(|part| part.rolled_back).sum(),
        late: each().map(|part| part.late).sum(),
        ms_per_input: match part {
            Some(i) => run.parts[i].ms_per_input,
            None => run.ms_per_input,
        },
    }
}

impl Row {
    /// As a row of a report's results.
    pub fn result(&self) -> ResultRow {
        ResultRow {
            shift: self.shift.clone(),
            severity: self.severity.into(),
            method: self.method.clone(),
            images: self.n,
            accuracy: 1.0 - self.error / 100.0,
            ece: self.ece,
            ms_per_image: self.ms_per_input,
            acted: self.acted,
            rolled_back: self.rolled_back,
            seed: self.seed,
        }
    }
}

/// Names of the columns of [`cells`].
pub const COLUMNS: [&str; 15] = [
    "shift",
    "method",
    "n",
    "error %",
    "ECE",
    "NLL",
    "Brier",
    "ms",
    "kB",
    "acted",
    "late",
    "Δ frozen ± se",
    "helped / harmed, p",
    "Δ vote ± se",
    "missed benefit",
];

/// A row as text, under [`COLUMNS`]: differences are in points of accuracy, with their standard error.
pub fn cells(row: &Row) -> [String; 15] {
    let points = |versus: &Option<Versus>| match versus {
        Some(v) => format!("{:+.2} ± {:.2}", 100.0 * v.difference, 100.0 * v.standard_error),
        None => String::new(),
    };
    let shift = if row.severity == 0 { row.shift.clone() } else { format!("{} {}", row.shift, row.severity) };
    [
        shift,
        row.method.clone(),
        row.n.to_string(),
        format!("{:.2}", row.error),
        format!("{:.3}", row.ece),
        format!("{:.3}", row.nll),
        format!("{:.3}", row.brier),
        format!("{:.2}", row.ms_per_input),
        format!("{:.1}", row.kb_per_input),
        row.acted.to_string(),
        row.late.to_string(),
        points(&row.frozen),
        row.frozen.map_or(String::new(), |v| format!("{} / {}, {:.2e}", v.helped, v.harmed, v.p_value)),
        points(&row.vote),
        if row.frozen.is_some() { row.missed_benefit.to_string() } else { String::new() },
    ]
}

/// The rows of each stream as a table in Markdown under a heading.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut stream = None;
    for row in rows {
        if stream != Some(&row.stream) {
            stream = Some(&row.stream);
            text +=
                &format!("\n### {}\n\n| {} |\n|{}\n", row.stream, COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
        }
        text += &format!("| {} |\n", cells(row).map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    text
}
