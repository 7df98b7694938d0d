//! Random numbers from a counter: Philox4x32-10 on the host.
//!
//! J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
//! A draw is a pure function of (key, counter), so any item of any stream can be computed alone and in any order.
//! Integers, logarithms and cosines are computed by portable code: the same numbers on every platform.

use std::f64::consts::TAU;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
// Golden ratio and √3 − 1, as fractions of 2^32.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const N_ROUNDS: usize = 10;

/// A key: the name of an independent family of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Philox {
    /// The two words of the key.
    pub key: [u32; 2],
}

impl Philox {
    /// The key whose words are the low and the high half of `seed`.
    pub fn from_seed(seed: u64) -> Self {
        Self { key: halves(seed) }
    }

    /// Philox4x32-10: four random words for one counter.
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let [mut a, mut b, mut c, mut d] = counter;
        let [mut k0, mut k1] = self.key;
        for _ in 0..N_ROUNDS {
            let [low0, high0] = halves(u64::from(MULTIPLIERS[0]) * u64::from(a));
            let [low1, high1] = halves(u64::from(MULTIPLIERS[1]) * u64::from(c));
            [a, b, c, d] = [high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0];
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
        }
        [a, b, c, d]
    }

    /// A key for the part of the work called `data`: other data, independent key.
    pub fn fold(&self, data: u32) -> Self {
        // The last counter word is never this large in a stream, so derived keys are no stream's output.
        let [k0, k1, ..] = self.block([data, 0, 0, u32::MAX]);
        Self { key: [k0, k1] }
    }

    /// [`Philox::fold`] over the bytes of a name, its length included.
    pub fn fold_name(&self, name: &str) -> Self {
        let start = self.fold(u32::try_from(name.len()).unwrap_or(u32::MAX));
        name.bytes().fold(start, |key, byte| key.fold(u32::from(byte)))
    }

    /// The stream of item `item`: counters [item, draw, 0, 0] for draw = 0, 1, 2, ...
    /// (items and draws beyond 2^32 continue in the third and the fourth word).
    pub fn stream(&self, item: u64) -> Stream {
        Stream { philox: *self, item: halves(item), draw: 0, words: [0; 4], n_used: 4, spare: None }
    }
}

/// The sequence of random numbers of one item. See [`Philox::stream`].
#[derive(Clone, Debug)]
pub struct Stream {
    philox: Philox,
    item: [u32; 2],
    draw: u64,
    words: [u32; 4],
    n_used: usize,
    spare: Option<f64>,
}

