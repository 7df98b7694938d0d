//! Blur and coarse pixels: what a lens out of focus and a small sensor do.

use super::plane::{Plane, clamp, mirror, real, signed, whole};
use super::{Size, as_byte, truncated};
use crate::data::rng::Stream;

/// A square kernel of odd side that sums to 1, row by row.
pub(super) struct Kernel {
    weights: Vec<f64>,
    radius: isize,
}

impl Kernel {
    fn normalized(mut weights: Vec<f64>, radius: isize) -> Self {
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        Self { weights, radius }
    }
}

/// Disk kernel: the weight of a pixel is the area (in pixels) that it shares with a disk of `radius` around the
/// center of the middle pixel, so that any radius means what it says. Up to radius 0.5 the disk lies within one
/// pixel, and the image stays as it is.
pub(super) fn disk(radius: f64) -> Kernel {
    let reach = whole((radius + 0.5).floor());
    let offsets = || -reach..=reach;
    let weights = offsets().flat_map(|row| offsets().map(move |column| shared_area(radius, row, column)));
    Kernel::normalized(weights.collect(), reach)
}

/// Area of the intersection of a disk around the origin with the unit square centered at (row, column).
fn shared_area(radius: f64, row: isize, column: isize) -> f64 {
    // Strips thin enough for four digits: the chord is exact in each, the sum a midpoint rule.
    const N_STRIPS: u32 = 256;
    // One quadrant stands for all four, so that the kernel is symmetric to the last bit.
    let (top, left) = (real(row.abs()) - 0.5, real(column.abs()) - 0.5);
    let width_at = |strip: u32| {
        let y = top + (f64::from(strip) + 0.5) / f64::from(N_STRIPS);
        let half_chord = (radius * radius - y * y).max(0.0).sqrt();
        ((left + 1.0).min(half_chord) - left.max(-half_chord)).max(0.0)
    };
    (0..N_STRIPS).map(width_at).sum::<f64>() / f64::from(N_STRIPS)
}

/// CIFAR-10-C's disk: whole pixels whose center lies within `radius`, smoothed by a 3 x 3 normal kernel of standard
/// deviation `blur`.
pub(super) fn aliased_disk(radius: f64, blur: f64) -> Kernel {
    let reach = whole(radius.floor()) + 1;
    let inside = |row: isize, column: isize| real(row).powi(2) + real(column).powi(2) <= radius * radius;
    let tap = |offset: isize| libm::exp(-real(offset).powi(2) / (2.0 * blur * blur));
    let smoothed = |row: isize, column: isize| -> f64 {
        let near = (-1..=1).flat_map(|i| (-1..=1).map(move |j| (i, j)));
        near.filter(|&(i, j)| inside(row + i, column + j)).map(|(i, j)| tap(i) * tap(j)).sum()
    };
    let weights = (-reach..=reach).flat_map(|row| (-reach..=reach).map(move |column| (row, column)));
    Kernel::normalized(weights.map(|(row, column)| smoothed(row, column)).collect(), reach)
}

/// Each channel convolved with a (symmetric) kernel, mirrored at the borders.
pub(super) fn convolve(image: &mut Vec<f64>, size: Size, kernel: &Kernel) {
    let Kernel { weights, radius } = kernel;
    let offsets = || -radius..=*radius;
    let mut out = Vec::with_capacity(image.len());
    for values in image.chunks_exact(size.plane_len()) {
        let plane = Plane::new(values, size.height, size.width);
        for row in 0..signed(size.height) {
            for column in 0..signed(size.width) {
                let near = offsets().flat_map(|i| offsets().map(move |j| plane.reflected(row + i, column + j)));
                out.push(near.zip(weights).map(|(x, weight)| x * weight).sum());
            }
        }
    }
    *image = out;
}

/// What a blur finds beyond the border.
#[derive(Clone, Copy)]
pub(super) enum Beyond {
    /// The outermost value.
    Repeated,
    /// The mirror image, the outermost value included.
    Mirrored,
}

/// Each channel blurred with a normal kernel of standard deviation `std`, cut at 4 deviations; the outermost values
/// are repeated beyond the borders (the defaults of the generator's image library).
pub(super) fn gaussian_blur(image: &mut [f64], size: Size, std: f64) {
    normal_blur(image, size, std, 4.0, Beyond::Repeated);
}

