//! Reports: one HTML file that opens anywhere, with tables, plots, images and receipts in words.
//!
//! The file holds everything it shows: style, plots (SVG) and images (PNG) are inside, there is no script, and a content
//! security policy forbids fetching anything. Every text is escaped, so names may come from anywhere.
//!
//! ```
//! use acclimate_infer::report::{Report, ResultRow};
//!
//! let row = |method: &str, accuracy| ResultRow {
//!     shift: "contrast".into(), severity: 5, method: method.into(), images: 2000, accuracy, ece: 0.05,
//!     ms_per_image: 1.2, acted: 0, rolled_back: 0, seed: 0,
//! };
//! let mut report = Report::new("Adapting to contrast");
//! report.text("Each image was answered twice.");
//! report.results(&[row("frozen", 0.27), row("statistics", 0.79)]);
//! # let folder = std::env::temp_dir().join("acclimate-report-doc");
//! report.write(folder.join("report.html"))?;
//! # std::fs::remove_dir_all(folder).ok();
//! # Ok::<(), acclimate_infer::error::Error>(())
//! ```

mod cards;
mod html;
mod picture;
mod plot;
mod severity;
mod table;
mod words;

use std::path::Path;

use crate::error::Error;
use crate::files;
use crate::receipt::{Receipt, explain_with_names};

pub use cards::{ImageCard, Labelled};
pub use picture::Picture;
pub use plot::{LinePlot, Series};
pub use table::ResultRow;

use html::{escape, slug};

/// A report in the making: parts appear in the order they are added.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    lede: String,
    /// Title and anchor of each section.
    sections: Vec<(String, String)>,
    body: String,
}

impl Report {
    /// An empty report with its title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lede: String::new(), sections: Vec::new(), body: String::new() }
    }

    /// The sentence under the title: what was done and what came out.
    pub fn lede(&mut self, text: &str) -> &mut Self {
        self.lede = escape(text);
        self
    }

    /// Starts a section: a heading that can be linked to, and a line in the table of contents.
    pub fn section(&mut self, heading: &str) -> &mut Self {
        let taken = |anchor: &str| self.sections.iter().any(|(_, other)| other == anchor);
        let plain = slug(heading);
        let mut anchor = plain.clone();
        let mut n = 2;
        while taken(&anchor) {
            anchor = format!("{plain}-{n}");
            n += 1;
        }
        let heading = escape(heading);
        self.push(&format!(
            "<h2 id=\"{anchor}\"><a href=\"#{anchor}\" aria-label=\"link to this section\">{heading}</a></h2>"
        ));
        self.sections.push((heading, anchor));
        self
    }

    /// Paragraphs, separated by empty lines.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let paragraphs = html::paragraphs(text);
        self.push(&paragraphs)
    }

    /// Names and values, one pair a line: device, seed, durations.
    pub fn facts<K: AsRef<str>, V: AsRef<str>>(&mut self, pairs: impl IntoIterator<Item = (K, V)>) -> &mut Self {
        self.push(&table::facts(pairs))
    }

    /// Any table: names of the columns, and the cells of each row, of which the first names the row.
    pub fn table(
        &mut self,
        head: &[&str],
        rows: impl IntoIterator<Item = impl IntoIterator<Item = String>>,
    ) -> &mut Self {
        self.push(&table::plain(head, rows))
    }

    /// How each method did on each shift, with the best of each shift marked.
    pub fn results(&mut self, rows: &[ResultRow]) -> &mut Self {
        self.push(&table::results(rows))
    }

    /// Accuracy of each method (rows) on each shift (columns) at the highest severity among `rows`, with the mean over
    /// the shifts and the difference to the method `frozen`.
    pub fn overview(&mut self, rows: &[ResultRow]) -> &mut Self {
        self.push(&table::overview(rows))
    }

    /// Accuracy over severity: a panel for each shift, a line for each method; severity 0 is clean.
    pub fn accuracy_by_severity(&mut self, rows: &[ResultRow]) -> &mut Self {
        self.push(&severity::panels(rows))
    }

    /// Line plots side by side where the page is wide enough. A training curve is two of them: loss and accuracy.
    pub fn plots(&mut self, plots: &[LinePlot]) -> &mut Self {
        let panels: String = plots.iter().map(plot::with_legend).collect();
        self.push(&format!("<div class=\"panels\">{panels}</div>"))
    }

    /// Images of one input each (clean, shifted, corrected, …) with the answers of each method.
    ///
    /// # Errors
    /// [`Error::Image`] if a picture cannot be encoded.
    pub fn images(&mut self, cards: &[ImageCard]) -> Result<&mut Self, Error> {
        let html = cards::grid(cards)?;
        Ok(self.push(&html))
    }

    /// A receipt spelled out in words, with names for the classes, and what the log holds below.
    ///
    /// # Errors
    /// [`Error::Encode`] if the receipt cannot be written as JSON.
    pub fn receipt(&mut self, receipt: &Receipt, class_names: &[&str]) -> Result<&mut Self, Error> {
        let words = html::paragraphs(&explain_with_names(receipt, class_names));
        let json =
            serde_json::to_string_pretty(receipt).map_err(|source| Error::Encode { what: "a receipt", source })?;
        Ok(self.push(&format!(
            "<div class=\"receipt\">{words}<details><summary>As it stands in the log</summary><pre>{}</pre></details></div>",
            escape(&json)
        )))
    }

    /// A text with the pieces marked that were chosen, by their bytes; what is no piece of the text is left out.
    pub fn marked(&mut self, title: &str, text: &str, spans: &[std::ops::Range<usize>]) -> &mut Self {
        self.push(&words::marked(title, text, spans))
    }

    /// The whole file as text.
    pub fn to_html(&self) -> String {
        html::page(&self.title, &self.lede, &self.sections, &self.body)
    }

    /// Writes the file; one that is there is replaced as a whole. Folders above are created.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        files::write_atomically(path.as_ref(), self.to_html().as_bytes())
    }

    fn push(&mut self, html: &str) -> &mut Self {
        self.body.push_str(html);
        self.body.push('\n');
        self
    }
}
