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
    /// Rows of each shift, frozen first; where a shift comes more than once, of each round; of the whole stream, if it
    /// has several parts.
    ///
    /// # Errors
    /// [`Error::Size`] if the runs are of different inputs.
    pub fn rows(&self) -> Result<Vec<Row>, Error> {
        let n_parts = self.frozen.parts.len();
        let every = self.methods.iter().flat_map(|(run, vote)| [Some(*run), *vote]).flatten();
        if let Some(other) = every.into_iter().find(|run| run.parts.len() != n_parts) {
            return Err(Error::size(format!("parts of the run of {}", other.method), n_parts, other.parts.len()));
        }
        let mut shifts: Vec<((&str, u8), Vec<usize>)> = Vec::new();
        let mut rounds: Vec<Vec<usize>> = Vec::new();
        for (i, part) in self.frozen.parts.iter().enumerate() {
            let shift = (part.name.as_str(), part.severity);
            let at = shifts.iter().position(|(known, _)| *known == shift).unwrap_or(shifts.len());
            if at == shifts.len() {
                shifts.push((shift, Vec::new()));
            }
            let visits = &mut shifts[at].1;
            visits.push(i);
            rounds.resize(rounds.len().max(visits.len()), Vec::new());
            rounds[visits.len() - 1].push(i);
        }
        let mut rows = Vec::new();
        for ((name, severity), parts) in &shifts {
            rows.extend(self.group(name, *severity, parts)?);
        }
        for (round, parts) in rounds.iter().enumerate().filter(|_| rounds.len() > 1) {
            rows.extend(self.group(&format!("round {}", round + 1), 0, parts)?);
        }
        if n_parts > 1 {
            rows.extend(self.group("all", 0, &(0..n_parts).collect::<Vec<_>>())?);
        }
        Ok(rows)
    }

    /// The rows of some parts together.
    fn group(&self, shift: &str, severity: u8, parts: &[usize]) -> Result<Vec<Row>, Error> {
        let of = |run: &Run| pooled(run, parts);
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

/// Some parts of a run together.
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

fn pooled(run: &Run, parts: &[usize]) -> Pooled {
    let each = || parts.iter().map(|&i| &run.parts[i]);
    let n: usize = each().map(|part| part.right.len()).sum();
    Pooled {
        scores: each().map(|part| (part.right.len(), part.scores)).collect(),
        right: each().flat_map(|part| part.right.iter().copied()).collect(),
        acted: each().flat_map(|part| part.acted.iter().copied()).collect(),
        rolled_back: each().map(|part| part.rolled_back).sum(),
        late: each().map(|part| part.late).sum(),
        ms_per_input: each().map(|part| part.ms_per_input * part.right.len() as f64).sum::<f64>() / n.max(1) as f64,
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
        row.frozen.map_or(String::new(), |v| format!("{} / {}, {}", v.helped, v.harmed, chance(v.p_value))),
        points(&row.vote),
        if row.frozen.is_some() { row.missed_benefit.to_string() } else { String::new() },
    ]
}

/// A p-value with as many digits as it deserves.
fn chance(p: f64) -> String {
    match p {
        p if p < 1e-99 => "< 1e-99".to_owned(),
        p if p < 1e-3 => format!("{p:.0e}"),
        p => format!("{p:.3}"),
    }
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

#[cfg(test)]
mod tests {
    use super::chance;

    #[test]
    fn chances_are_short() {
        let words = [1.0, 0.049_94, 0.001, 0.000_42, 3.4e-50, 0.0].map(chance);
        assert_eq!(words, ["1.000", "0.050", "0.001", "4e-4", "3e-50", "< 1e-99"]);
    }
}
