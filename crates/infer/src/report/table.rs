//! Tables: facts, the results of every method on every shift, and their overview.

use serde::{Deserialize, Serialize};

use super::html::{escape, number};

/// How one method did on one shift: a line of the results table, and of an example's `--json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// Name of the shift; `clean` for none.
    pub shift: String,
    /// Severity from 1 to 5; 0 for clean images.
    pub severity: u32,
    /// Name of the method.
    pub method: String,
    /// Images answered.
    pub images: usize,
    /// Fraction answered right.
    pub accuracy: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Milliseconds per image.
    pub ms_per_image: f64,
    /// Images on which the method acted.
    pub acted: usize,
    /// Answers that the guard rolled back.
    pub rolled_back: usize,
    /// Seed of the run.
    pub seed: u64,
}

impl ResultRow {
    /// True for images without a shift.
    pub(super) fn is_clean(&self) -> bool {
        self.severity == 0
    }
}

/// The method that the others are compared with.
const BASELINE: &str = "frozen";

/// Values in the order of their first appearance.
pub(super) fn distinct<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    values.into_iter().fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

/// Mean of some numbers; `None` of none.
pub(super) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.into_iter().fold((0.0, 0_u32), |(sum, n), x| (sum + x, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

pub(super) fn facts<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let rows: String = pairs
        .into_iter()
        .map(|(name, value)| {
            format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name.as_ref()), escape(value.as_ref()))
        })
        .collect();
    format!("<div class=\"scroll\"><table class=\"facts\"><tbody>{rows}</tbody></table></div>")
}

