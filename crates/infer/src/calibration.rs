//! Temperature scaling: one number, fitted on held-out labels, that makes confidence mean what it says.

use serde::Serialize;

use crate::error::Error;
use crate::metrics::Scores;

/// Iterations after which the fit gives up; Newton's method takes about six.
const LIMIT: usize = 200;

/// A fitted temperature, and what it did to the inputs that it was fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Temperature {
    /// T: above 1 where the model is surer than it is right.
    pub value: f32,
    /// At T = 1.
    pub before: Scores,
    /// At the fitted T: accuracy is the same.
    pub after: Scores,
    /// Evaluations of the slope.
    pub iterations: usize,
}

impl Temperature {
    /// The T that minimizes the mean of −ln softmax(z/T)_y over held-out inputs (Guo et al. 2017): logits [n, classes],
    /// labels `[n]`. In β = 1/T that mean is convex, with slope mean(Σ_j p_j z_j − z_y) and curvature the mean variance
    /// of z under p, so Newton's method within a bracket finds it. The predicted class never changes.
    ///
    /// Use it by [`crate::adapt::temperature`], or in any method by [`crate::Adaptation::output`]. Fit it on inputs that the
    /// model was not trained on and that no accuracy is reported of.
    ///
    /// ```
    /// use acclimate_infer::calibration::Temperature;
    ///
    /// // Sure of everything, and wrong once in three.
    /// let logits = [4.0, 0.0, 0.0, 4.0, 4.0, 0.0];
    /// let fit = Temperature::fit(&logits, 2, &[0, 1, 1])?;
    /// assert!((fit.value - 4.0 / 2f32.ln()).abs() < 1e-4); // σ(4/T) = 2/3
    /// # Ok::<(), acclimate_infer::Error>(())
    /// ```
    ///
    /// # Errors
    /// If sizes do not fit or a logit is not finite; if every label is the likeliest class, so that colder is always better;
    /// if labels have no more than average logits, so that hotter is always better.
    pub fn fit(logits: &[f32], classes: usize, labels: &[usize]) -> Result<Self, Error> {
        let rows = Rows::new(logits, classes, labels)?;
        let unbounded = |what: &str, expected: &str| Err(Error::size("temperature", expected, what));
        if rows.slope(0.0).0 >= 0.0 {
            return unbounded(
                "labels whose logits are no higher than the average: the hotter the better",
                "held-out inputs that the model knows something about",
            );
        }
        // As β grows the slope tends to the mean of how far the label is behind the likeliest class.
        if rows.behind() <= 0.0 {
            return unbounded(
                "labels that are the likeliest class everywhere: the colder the better",
                "held-out inputs of which the model gets some wrong",
            );
        }
        let (mut low, mut high, mut iterations) = (0.0, 1.0, 1);
        while rows.slope(high).0 < 0.0 && iterations < LIMIT {
            (low, high, iterations) = (high, 2.0 * high, iterations + 1);
        }
        let mut beta = 0.5 * (low + high);
        while iterations < LIMIT {
            let (slope, curvature) = rows.slope(beta);
            iterations += 1;
            if slope < 0.0 {
                low = beta
            } else {
                high = beta
            }
            let newton = beta - slope / curvature;
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            let moved = (next - beta).abs();
            beta = next;
            if moved <= 1e-12 * beta {
                break;
            }
        }
        let value = (1.0 / beta) as f32;
        let at = |t| scores(logits, classes, labels, t);
        Ok(Temperature { value, before: at(1.0)?, after: at(value)?, iterations })
    }
}

/// What softmax(z/T) scores: logits [n, classes], labels `[n]`.
pub fn scores(logits: &[f32], classes: usize, labels: &[usize], temperature: f32) -> Result<Scores, Error> {
    let rows = Rows::new(logits, classes, labels)?;
    let mut probabilities = Vec::with_capacity(logits.len());
    for (row, _) in rows.iter() {
        let p = softmax(row, 1.0 / f64::from(temperature));
        probabilities.extend(p.iter().map(|&p| p as f32));
    }
    Scores::measure(&probabilities, classes, labels)
}

/// Logits and labels that fit.
struct Rows<'a> {
    logits: &'a [f32],
    classes: usize,
    labels: &'a [usize],
}