impl Stream {
    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.n_used == self.words.len() {
            let [item, item_high] = self.item;
            let [draw, draw_high] = halves(self.draw);
            self.words = self.philox.block([item, draw, item_high, draw_high]);
            self.draw = self.draw.wrapping_add(1);
            self.n_used = 0;
        }
        let word = self.words[self.n_used];
        self.n_used += 1;
        word
    }

    /// Uniform in [0, 1): the upper 24 bits of a word, times 2^-24.
    pub fn uniform(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit f32's significand")]
        let numerator = (self.bits() >> 8) as f32;
        numerator * (-24f32).exp2()
    }

    /// Uniform in [0, 1) with 53 bits, from two words.
    pub fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.bits() >> 5);
        let low = u64::from(self.bits() >> 6);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit f64's significand")]
        let numerator = ((high << 26) | low) as f64;
        numerator * 2f64.powi(-53)
    }

    /// Standard normal (Box and Muller 1958). Two words give two numbers; the second is kept for the next call.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 − u lies in (0, 1]: the logarithm stays finite. The tail ends at sqrt(2 ln 2^24) = 5.8 standard deviations.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - f64::from(self.uniform())));
        let angle = TAU * f64::from(self.uniform());
        self.spare = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// Poisson with mean `mean`. A mean that is not a positive number gives 0.
    ///
    /// Below 10 by adding up probabilities; above by the transformed rejection PTRS
    /// (W. Hörmann, The transformed rejection method for generating Poisson random variables, 1993).
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean.is_nan() || mean <= 0.0 || mean.is_infinite() {
            0.0
        } else if mean < 10.0 {
            self.poisson_by_inversion(mean)
        } else {
            self.poisson_by_rejection(mean)
        }
    }

    fn poisson_by_inversion(&mut self, mean: f64) -> f64 {
        let target = self.uniform_f64();
        let (mut count, mut probability) = (0.0, libm::exp(-mean));
        let mut cumulative = probability;
        // The cumulative sum may round to just below 1; at mean < 10 the terms vanish long before 200.
        while target >= cumulative && count < 200.0 {
            count += 1.0;
            probability *= mean / count;
            cumulative += probability;
        }
        count
    }

    fn poisson_by_rejection(&mut self, mean: f64) -> f64 {
        let (root, log_mean) = (libm::sqrt(mean), libm::log(mean));
        let b = 0.931 + 2.53 * root;
        let a = -0.059 + 0.02483 * b;
        let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        let squeeze = 0.9277 - 3.6224 / (b - 2.0);
        loop {
            let u = self.uniform_f64() - 0.5;
            let v = 1.0 - self.uniform_f64();
            let us = 0.5 - u.abs();
            let count = ((2.0 * a / us + b) * u + mean + 0.43).floor();
            if us >= 0.07 && v <= squeeze {
                return count;
            }
            if count < 0.0 || (us < 0.013 && v > us) {
                continue;
            }
            let accept = libm::log(v * inverse_alpha / (a / (us * us) + b));
            if accept <= count * log_mean - mean - libm::lgamma(count + 1.0) {
                return count;
            }
        }
    }

    /// Uniform in 0..n without bias (D. Lemire, Fast random integer generation in an interval, 2019); 0 for n = 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // 2^64 mod n: products whose low half is below it belong to values that would come once too often.
        let surplus = if n == 0 { 0 } else { n.wrapping_neg() % n };
        loop {
            let bits = u64::from(self.bits()) << 32 | u64::from(self.bits());
            let product = u128::from(bits) * u128::from(n);
            #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit product")]
            let (high, low) = ((product >> 64) as u64, product as u64);
            if low >= surplus {
                return high;
            }
        }
    }

    /// Shuffles in place: every order is equally likely (Fisher and Yates; Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // A position below `last + 1` fits usize; u64 holds every length.
            let chosen = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            items.swap(last, chosen);
        }
    }
}

