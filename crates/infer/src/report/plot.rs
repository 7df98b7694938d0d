//! Line plots as SVG. Colors come from the page's style, so that a plot follows the reader's light or dark theme.
//!
//! A panel is drawn 360 units wide, which is about what a phone is, so that its words stay readable there.

use std::fmt::Write as _;

use super::html::{escape, number};

/// Lines over a common x axis.
#[derive(Clone, Debug, Default)]
pub struct LinePlot {
    /// What stands above.
    pub title: String,
    /// What x counts.
    pub x_label: String,
    /// What y measures.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Lower and upper end of the y axis; where it is not given, the axis fits the values.
    pub y_range: Option<(f64, f64)>,
}

/// A line: points in rising x. A point that is not finite leaves a gap.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 17.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Colors and marks of the style; further lines repeat them with a dash.
const STYLES: usize = 8;
/// Lines with more points are drawn without marks.
const MAX_MARKS: usize = 24;

/// One axis: the numbers it spans and where it puts them.
struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// Spans `given`, or else the values, drawn from `start` to `end`.
    fn new(values: impl Iterator<Item = f64>, given: Option<(f64, f64)>, (start, end): (f64, f64)) -> Self {
        let finite = values.filter(|v| v.is_finite()).fold(None, |range: Option<(f64, f64)>, v| {
            Some(range.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
        });
        let (mut low, mut high) = given.filter(|(a, b)| a < b && (b - a).is_finite()).or(finite).unwrap_or((0.0, 1.0));
        let spread = high - low;
        if !(spread > 0.0 && spread.is_finite()) {
            // One value, or more than f64 can span: a window around the middle.
            let middle = low / 2.0 + high / 2.0;
            (low, high) = (middle - middle.abs().max(1.0) / 2.0, middle + middle.abs().max(1.0) / 2.0);
        }
        let step = tick_step(high - low);
        let first = (low / step).ceil();
        let ticks = (0..12).map(|i| (first + f64::from(i)) * step).take_while(|t| *t <= high + step * 1e-9).collect();
        Self { low, high, start, end, ticks }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// A tick with as many decimals as the ticks need to differ.
    fn label(&self, tick: f64) -> String {
        let step = tick_step(self.high - self.low);
        if !(1e-4..1e6).contains(&step) {
            return format!("{tick:.1e}");
        }
        number(tick, (-step.log10().floor()).max(0.0) as usize)
    }
}

/// The largest of 1, 2 or 5 times a power of ten that goes at least four times into the spread (so at most ten times).
fn tick_step(spread: f64) -> f64 {
    let most = spread / 4.0 * 1.001;
    let power = 10_f64.powf(most.log10().floor());
    let factor = [5.0, 2.0].into_iter().find(|f| f * power <= most).unwrap_or(1.0);
    factor * power
}

/// A plot with its caption, and with a legend of its own where it has more than one line.
pub(super) fn with_legend(plot: &LinePlot) -> String {
    // The first color is the gray of the baseline among methods; a plot without methods starts after it.
    let first = 1;
    let names = plot.series.iter().map(|series| series.name.as_str());
    let legend = if plot.series.len() > 1 { legend(names, first) } else { String::new() };
    format!(
        "<figure class=\"plot\"><figcaption>{}</figcaption>{}{legend}</figure>",
        escape(&plot.title),
        svg(plot, first)
    )
}

/// A plot with its caption, one of several that share a legend.
pub(super) fn panel(plot: &LinePlot) -> String {
    format!("<figure class=\"plot\"><figcaption>{}</figcaption>{}</figure>", escape(&plot.title), svg(plot, 0))
}

/// Names with the stroke and mark of their lines; the first has the style `first`.
pub(super) fn legend<'a>(names: impl Iterator<Item = &'a str>, first: usize) -> String {
    let entries: String = names
        .zip(first..)
        .map(|(name, i)| {
            format!(
                "<li><svg viewBox=\"0 0 28 12\" width=\"28\" height=\"12\" aria-hidden=\"true\" class=\"{}\">\
                 <path class=\"line\" d=\"M1 6H27\"/>{}</svg>{}</li>",
                style(i),
                mark(i, 14.0, 6.0),
                escape(name)
            )
        })
        .collect();
    format!("<ul class=\"legend\">{entries}</ul>")
}

fn style(i: usize) -> String {
    format!("s{}{}", i % STYLES, if i >= STYLES { " dashed" } else { "" })
}