/// Each channel blurred with a normal kernel of standard deviation `std`, cut at `cut` deviations.
pub(super) fn normal_blur(image: &mut [f64], size: Size, std: f64, cut: f64, beyond: Beyond) {
    let radius = whole((cut * std + 0.5).floor());
    if radius == 0 {
        return;
    }
    let mut taps: Vec<f64> = (-radius..=radius).map(|i| libm::exp(-real(i).powi(2) / (2.0 * std * std))).collect();
    let total: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= total);
    let (height, width) = (size.height, size.width);
    let within = |i: isize, n: usize| match beyond {
        Beyond::Repeated => clamp(i, n),
        Beyond::Mirrored => mirror(i, n),
    };
    let blur = |values: &[f64], start: usize, stride: usize, position: usize, n: usize| -> f64 {
        let at = |i: isize| values[start + stride * within(signed(position) + i, n)];
        (-radius..=radius).zip(&taps).map(|(i, tap)| tap * at(i)).sum()
    };
    for plane in image.chunks_exact_mut(size.plane_len()) {
        for (start, stride, n, n_lines, step) in [(0, 1, width, height, width), (0, width, height, width, 1)] {
            let source = plane.to_vec();
            for line in 0..n_lines {
                let start = start + line * step;
                for position in 0..n {
                    plane[start + stride * position] = blur(&source, start, stride, position, n);
                }
            }
        }
    }
}

/// Glass: what lies behind appears a few pixels off. Blurred and stored as bytes; then, `rounds` times, every pixel
/// takes the value of one within `reach` before or behind it, row after row from the last; then blurred again.
///
/// The published images come from a generator that meant to swap the two pixels and, with three channels, copied one
/// onto the other; so does this.
pub(super) fn glass(image: &mut [f64], size: Size, std: f64, reach: usize, rounds: usize, stream: &mut Stream) {
    gaussian_blur(image, size, std);
    image.iter_mut().for_each(|x| *x = as_byte(*x));
    let draw = |stream: &mut Stream| stream.below(2 * reach as u64) as isize - signed(reach);
    let n = size.plane_len();
    for _ in 0..rounds {
        for row in (reach + 1..(size.height + 1).saturating_sub(reach)).rev() {
            for column in (reach + 1..(size.width + 1).saturating_sub(reach)).rev() {
                let (dx, dy) = (draw(stream), draw(stream));
                let from = clamp(signed(row) + dy, size.height) * size.width + clamp(signed(column) + dx, size.width);
                for channel in 0..size.channels {
                    image[channel * n + row * size.width + column] = image[channel * n + from];
                }
            }
        }
    }
    gaussian_blur(image, size, std);
}

/// Down to `scale` of the size by averaging whole pixels, and back by repeating them. Values become bytes after each
/// of the two directions, as in 8-bit image libraries.
pub(super) fn pixelate(image: &mut Vec<f64>, size: Size, scale: f64) {
    let small = |n: usize| whole((real(signed(n)) * scale).floor()).max(1).unsigned_abs();
    let (height, width) = (small(size.height), small(size.width));
    let mut out = Vec::with_capacity(image.len());
    for plane in image.chunks_exact(size.plane_len()) {
        let across: Vec<Vec<f64>> = plane.chunks_exact(size.width).map(|row| averaged(row, width)).collect();
        let columns = (0..width).map(|j| averaged(&across.iter().map(|row| row[j]).collect::<Vec<_>>(), height));
        let coarse: Vec<Vec<f64>> = columns.collect();
        for row in 0..size.height {
            let i = nearest(row, size.height, height);
            out.extend((0..size.width).map(|column| coarse[nearest(column, size.width, width)][i]));
        }
    }
    *image = out;
}

/// `n` averages over the pixels whose centers lie within each of `n` equal parts of the line, rounded to bytes.
fn averaged(line: &[f64], n: usize) -> Vec<f64> {
    let step = real(signed(line.len())) / real(signed(n));
    let part = |i: usize| {
        let center = (real(signed(i)) + 0.5) * step;
        let first = clamp(whole((center - step / 2.0 + 0.5).floor()), line.len());
        let end = clamp(whole((center + step / 2.0 + 0.5).floor()), line.len() + 1).max(first + 1);
        let pixels = &line[first..end];
        let mean = pixels.iter().sum::<f64>() / real(signed(pixels.len()));
        f64::from(truncated(mean + 0.5 / 255.0)) / 255.0
    };
    (0..n).map(part).collect()
}

