//! The noise of gradients: how large a batch must be for its gradient to say more than chance.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::optim::refused;

/// The simple noise scale tr(Σ)/‖ḡ‖² (McCandlish et al. 2018, appendix A): below so many rows a gradient is mostly noise,
/// far above it a larger batch buys nothing. Estimated from the squared gradient norms of small and large batches, whose
/// expectations are ‖ḡ‖² + tr(Σ)/rows; means are taken before the ratio, because a ratio of noisy numbers is biased.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseScale {
    small_rows: f64,
    large_rows: f64,
    small: f64,
    large: f64,
    n: f64,
}

/// An estimate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// ‖ḡ‖², of the gradient over all data. An estimate from few pairs may be negative.
    pub signal: f64,
    /// tr(Σ): variance of the gradient of one row.
    pub noise: f64,
    /// Their ratio, in rows; infinite where no signal is seen.
    pub rows: f64,
}

impl NoiseScale {
    /// For batches of these sizes.
    ///
    /// # Errors
    /// Unless 0 < small < large.
    pub fn new(small_rows: u32, large_rows: u32) -> Result<Self> {
        if small_rows == 0 || small_rows >= large_rows {
            let found = format!("{small_rows} and {large_rows}");
            return refused("batch sizes of the noise scale", "0 < small < large", found, "such as 8 and 128");
        }
        let (small_rows, large_rows) = (small_rows.into(), large_rows.into());
        Ok(NoiseScale { small_rows, large_rows, small: 0.0, large: 0.0, n: 0.0 })
    }

    /// One more pair of *squared* gradient norms.
    pub fn add(&mut self, small: f64, large: f64) {
        self.n += 1.0;
        self.small += (small - self.small) / self.n;
        self.large += (large - self.large) / self.n;
    }

    /// The estimate so far; `None` before the first pair.
    pub fn estimate(&self) -> Option<Noise> {
        if self.n == 0.0 {
            return None;
        }
        let (b, c) = (self.small_rows, self.large_rows);
        let signal = (c * self.large - b * self.small) / (c - b);
        let noise = (self.small - self.large) / (1.0 / b - 1.0 / c);
        let rows = if signal > 0.0 { noise / signal } else { f64::INFINITY };
        Some(Noise { signal, noise, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Philox;

    /// Rows' gradients are (1, 0) plus a normal of deviation 3 in each of two directions: tr(Σ) = 18, ‖ḡ‖² = 1.
    #[test]
    fn known_noise_is_found() {
        let mut draw = Philox::from_seed(1).stream(0);
        let mut scale = NoiseScale::new(4, 64).unwrap();
        assert_eq!(scale.estimate(), None);
        let mut square = |rows: u32| {
            let mut mean = [0.0, 0.0];
            for _ in 0..rows {
                mean[0] += (1.0 + 3.0 * draw.normal()) / f64::from(rows);
                mean[1] += 3.0 * draw.normal() / f64::from(rows);
            }
            mean[0] * mean[0] + mean[1] * mean[1]
        };
        for _ in 0..3000 {
            let (small, large) = (square(4), square(64));
            scale.add(small, large);
        }
        let found = scale.estimate().unwrap();
        // The small norm has mean 5.5 and deviation about 5.4 (non-central χ²), so a standard error of .1 over 3,000
        // pairs; it enters the noise times 4.3. Four standard errors; the signal's error is a tenth of that.
        assert!((found.noise - 18.0).abs() < 1.7, "{found:?}");
        assert!((found.signal - 1.0).abs() < 0.1, "{found:?}");
        assert!(NoiseScale::new(0, 4).is_err() && NoiseScale::new(8, 8).is_err());
    }
}