fn svg(plot: &LinePlot, first: usize) -> String {
    let xs = plot.series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
    let ys = plot.series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    let y = Axis::new(ys, plot.y_range, (HEIGHT - BOTTOM, TOP));
    // Room for the longest number beside the axis's name.
    let longest = y.ticks.iter().map(|&tick| y.label(tick).chars().count()).max().unwrap_or(0);
    let left = LEFT.max(24.0 + 6.6 * longest as f64);
    let x = Axis::new(xs, None, (left, WIDTH - RIGHT));
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: {} over {}\">",
        escape(&plot.title),
        escape(&plot.y_label),
        escape(&plot.x_label)
    );
    for &tick in &y.ticks {
        let at = y.at(tick);
        write!(out, "<path class=\"grid\" d=\"M{left} {at:.1}H{:.1}\"/>", WIDTH - RIGHT).ok();
        write!(
            out,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            y.label(tick)
        )
        .ok();
    }
    let floor = HEIGHT - BOTTOM;
    for &tick in &x.ticks {
        let at = x.at(tick);
        write!(out, "<path class=\"axis\" d=\"M{at:.1} {floor}v4\"/>").ok();
        write!(
            out,
            "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            floor + 17.0,
            x.label(tick)
        )
        .ok();
    }
    write!(out, "<path class=\"axis\" d=\"M{left} {floor}H{:.1}\"/>", WIDTH - RIGHT).ok();
    let middle = (left + WIDTH - RIGHT) / 2.0;
    write!(
        out,
        "<text class=\"label\" x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - 6.0,
        escape(&plot.x_label)
    )
    .ok();
    let half = (TOP + floor) / 2.0;
    write!(
        out,
        "<text class=\"label\" transform=\"translate(11 {half}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        escape(&plot.y_label)
    )
    .ok();
    for (series, i) in plot.series.iter().zip(first..) {
        out.push_str(&line(i, series, &x, &y));
    }
    out.push_str("</svg>");
    out
}

/// One line with its marks; each mark tells its numbers when pointed at.
fn line(i: usize, series: &Series, x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    let mut marks = String::new();
    let mut pen_down = false;
    for &(px, py) in &series.points {
        if !(px.is_finite() && py.is_finite()) {
            pen_down = false;
            continue;
        }
        // A value outside a given range would be drawn across the words.
        let (sx, sy) = (x.at(px), y.at(py).clamp(TOP, HEIGHT - BOTTOM));
        write!(path, "{}{sx:.1} {sy:.1}", if pen_down { 'L' } else { 'M' }).ok();
        pen_down = true;
        if series.points.len() <= MAX_MARKS {
            let told = format!("{}: {} at {}", series.name, number(py, 3), x.label(px));
            write!(marks, "<g><title>{}</title>{}</g>", escape(&told), mark(i, sx, sy)).ok();
        }
    }
    format!("<g class=\"{}\"><path class=\"line\" d=\"{path}\"/>{marks}</g>", style(i))
}

/// The mark of line `i`: shapes differ, so that lines can be told apart without color.
fn mark(i: usize, x: f64, y: f64) -> String {
    let shape = match i % STYLES {
        0 => "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
        1 => "m-3-3h6v6h-6z",
        2 => "m0-4l4 7h-8z",
        3 => "m0-4.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
        4 => "m0 4l4-7h-8z",
        5 => "m-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
        6 => "m-4-2h8v4h-8z",
        _ => "m-2-4h4v8h-4z",
    };
    format!("<path class=\"mark\" d=\"M{x:.1} {y:.1}{shape}\"/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: &[(f64, f64)]) -> String {
        svg(&LinePlot { series: vec![Series { name: "a".into(), points: points.to_vec() }], ..LinePlot::default() }, 0)
    }

    #[test]
    fn ticks_are_round_and_about_five() {
        for spread in [1e-7, 0.003, 0.7, 1.0, 4.0, 5.0, 37.0, 12_345.0] {
            let axis = Axis::new([0.0, spread].into_iter(), None, (0.0, 1.0));
            assert!((4..=11).contains(&axis.ticks.len()), "{spread}: {:?}", axis.ticks);
        }
        let axis = Axis::new([0.0, 5.0].into_iter(), None, (10.0, 60.0));
        assert_eq!(axis.ticks, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((axis.at(0.0), axis.at(5.0)), (10.0, 60.0));
    }

    #[test]
    fn no_values_one_value_and_absurd_values_are_still_a_plot() {
        for points in [
            &[][..],
            &[(1.0, 2.0)],
            &[(f64::NAN, f64::INFINITY)],
            &[(0.0, f64::MAX), (1.0, f64::MIN)],
            &[(0.0, 1e-300), (1.0, 0.0)],
            &[(f64::MAX, f64::MAX)],
        ] {
            let text = plot(points);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{points:?}: {text}");
        }
    }

    #[test]
    fn a_value_that_is_not_finite_leaves_a_gap() {
        let text = plot(&[(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 0.0)]);
        let path = text.split("class=\"line\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 2), "{path}");
    }
}