/// The low and the high word.
#[expect(clippy::cast_possible_truncation, reason = "the two halves of a 64-bit number")]
fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with the paper's reference implementation.
    #[test]
    fn known_answers() {
        let zero = Philox { key: [0, 0] }.block([0; 4]);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox { key: [u32::MAX; 2] }.block([u32::MAX; 4]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = Philox { key: [0xa409_3822, 0x299f_31d0] }.block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]);
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn a_stream_is_the_blocks_of_its_item() {
        let philox = Philox::from_seed(0x0000_0007_0000_0003);
        assert_eq!(philox.key, [3, 7]);
        let mut stream = philox.stream(5);
        let drawn: Vec<u32> = (0..8).map(|_| stream.bits()).collect();
        assert_eq!(drawn[..4], philox.block([5, 0, 0, 0]));
        assert_eq!(drawn[4..], philox.block([5, 1, 0, 0]));
        assert_ne!(philox.fold(1), philox.fold(2));
        assert_ne!(philox.fold_name("fog"), philox.fold_name("gof"));
    }

    /// Computed by a second implementation of Philox and of Box and Muller's formula, in Python.
    #[test]
    fn normals_by_another_implementation() {
        let mut stream = Philox::from_seed(42).stream(3);
        let expected = [
            -0.773_442_551_523_809_1,
            -1.420_382_641_722_003_6,
            -0.963_644_896_578_650_7,
            0.914_932_795_860_721_2,
            -1.223_751_732_723_640_7,
            0.229_086_363_647_290_57,
        ];
        for normal in expected {
            // Logarithm, root and cosine of two libraries: an ulp each, of numbers below 2.
            assert!((stream.normal() - normal).abs() < 4.0 * 2.0 * f64::EPSILON);
        }
    }

    /// Mean and variance of `n` draws, with the variance's own standard error from the fourth moment.
    fn check_moments(draws: &[f64], mean: f64, variance: f64, kurtosis: f64) {
        let n = draws.len() as f64;
        let found_mean = draws.iter().sum::<f64>() / n;
        let found_variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        // 4.5 standard errors: a right generator fails about once in 150,000 checks, and the seed is fixed.
        assert!((found_mean - mean).abs() < 4.5 * (variance / n).sqrt(), "mean {found_mean}, expected {mean}");
        let error = variance * ((kurtosis - 1.0) / n).sqrt();
        assert!((found_variance - variance).abs() < 4.5 * error, "variance {found_variance}, expected {variance}");
    }

    #[test]
    fn moments_follow_the_distributions() {
        let mut stream = Philox::from_seed(1).stream(0);
        let n = 200_000;
        let uniform: Vec<f64> = (0..n).map(|_| f64::from(stream.uniform())).collect();
        assert!(uniform.iter().all(|u| (0.0..1.0).contains(u)));
        check_moments(&uniform, 0.5, 1.0 / 12.0, 1.8);
        let normal: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        check_moments(&normal, 0.0, 1.0, 3.0);
        // Both methods, and both sides of the border between them.
        for mean in [0.3, 9.9, 10.1, 60.0, 500.0] {
            let counts: Vec<f64> = (0..n).map(|_| stream.poisson(mean)).collect();
            check_moments(&counts, mean, mean, 3.0 + 1.0 / mean);
        }
        for nothing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(stream.poisson(nothing).to_bits(), 0.0f64.to_bits());
        }
    }

    /// The whole distribution, not only its moments: chi-square over the counts 0, 1, 2, ... of both methods.
    #[test]
    fn poisson_probabilities() {
        let mut stream = Philox::from_seed(2).stream(0);
        for mean in [4.0f64, 12.0] {
            let n = 100_000;
            let mut counts = [0.0; 40];
            for _ in 0..n {
                counts[stream.poisson(mean) as usize] += 1.0;
            }
            let mut probability = (-mean).exp();
            let (mut chi_square, mut freedom) = (0.0, -1.0);
            for (k, found) in counts.iter().enumerate() {
                if k > 0 {
                    probability *= mean / k as f64;
                }
                let expected = f64::from(n) * probability;
                if expected >= 10.0 {
                    chi_square += (found - expected).powi(2) / expected;
                    freedom += 1.0;
                }
            }
            // Chi-square has mean `freedom` and variance 2·freedom.
            assert!(chi_square < freedom + 4.5 * (2.0f64 * freedom).sqrt(), "mean {mean}: {chi_square} of {freedom}");
        }
    }

    #[test]
    fn shuffles_are_permutations_and_every_order_is_equally_likely() {
        let mut stream = Philox::from_seed(3).stream(0);
        let mut counts = std::collections::BTreeMap::new();
        let n = 24_000;
        for _ in 0..n {
            let mut items = [0u8, 1, 2, 3];
            stream.shuffle(&mut items);
            *counts.entry(items).or_insert(0.0) += 1.0;
        }
        assert_eq!(counts.len(), 24);
        let expected = f64::from(n) / 24.0;
        let chi_square: f64 = counts.values().map(|found: &f64| (found - expected).powi(2) / expected).sum();
        assert!(chi_square < 23.0 + 4.5 * 46f64.sqrt(), "{chi_square}");
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
    }
}
