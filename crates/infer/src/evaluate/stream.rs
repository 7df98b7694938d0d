//! Streams: in which order a method meets the inputs. The order decides what a method that carries state on can do.
//!
//! An order is a pure function of labels, batch size and seed, so every method meets the same inputs in the same batches,
//! and their answers can be compared input by input.

use std::fmt;
use std::str::FromStr;

use acclimate_train::data::rng::{Philox, Stream};

use super::Labelled;
use crate::error::Error;

/// Images under one shift: a part of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Name of the shift; `clean` for none.
    pub name: &'a str,
    /// Severity from 1 to 5; 0 for clean images.
    pub severity: u8,
    /// The images.
    pub data: Labelled<'a>,
}

/// The order of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Order {
    /// Each part shuffled, with a reset before it: the method knows where a shift begins.
    Iid,
    /// Each part shuffled, one after the other, never reset.
    Continual,
    /// All parts shuffled together, never reset: neighbors have different shifts.
    Mixed,
    /// Each part sorted by label, with a reset before it: a batch holds one or two classes.
    Sorted,
    /// Each part cut into as many stretches as there are classes, each class spread over the stretches by
    /// Dirichlet(δ), with a reset before each part. Towards 0 a stretch holds few classes, towards infinity all.
    /// (Gong et al. 2022; Yuan, Xie, Li 2023.)
    Correlated(f64),
    /// As [`Order::Iid`], one input at a time.
    Single,
}

impl Order {
    /// The name that is printed and parsed, without its number.
    pub fn name(self) -> &'static str {
        match self {
            Order::Iid => "iid",
            Order::Continual => "continual",
            Order::Mixed => "mixed",
            Order::Sorted => "sorted",
            Order::Correlated(_) => "correlated",
            Order::Single => "single",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Correlated(delta) => write!(f, "correlated:{delta}"),
            other => f.pad(other.name()),
        }
    }
}

impl FromStr for Order {
    type Err = Error;

    /// `iid`, `continual`, `mixed`, `sorted`, `single`, or `correlated:δ` such as `correlated:0.1`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let expected = "iid, continual, mixed, sorted, single or correlated:δ with a number δ above 0";
            Error::size("order of a stream", expected, text)
        };
        match text.split_once(':') {
            Some(("correlated", delta)) => {
                delta.parse().ok().filter(|d: &f64| is_positive(*d)).map(Order::Correlated).ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
            None => [Order::Iid, Order::Continual, Order::Mixed, Order::Sorted, Order::Single]
                .into_iter()
                .find(|order| order.name() == text)
                .ok_or_else(wrong),
        }
    }
}

fn is_positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

/// An input of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Which part it belongs to.
    pub part: usize,
    /// Its position in the part.
    pub item: usize,
}

/// A batch of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The inputs.
    pub rows: Vec<Row>,
    /// Whether the method is reset before.
    pub resets: bool,
}