/// The coarse pixel, of `n_small`, that lies under the center of pixel `i` of `n`.
fn nearest(i: usize, n: usize, n_small: usize) -> usize {
    ((2 * i + 1) * n_small / (2 * n)).min(n_small - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn a_disk_has_its_area() {
        for radius in [0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 3.7] {
            let reach = 5;
            let area: f64 = (-reach..=reach)
                .flat_map(|row| (-reach..=reach).map(move |column| shared_area(radius, row, column)))
                .sum();
            // The midpoint rule errs only in the strips at the poles: height 1/256, chord below sqrt(2 r / 256) each.
            let bound = 2.0 * (2.0 * radius / 256.0).sqrt() * 2.0 / 256.0;
            assert!((area - PI * radius * radius).abs() < bound, "radius {radius}: {area}");
        }
    }

    #[test]
    fn a_point_becomes_the_kernel() {
        let size = Size { channels: 1, height: 9, width: 9 };
        for kernel in [disk(1.6), aliased_disk(1.5, 0.1), aliased_disk(0.3, 0.4)] {
            let mut image = vec![0.0; 81];
            image[4 * 9 + 4] = 1.0;
            convolve(&mut image, size, &kernel);
            let side = 2 * kernel.radius + 1;
            for row in 0..side {
                for column in 0..side {
                    let x = image[((4 + row - kernel.radius) * 9 + 4 + column - kernel.radius) as usize];
                    assert_eq!(x.to_bits(), kernel.weights[(row * side + column) as usize].to_bits());
                }
            }
            assert!((kernel.weights.iter().sum::<f64>() - 1.0).abs() < 1e-15 * 49.0);
        }
    }

    #[test]
    fn aliased_disks_by_hand() {
        // Radius 1 holds the middle pixel and its four neighbors; a blur of 0.2 moves exp(-12.5) to the next.
        let kernel = aliased_disk(1.0, 0.2);
        let middle = kernel.weights[kernel.weights.len() / 2];
        assert!((middle - 0.2).abs() < 1e-4, "{middle}");
        // Radius 0.3 holds the middle pixel only: what is left is the 3 x 3 normal kernel.
        let tap = (-1.0f64 / (2.0 * 0.4 * 0.4)).exp();
        let kernel = aliased_disk(0.3, 0.4);
        assert!((kernel.weights[4] - 1.0 / (1.0 + 2.0 * tap).powi(2)).abs() < 1e-15);
        assert!((kernel.weights[1] - tap / (1.0 + 2.0 * tap).powi(2)).abs() < 1e-15);
    }

    #[test]
    fn gaussian_blur_of_a_point() {
        let size = Size { channels: 1, height: 11, width: 13 };
        let mut image = vec![0.0; 11 * 13];
        image[5 * 13 + 6] = 1.0;
        gaussian_blur(&mut image, size, 0.7);
        let variance = |weight: fn(usize) -> f64| -> f64 { image.iter().enumerate().map(|(i, x)| x * weight(i)).sum() };
        // The variance of the sampled, cut kernel, summed here from its definition.
        let taps: Vec<f64> = (-3..=3).map(|i| (-f64::from(i * i) / 0.98).exp()).collect();
        let expected =
            taps.iter().zip(-3..=3).map(|(t, i)| t * f64::from(i * i)).sum::<f64>() / taps.iter().sum::<f64>();
        assert!((variance(|i| ((i / 13) as f64 - 5.0).powi(2)) - expected).abs() < 1e-12);
        assert!((variance(|i| ((i % 13) as f64 - 6.0).powi(2)) - expected).abs() < 1e-12);
        assert!((variance(|_| 1.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn pixels_get_coarse() {
        // Four pixels at scale 0.5: two averages, each repeated twice.
        let size = Size { channels: 1, height: 1, width: 4 };
        let mut image: Vec<f64> = [10.0, 20.0, 100.0, 200.0].iter().map(|x| x / 255.0).collect();
        pixelate(&mut image, size, 0.5);
        let bytes: Vec<u8> = image.into_iter().map(truncated).collect();
        assert_eq!(bytes, [15, 15, 150, 150]);
    }
}
