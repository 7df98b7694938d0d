//! Running standardization: mean and deviation of each feature so far.

/// Brings each feature to mean 0 and deviation 1 by what was seen so far (Welford 1962), cut to ±`limit`. A feature that
/// was constant so far is 0. On the host and in f64: two numbers for each feature.
#[derive(Clone, Debug)]
pub struct RunningScale {
    n: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
    limit: f64,
}

impl RunningScale {
    /// Before the first input of `features` features. Values beyond `limit` deviations are cut.
    pub fn new(features: usize, limit: f64) -> Self {
        RunningScale {
            n: 0.0,
            mean: vec![0.0; features],
            squares: vec![0.0; features],
            limit: if limit.is_nan() { f64::INFINITY } else { limit.abs() },
        }
    }

    /// The input scaled by the inputs *before* it; then it counts itself. An input with a feature that is no finite
    /// number is scaled and does not count.
    pub fn next(&mut self, input: &[f64]) -> Vec<f32> {
        let scaled = self.scaled(input);
        if input.iter().all(|x| x.is_finite()) {
            self.n += 1.0;
            for ((x, mean), squares) in input.iter().zip(&mut self.mean).zip(&mut self.squares) {
                let before = x - *mean;
                *mean += before / self.n;
                *squares += before * (x - *mean);
            }
        }
        scaled
    }

    /// The input scaled by what was seen so far.
    pub fn scaled(&self, input: &[f64]) -> Vec<f32> {
        let one = |((x, mean), squares): ((&f64, &f64), &f64)| {
            let deviation = (squares / self.n.max(1.0)).sqrt();
            let constant = deviation <= 1e-12 * mean.abs().max(f64::MIN_POSITIVE);
            let scaled = if constant { 0.0 * (x - mean) } else { (x - mean) / deviation };
            scaled.clamp(-self.limit, self.limit) as f32
        };
        input.iter().zip(&self.mean).zip(&self.squares).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_by_what_came_before() {
        let mut scale = RunningScale::new(2, 5.0);
        assert_eq!(scale.next(&[1.0, 7.0]), [0.0, 0.0]);
        assert_eq!(scale.next(&[3.0, 7.0]), [0.0, 0.0]);
        // Mean 2, deviation 1 of 1 and 3; the second feature never moved.
        assert_eq!(scale.next(&[4.0, 9.0]), [2.0, 0.0]);
        assert_eq!(scale.scaled(&[1e9, 7.0])[0], 5.0);
        assert!(scale.next(&[f64::NAN, 1.0])[0].is_nan());
        assert!(scale.scaled(&[1.0, 1.0]).iter().all(|x| x.is_finite()));
    }
}