/// The batches of a stream: every input of every part once. The last batch of a part (of the stream, in
/// [`Order::Mixed`]) may be smaller.
///
/// # Errors
/// [`Error::Empty`] without inputs, [`Error::Size`] for a batch of 0 or a δ that is not a positive number.
pub fn visits(parts: &[Part<'_>], order: Order, batch: usize, seed: u64) -> Result<Vec<Visit>, Error> {
    if parts.iter().all(|part| part.data.labels.is_empty()) {
        return Err(Error::Empty { what: "the parts of the stream" });
    }
    if batch == 0 {
        return Err(Error::size("batch of a stream", "at least 1", 0));
    }
    if let Order::Correlated(delta) = order
        && !is_positive(delta)
    {
        return Err(Error::size("δ of a correlated stream", "a number above 0", delta));
    }
    let philox = Philox::from_seed(seed).fold_name("stream");
    let whole = |part: usize| (0..parts[part].data.labels.len()).map(move |item| Row { part, item });
    let batch = if order == Order::Single { 1 } else { batch };
    let cut = |rows: Vec<Row>, resets: bool| -> Vec<Visit> {
        let visit = |(i, rows): (usize, &[Row])| Visit { rows: rows.to_vec(), resets: resets && i == 0 };
        rows.chunks(batch).enumerate().map(visit).collect()
    };
    if order == Order::Mixed {
        let mut rows: Vec<Row> = (0..parts.len()).flat_map(whole).collect();
        philox.stream(0).shuffle(&mut rows);
        return Ok(cut(rows, false));
    }
    let mut all = Vec::new();
    for (part, key) in (0..parts.len()).zip(0u64..) {
        let mut rows: Vec<Row> = whole(part).collect();
        let mut stream = philox.stream(key);
        let label = |row: &Row| parts[part].data.labels[row.item];
        match order {
            Order::Sorted => rows.sort_by_key(label),
            Order::Correlated(delta) => {
                stream.shuffle(&mut rows);
                rows = correlated(&rows, label, delta, &mut stream);
            }
            _ => stream.shuffle(&mut rows),
        }
        all.extend(cut(rows, order != Order::Continual));
    }
    Ok(all)
}

/// Spreads each class over as many stretches as there are classes.
fn correlated(rows: &[Row], label: impl Fn(&Row) -> u32, delta: f64, stream: &mut Stream) -> Vec<Row> {
    let mut classes: Vec<u32> = rows.iter().map(&label).collect();
    classes.sort_unstable();
    classes.dedup();
    let mut stretches: Vec<Vec<Row>> = vec![Vec::new(); classes.len()];
    for class in &classes {
        let of_class: Vec<Row> = rows.iter().filter(|row| label(row) == *class).copied().collect();
        let shares = dirichlet(delta, classes.len(), stream);
        let (mut sum, mut from) = (0.0, 0);
        for (stretch, share) in stretches.iter_mut().zip(&shares) {
            sum += share;
            let to = ((sum * of_class.len() as f64).round() as usize).clamp(from, of_class.len());
            stretch.extend_from_slice(&of_class[from..to]);
            from = to;
        }
        // Sums of shares may end a hair below 1.
        if let Some(last) = stretches.last_mut() {
            last.extend_from_slice(&of_class[from..]);
        }
    }
    for stretch in &mut stretches {
        stream.shuffle(stretch);
    }
    stretches.concat()
}

/// Dirichlet(δ, .., δ) of `n` shares: gamma draws over their sum. Where all underflow (tiny δ), one share gets all.
fn dirichlet(delta: f64, n: usize, stream: &mut Stream) -> Vec<f64> {
    let mut draws: Vec<f64> = (0..n).map(|_| gamma(delta, stream)).collect();
    let total: f64 = draws.iter().sum();
    if total > 0.0 {
        draws.iter_mut().for_each(|draw| *draw /= total);
    } else {
        let one = usize::try_from(stream.below(n as u64)).unwrap_or(0);
        draws.iter_mut().enumerate().for_each(|(i, draw)| *draw = f64::from(u8::from(i == one)));
    }
    draws
}

/// Gamma with this shape and scale 1 (G. Marsaglia, W. W. Tsang: A simple method for generating gamma variables, 2000).
fn gamma(shape: f64, stream: &mut Stream) -> f64 {
    if shape < 1.0 {
        let u = 1.0 - stream.uniform_f64();
        return gamma(shape + 1.0, stream) * u.powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = stream.normal();
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - stream.uniform_f64();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_has_its_moments() {
        let mut stream = Philox::from_seed(1).stream(0);
        let n = 40_000;
        for shape in [0.1, 0.7, 1.0, 4.5] {
            let draws: Vec<f64> = (0..n).map(|_| gamma(shape, &mut stream)).collect();
            let mean = draws.iter().sum::<f64>() / f64::from(n);
            let variance = draws.iter().map(|x| (x - shape).powi(2)).sum::<f64>() / f64::from(n);
            // Mean and variance are the shape, the kurtosis is 3 + 6 / shape; 4.5 standard errors.
            assert!((mean - shape).abs() < 4.5 * (shape / f64::from(n)).sqrt(), "{shape}: mean {mean}");
            let error = 4.5 * shape * ((2.0 + 6.0 / shape) / f64::from(n)).sqrt();
            assert!((variance - shape).abs() < error, "{shape}: variance {variance}");
        }
    }

    #[test]
    fn shares_sum_to_one_and_concentrate_as_delta_falls() {
        let mut stream = Philox::from_seed(2).stream(0);
        let mut largest = |delta: f64| -> f64 {
            let shares = dirichlet(delta, 10, &mut stream);
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            shares.into_iter().fold(0.0, f64::max)
        };
        let [tiny, small, large] =
            [1e-4, 0.1, 100.0].map(|delta| (0..100).map(|_| largest(delta)).sum::<f64>() / 100.0);
        assert!(tiny > 0.95 && small < tiny && large < 0.2 && large < small, "{tiny} {small} {large}");
    }
}
