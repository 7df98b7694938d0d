//! Two tables of results of the same run on two devices: whether they say the same.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What `quickstart --json` prints, as far as it is compared.
#[derive(Debug, Deserialize)]
pub struct Table {
    engine: String,
    rows: Vec<Row>,
    replay_ok: bool,
    one_submission_per_batch: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Row {
    shift: String,
    severity: u64,
    method: String,
    images: usize,
    accuracy: f64,
}

impl Table {
    /// From the last line of a program's output.
    pub fn of(output: &str) -> Result<Self> {
        let line = output.lines().last().context("the output is empty")?;
        serde_json::from_str(line).context("the last line is no table of results")
    }
}

/// How many rows were compared. Fails unless both tables have the same rows, each with accuracies that differ by at most a
/// hundredth of the images, both replayed their receipts, and both adapted each batch in one submission.
pub fn compare(a: &Table, b: &Table) -> Result<usize> {
    if a.engine == b.engine {
        bail!("both tables are of the {} engine", a.engine);
    }
    for t in [a, b] {
        if !t.replay_ok || t.one_submission_per_batch != Some(true) {
            let (replay, one) = (t.replay_ok, t.one_submission_per_batch);
            bail!("{} engine: replay holds: {replay}; one submission for each adapted batch: {one:?}", t.engine);
        }
    }
    if a.rows.len() != b.rows.len() || a.rows.is_empty() {
        bail!("{} rows against {}", a.rows.len(), b.rows.len());
    }
    for (x, y) in a.rows.iter().zip(&b.rows) {
        let name = |r: &Row| format!("{} {} {} of {} images", r.shift, r.severity, r.method, r.images);
        if name(x) != name(y) {
            bail!("rows of different things: {} and {}", name(x), name(y));
        }
        let apart = ((x.accuracy - y.accuracy) * x.images as f64).abs().round();
        if apart > (x.images as f64 / 100.0).floor() {
            bail!("{}: accuracy {} on {}, {} on {}", name(x), x.accuracy, a.engine, y.accuracy, b.engine);
        }
    }
    Ok(a.rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(engine: &str, accuracy: f64, one: bool) -> Table {
        let row = format!(r#"{{"shift":"fog","severity":5,"method":"tent","images":100,"accuracy":{accuracy}}}"#);
        let text = format!(
            "words\n{{\"engine\":\"{engine}\",\"rows\":[{row}],\"replay_ok\":true,\"one_submission_per_batch\":{one}}}"
        );
        Table::of(&text).unwrap()
    }

    #[test]
    fn null_a_hundredth_is_the_most() {
        assert_eq!(compare(&table("cpu", 0.5, true), &table("gpu", 0.51, true)).unwrap(), 1);
        assert!(compare(&table("cpu", 0.5, true), &table("gpu", 0.52, true)).is_err());
        assert!(compare(&table("cpu", 0.5, true), &table("cpu", 0.5, true)).is_err());
        assert!(compare(&table("cpu", 0.5, true), &table("gpu", 0.5, false)).is_err());
        assert!(Table::of("no table").is_err() && Table::of("").is_err());
    }
}