impl<'a> Rows<'a> {
    fn new(logits: &'a [f32], classes: usize, labels: &'a [usize]) -> Result<Self, Error> {
        if labels.is_empty() || classes < 2 {
            return Err(Error::Empty { what: "the held-out inputs of a temperature" });
        }
        if labels.len().checked_mul(classes) != Some(logits.len()) {
            let expected = format!("{} rows of {classes}", labels.len());
            return Err(Error::size("logits of a temperature", expected, logits.len()));
        }
        if let Some(position) = logits.iter().position(|z| !z.is_finite()) {
            let found = logits[position].to_string();
            return Err(Error::Value { what: "logits", position, expected: "a finite number".into(), found });
        }
        if let Some(position) = labels.iter().position(|&y| y >= classes) {
            let (expected, found) = (format!("a class below {classes}"), labels[position].to_string());
            return Err(Error::Value { what: "labels", position, expected, found });
        }
        Ok(Rows { logits, classes, labels })
    }

    fn iter(&self) -> impl Iterator<Item = (&'a [f32], usize)> {
        self.logits.chunks(self.classes).zip(self.labels.iter().copied())
    }

    /// First and second derivative of the mean NLL by β.
    fn slope(&self, beta: f64) -> (f64, f64) {
        let (mut slope, mut curvature) = (0.0, 0.0);
        for (row, label) in self.iter() {
            let p = softmax(row, beta);
            let mean: f64 = p.iter().zip(row).map(|(p, &z)| p * f64::from(z)).sum();
            slope += mean - f64::from(row[label]);
            curvature += p.iter().zip(row).map(|(p, &z)| p * (f64::from(z) - mean).powi(2)).sum::<f64>();
        }
        let n = self.labels.len() as f64;
        (slope / n, curvature / n)
    }

    /// The mean of how far labels' logits are behind the largest.
    fn behind(&self) -> f64 {
        let gap = |(row, label): (&[f32], usize)| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            f64::from(largest) - f64::from(row[label])
        };
        self.iter().map(gap).sum::<f64>() / self.labels.len() as f64
    }
}

fn softmax(row: &[f32], beta: f64) -> Vec<f64> {
    let peak = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = row.iter().map(|&z| (beta * (f64::from(z) - f64::from(peak))).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four rows and labels whose NLL and derivative by T at 1.5 are known.
    const LOGITS: [f32; 12] = [2.0, 0.5, -1.0, 0.2, 0.1, 0.9, -0.3, 1.4, 0.0, 1.0, 1.0, -2.0];

    #[test]
    fn slope_by_hand() {
        let rows = Rows::new(&LOGITS, 3, &[0, 2, 1, 0]).unwrap();
        let beta = 1.0 / 1.5;
        let by_temperature = -beta * beta * rows.slope(beta).0;
        assert!((by_temperature - 0.208_632_752).abs() < 1e-7, "{by_temperature}");
        assert!((scores(&LOGITS, 3, &[0, 2, 1, 0], 1.5).unwrap().nll - 0.625_110_004).abs() < 1e-6);
        // The curvature is the slope's slope.
        let numeric = (rows.slope(beta + 1e-4).0 - rows.slope(beta - 1e-4).0) / 2e-4;
        assert!((rows.slope(beta).1 - numeric).abs() < 1e-6);
    }

    #[test]
    fn what_has_no_minimum_is_refused() {
        let error = |labels: &[usize]| Temperature::fit(&LOGITS, 3, labels).unwrap_err().to_string();
        assert!(error(&[0, 2, 1, 0]).contains("colder"));
        assert!(error(&[2, 1, 0, 2]).contains("hotter"));
        assert!(error(&[0, 2, 1, 3]).contains("below 3"));
        assert!(error(&[0, 2]).contains("2 rows"));
        assert!(Temperature::fit(&[f32::NAN, 0.0], 2, &[0]).is_err() && Temperature::fit(&[], 2, &[]).is_err());
        let fit = Temperature::fit(&LOGITS, 3, &[0, 2, 1, 2]).unwrap();
        assert!(fit.after.nll <= fit.before.nll && fit.iterations < 30, "{fit:?}");
    }
}