/// A table with a head; the first column names the row.
pub(super) fn plain(head: &[&str], rows: impl IntoIterator<Item = impl IntoIterator<Item = String>>) -> String {
    let head: String = head.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
    let body: String = rows
        .into_iter()
        .map(|row| {
            let cells = row.into_iter().enumerate().map(|(i, cell)| match i {
                0 => format!("<th scope=\"row\">{}</th>", escape(&cell)),
                _ => format!("<td>{}</td>", escape(&cell)),
            });
            format!("<tr>{}</tr>", cells.collect::<String>())
        })
        .collect();
    format!(
        "<div class=\"scroll\"><table class=\"results\"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
}

pub(super) fn results(rows: &[ResultRow]) -> String {
    let seeds = distinct(rows.iter().map(|row| row.seed)).len();
    let groups = distinct(rows.iter().map(|row| (row.shift.as_str(), row.severity, row.seed)));
    let body: String = groups
        .into_iter()
        .map(|(shift, severity, seed)| {
            let group: Vec<&ResultRow> =
                rows.iter().filter(|r| r.shift == shift && r.severity == severity && r.seed == seed).collect();
            let mut title = format!("<b>{}</b>", escape(shift));
            if severity > 0 {
                title.push_str(&format!(" severity {severity}"));
            }
            if seeds > 1 {
                title.push_str(&format!(" seed {seed}"));
            }
            format!(
                "<tbody><tr class=\"group\"><th colspan=\"8\" scope=\"rowgroup\">{title}</th></tr>{}</tbody>",
                group_rows(&group)
            )
        })
        .collect();
    format!(
        "<div class=\"scroll\"><table class=\"results\"><thead><tr><th scope=\"col\">method</th>\
         <th scope=\"col\">accuracy %</th><th scope=\"col\">± frozen</th><th scope=\"col\">ECE</th>\
         <th scope=\"col\">ms / image</th><th scope=\"col\">images</th><th scope=\"col\">acted</th>\
         <th scope=\"col\">rolled back</th></tr></thead>{body}</table></div>\
         <p class=\"note\">The highest accuracy of each group is marked. ± frozen is the difference in percentage points \
         to the frozen model on the same number of images; it is left out where the numbers of images differ.</p>"
    )
}

fn group_rows(group: &[&ResultRow]) -> String {
    let best = group.iter().map(|row| row.accuracy).fold(f64::NEG_INFINITY, f64::max);
    let baseline = group.iter().find(|row| row.method == BASELINE);
    group
        .iter()
        .map(|row| {
            let is_best = row.accuracy.total_cmp(&best).is_eq();
            let class = if is_best { " class=\"best\"" } else { "" };
            let mark = if is_best { "<span class=\"mark\" role=\"img\" aria-label=\"best\">●</span>" } else { "" };
            let versus = baseline
                .filter(|frozen| frozen.method != row.method && frozen.images == row.images)
                .map_or(String::new(), |frozen| signed((row.accuracy - frozen.accuracy) * 100.0));
            let percent = row.accuracy * 100.0;
            format!(
                "<tr{class}><th scope=\"row\">{}{mark}</th><td class=\"bar\" style=\"--share:{:.1}%\">{}</td><td>{versus}</td>\
                 <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&row.method),
                if percent.is_finite() { percent.clamp(0.0, 100.0) } else { 0.0 },
                number(percent, 1),
                number(row.ece, 3),
                milliseconds(row.ms_per_image),
                row.images,
                row.acted,
                row.rolled_back
            )
        })
        .collect()
}

pub(super) fn overview(rows: &[ResultRow]) -> String {
    let Some(severity) = rows.iter().map(|row| row.severity).max() else {
        return String::new();
    };
    let shown: Vec<&ResultRow> = rows.iter().filter(|row| row.is_clean() || row.severity == severity).collect();
    let columns = distinct(shown.iter().map(|row| (row.shift.as_str(), row.is_clean())));
    let methods = distinct(shown.iter().map(|row| row.method.as_str()));
    let accuracy = |method: &str, shift: &str| {
        mean(shown.iter().filter(|r| r.method == method && r.shift == shift).map(|r| r.accuracy * 100.0))
    };
    let shift_mean = |method: &str| {
        let shifts = columns.iter().filter(|(_, clean)| !clean);
        let each = shifts.map(|(shift, _)| accuracy(method, shift)).collect::<Option<Vec<f64>>>()?;
        mean(each)
    };
    let head: String = columns.iter().map(|(shift, _)| format!("<th scope=\"col\">{}</th>", escape(shift))).collect();
    let body: String = methods
        .iter()
        .map(|method| {
            let cells: String = columns
                .iter()
                .map(|(shift, _)| tinted("", accuracy(method, shift), accuracy(BASELINE, shift)))
                .chain([tinted("mean ", shift_mean(method), shift_mean(BASELINE))])
                .collect();
            format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(method))
        })
        .collect();
    format!(
        "<div class=\"scroll\"><table class=\"overview\"><thead><tr><th scope=\"col\">accuracy %</th>{head}\
         <th scope=\"col\">mean of shifts</th></tr></thead><tbody>{body}</tbody></table></div>\
         <p class=\"note\">Shifts at severity {severity}. Tinted: at least one point <span class=\"swatch up\">above</span> \
         or <span class=\"swatch down\">below</span> the frozen model.</p>"
    )
}

/// A cell with an accuracy in percent, tinted by its distance to the baseline's: one step at 1, 5 and 15 points.
fn tinted(class: &str, value: Option<f64>, baseline: Option<f64>) -> String {
    let Some(value) = value else {
        return format!("<td class=\"{}\">–</td>", class.trim_end());
    };
    let difference = baseline.map_or(0.0, |base| value - base);
    let step = [1.0, 5.0, 15.0].iter().filter(|limit| difference.abs() >= **limit).count();
    let tint = match step {
        0 => String::new(),
        n if difference > 0.0 => format!("up{n}"),
        n => format!("down{n}"),
    };
    format!("<td class=\"{class}{tint}\">{}</td>", number(value, 1))
}

fn signed(points: f64) -> String {
    let text = number(points, 1);
    if points > 0.0 && text != "0.0" { format!("+{text}") } else { text }
}

/// Three digits, whether it took a microsecond or a minute.
fn milliseconds(ms: f64) -> String {
    number(
        ms,
        if ms < 1.0 {
            3
        } else if ms < 100.0 {
            2
        } else {
            0
        },
    )
}
