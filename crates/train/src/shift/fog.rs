//! Fog: a bright veil of plasma clouds, by the diamond-square algorithm.
//!
//! A. Fournier, D. Fussell, L. Carpenter: Computer rendering of stochastic models (1982).

use super::Size;
use crate::data::rng::Stream;

/// The smallest side of the cloud map, so that small images see the same clouds at the same scale.
const SMALLEST_MAP: usize = 32;

/// (x + strength · plasma) · max / (max + strength), with plasma in 0..1, the same for all channels, and max the
/// brightest value of the image: the veil lifts the dark parts and the brightest possible value stays where it was.
pub(super) fn fog(image: &mut [f64], size: Size, strength: f64, decay: f64, stream: &mut Stream) {
    let side = size.height.max(size.width).max(SMALLEST_MAP).next_power_of_two();
    let veil = plasma(side, decay, stream);
    let brightest = image.iter().copied().fold(0.0, f64::max);
    let scale = brightest / (brightest + strength);
    for plane in image.chunks_exact_mut(size.plane_len()) {
        for (row, veil) in plane.chunks_exact_mut(size.width).zip(veil.chunks_exact(side)) {
            for (x, veil) in row.iter_mut().zip(veil) {
                *x = (*x + strength * veil) * scale;
            }
        }
    }
}

/// A map of side x side values from 0 to 1 (both reached) that continues itself at its borders; `side` is a power of
/// two. At each level the middle of every square, then of every diamond, is the mean of its four corners plus a
/// uniform draw from ±w². w starts at 100 and is divided by `decay` from level to level (the generator of ImageNet-C
/// multiplies a draw from ±w by w, hence the square).
pub(super) fn plasma(side: usize, decay: f64, stream: &mut Stream) -> Vec<f64> {
    let mut map = Map { values: vec![0.0; side * side], side };
    let (mut step, mut wibble) = (side, 100.0);
    while step >= 2 {
        let half = step / 2;
        let mut set = |map: &mut Map, row: usize, column: usize, corners: [(usize, usize); 4]| {
            let mean = corners.iter().map(|&(row, column)| map.get(row, column)).sum::<f64>() / 4.0;
            let draw = 2.0 * stream.uniform_f64() - 1.0;
            map.set(row, column, mean + wibble * wibble * draw);
        };
        // Positions wrap around; `back` is a step of −half on the ring.
        let back = side - half;
        for row in (0..side).step_by(step) {
            for column in (0..side).step_by(step) {
                let corners = [(row, column), (row + step, column), (row, column + step), (row + step, column + step)];
                set(&mut map, row + half, column + half, corners);
            }
        }
        for row in (0..side).step_by(half) {
            // Rows of corners have their diamonds between the corners, rows of middles between the middles.
            let first = if row % step == 0 { half } else { 0 };
            for column in (first..side).step_by(step) {
                let corners = [(row + back, column), (row + half, column), (row, column + back), (row, column + half)];
                set(&mut map, row, column, corners);
            }
        }
        step = half;
        wibble /= decay;
    }
    let (low, high) =
        map.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (x.min(low), x.max(high)));
    // Subtracted before the division, so that the largest value is exactly 1.
    map.values.iter().map(|x| (x - low) / (high - low)).collect()
}

/// A square map on a ring: rows and columns count modulo the side.
struct Map {
    values: Vec<f64>,
    side: usize,
}

impl Map {
    fn at(&self, row: usize, column: usize) -> usize {
        (row % self.side) * self.side + column % self.side
    }

    fn get(&self, row: usize, column: usize) -> f64 {
        self.values[self.at(row, column)]
    }

    fn set(&mut self, row: usize, column: usize, value: f64) {
        let at = self.at(row, column);
        self.values[at] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Philox;

    #[test]
    fn plasma_fills_the_map_from_0_to_1() {
        let map = plasma(32, 2.0, &mut Philox::from_seed(1).stream(0));
        let low = map.iter().copied().fold(f64::INFINITY, f64::min);
        let high = map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!((low.to_bits(), high.to_bits()), (0.0f64.to_bits(), 1.0f64.to_bits()));
        let mut values: Vec<u64> = map.iter().map(|x| x.to_bits()).collect();
        values.sort_unstable();
        values.dedup();
        // Every pixel but the first has a draw of its own: none was skipped or left at its start.
        assert_eq!(values.len(), 32 * 32);
    }

    /// Neighbors are more alike than strangers, and the more so the faster the wibble decays; the ring has no seam.
    #[test]
    fn plasma_is_smooth_and_has_no_seam() {
        let (mut rough, mut seam, mut far) = ([0.0; 2], 0.0, 0.0);
        for item in 0..50 {
            for (i, decay) in [2.0, 3.0].into_iter().enumerate() {
                let map = plasma(32, decay, &mut Philox::from_seed(2).stream(item));
                let square = |a: usize, b: usize| (map[a] - map[b]).powi(2);
                let sum =
                    |distance: usize| (0..32).map(|row| square(row * 32 + 8, row * 32 + 8 + distance)).sum::<f64>();
                rough[i] += sum(1);
                if i == 0 {
                    far += sum(16);
                    seam += (0..32).map(|row| square(row * 32, row * 32 + 31)).sum::<f64>();
                }
            }
        }
        assert!(rough[1] < rough[0] && rough[0] < 0.2 * far, "{rough:?} {far}");
        assert!(seam < 0.2 * far, "{seam} {far}");
    }
}
