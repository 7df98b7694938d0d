//! Motion: every pixel leaves a trail.

use super::plane::{clamp, real, signed, whole};
use super::{Size, as_byte};

/// Each channel smeared along `angle` (degrees): the value of a pixel is the mean of the values at 0, 1, … `2 radius`
/// steps along the angle, with the weights of half a normal kernel; positions are rounded to whole pixels (halves
/// down), the outermost values are repeated beyond the borders, and the result is rounded to bytes, all as the
/// generator's image library does it.
pub(super) fn motion(image: &mut [f64], size: Size, (radius, std): (f64, f64), angle: f64) {
    let n_taps = 2 * whole(radius.ceil()) + 1;
    let weights: Vec<f64> = (0..n_taps).map(|i| libm::exp(-real(i).powi(2) / (2.0 * std * std))).collect();
    let total: f64 = weights.iter().sum();
    let (sin, cos) = (libm::sin(angle.to_radians()), libm::cos(angle.to_radians()));
    let steps: Vec<(isize, isize, f64)> = (0..n_taps)
        .zip(weights)
        .map(|(i, weight)| (whole((real(i) * sin - 0.5).ceil()), whole((real(i) * cos - 0.5).ceil()), weight / total))
        .collect();
    for plane in image.chunks_exact_mut(size.plane_len()) {
        let source = plane.to_vec();
        let at = |row: isize, column: isize| source[clamp(row, size.height) * size.width + clamp(column, size.width)];
        for row in 0..size.height {
            for column in 0..size.width {
                let trail = steps.iter().map(|(down, across, w)| w * at(signed(row) + down, signed(column) + across));
                plane[row * size.width + column] = as_byte(trail.sum::<f64>() + 0.5 / 255.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_leaves_a_trail_along_the_angle() {
        let size = Size { channels: 1, height: 9, width: 9 };
        let trail = |angle: f64| -> Vec<usize> {
            let mut image = vec![0.0; 81];
            image[4 * 9 + 4] = 1.0;
            motion(&mut image, size, (3.0, 5.0), angle);
            image.iter().enumerate().filter(|(_, x)| **x > 0.0).map(|(i, _)| i).collect()
        };
        // A pixel looks ahead along the angle, so what is bright lies behind.
        assert_eq!(trail(0.0), (36..=40).collect::<Vec<_>>());
        assert_eq!(trail(90.0), (0..=4).map(|row| row * 9 + 4).collect::<Vec<_>>());
        assert_eq!(trail(-90.0), (4..=8).map(|row| row * 9 + 4).collect::<Vec<_>>());
    }
}
