//! The benchmark's files: Markdown, JSON, HTML.

use std::fs;
use std::path::Path;

use acclimate::infer::evaluate::table::{COLUMNS, Row, cells, markdown};
use acclimate::infer::report::{LinePlot, Report, Series};
use anyhow::{Context, Result};

/// What the files say besides the rows.
pub struct About {
    pub device: String,
    pub network: String,
    pub images: usize,
    pub severity: u8,
    pub batch: usize,
    pub seed: u64,
    pub textures: &'static str,
}

impl About {
    fn facts(&self) -> [(&'static str, String); 7] {
        [
            ("device", self.device.clone()),
            ("network", self.network.clone()),
            ("images of a shift", self.images.to_string()),
            ("severity", self.severity.to_string()),
            ("batch", self.batch.to_string()),
            ("seed", self.seed.to_string()),
            ("textures of frost", self.textures.to_owned()),
        ]
    }
}

const READING: &str = "Every method meets the same inputs in the same batches. Differences are in points of accuracy on \
the same inputs, with their standard error; p is McNemar's. A vote costs as much as the method it stands beside. Missed \
benefit counts inputs that frozen got wrong and the method did not act on, but another method here got right. Late \
inputs came while the method was busy.";

/// Writes `table.md`, `rows.json` and `report.html` into the folder.
pub fn write(folder: &Path, about: &About, rows: &[Row]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    let facts: String = about.facts().iter().map(|(name, value)| format!("- {name}: {value}\n")).collect();
    put("table.md", format!("# Methods on streams\n\n{facts}\n{READING}\n{}", markdown(rows)))?;
    put("rows.json", serde_json::to_string_pretty(rows)?)?;
    html(about, rows).write(folder.join("report.html"))?;
    Ok(())
}

fn html(about: &About, rows: &[Row]) -> Report {
    let mut report = Report::new("Methods on streams");
    report.lede("Ways to answer shifted images, on streams of several orders, beside the frozen network.");
    report.facts(about.facts());
    report.text(READING);
    let mut streams: Vec<&str> = rows.iter().map(|row| row.stream.as_str()).collect();
    streams.dedup();
    for stream in streams {
        let of: Vec<&Row> = rows.iter().filter(|row| row.stream == stream).collect();
        report.section(&format!("Stream {stream}"));
        let results: Vec<_> = of.iter().filter(|row| row.shift != "all").map(|row| row.result()).collect();
        report.overview(&results);
        report.plots(&[along(&of), cost(&of)]);
        report.table(&COLUMNS, of.iter().map(|row| cells(row)));
    }
    report
}

fn methods<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut seen = Vec::new();
    rows.iter().for_each(|row| {
        if !seen.contains(&row.method.as_str()) {
            seen.push(row.method.as_str());
        }
    });
    seen
}

/// Error over the parts of the stream, in the order of the table.
fn along(rows: &[&Row]) -> LinePlot {
    let line = |method: &str| {
        let of = rows.iter().filter(|row| row.method == method && row.shift != "all");
        Series { name: method.to_owned(), points: of.zip(1..).map(|(row, i)| (f64::from(i), row.error)).collect() }
    };
    LinePlot {
        title: "Error of each shift, in the table's order".into(),
        x_label: "shift".into(),
        y_label: "error %".into(),
        series: methods(rows).into_iter().map(line).collect(),
        y_range: None,
    }
}

/// Error against time, a point for each method.
fn cost(rows: &[&Row]) -> LinePlot {
    let last = |method: &str| rows.iter().rfind(|row| row.method == method);
    let point = |row: &&Row| Series { name: row.method.clone(), points: vec![(row.ms_per_input, row.error)] };
    LinePlot {
        title: "Error against work".into(),
        x_label: "ms for an input".into(),
        y_label: "error %".into(),
        series: methods(rows).into_iter().filter_map(|method| last(method).map(point)).collect(),
        y_range: None,
    }
}
