//! Accuracy over severity: small panels with one scale, one for each shift.

use super::plot::{LinePlot, Series, legend, panel};
use super::table::{ResultRow, distinct, mean};

/// A panel for each shift and one legend for all. Severity 0 is what the method does on clean images.
pub(super) fn panels(rows: &[ResultRow]) -> String {
    let methods = distinct(rows.iter().map(|row| row.method.as_str()));
    let shifts = distinct(rows.iter().filter(|row| !row.is_clean()).map(|row| row.shift.as_str()));
    let plots: String = shifts
        .iter()
        .map(|shift| {
            let series = methods.iter().map(|method| line(rows, shift, method)).collect();
            let plot = LinePlot {
                title: (*shift).to_owned(),
                x_label: "severity".to_owned(),
                y_label: "accuracy %".to_owned(),
                series,
                y_range: Some((0.0, 100.0)),
            };
            panel(&plot)
        })
        .collect();
    format!("{}<div class=\"panels\">{plots}</div>", legend(methods.iter().copied(), 0))
}

/// Mean accuracy in percent at each severity that was measured (over seeds, if there are several).
fn line(rows: &[ResultRow], shift: &str, method: &str) -> Series {
    let of_line = |row: &&ResultRow| row.method == method && (row.shift == shift || row.is_clean());
    let mut severities = distinct(rows.iter().filter(of_line).map(|row| row.severity));
    severities.sort_unstable();
    let points = severities
        .into_iter()
        .filter_map(|severity| {
            let at = rows.iter().filter(of_line).filter(|row| row.severity == severity);
            Some((f64::from(severity), mean(at.map(|row| row.accuracy * 100.0))?))
        })
        .collect();
    Series { name: method.to_owned(), points }
}
