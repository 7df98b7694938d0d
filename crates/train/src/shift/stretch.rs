//! The honest cheap baseline: a closed-form stretch of an image's own range.

use rayon::prelude::*;

use crate::data::Images;

/// Below one 8-bit step there is nothing to stretch but the quantization.
const SMALLEST_RANGE: f32 = 1.0 / 255.0;

/// Stretches one image in 0..1 (all channels together) in place:
/// x → (x − p5) / (p98 − p5), clipped to 0..1, with p5 and p98 the 5th and 98th percentile of its values
/// (linear between neighbors). An image whose percentiles are less than 1/255 apart stays as it is, and so does one
/// that holds a value that is not finite.
pub fn stretch(image: &mut [f32]) {
    if image.is_empty() || image.iter().any(|x| !x.is_finite()) {
        return;
    }
    let mut sorted = image.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let (low, high) = (percentile(&sorted, 5), percentile(&sorted, 98));
    if high - low < SMALLEST_RANGE {
        return;
    }
    image.iter_mut().for_each(|x| *x = ((*x - low) / (high - low)).clamp(0.0, 1.0));
}

/// [`stretch`] of every image, rounded to the nearest byte.
pub fn stretch_all(images: &Images) -> Images {
    let mut pixels = images.pixels().to_vec();
    pixels.par_chunks_mut(images.image_len()).for_each(|bytes| {
        let mut image: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
        stretch(&mut image);
        for (byte, x) in bytes.iter_mut().zip(image) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=255 and rounded")]
            let rounded = (255.0 * x).round() as u8;
            *byte = rounded;
        }
    });
    images.with_pixels(pixels)
}

/// The value below which `percent` of the sorted values lie, linear between neighbors.
#[expect(clippy::cast_precision_loss, reason = "a remainder below 100")]
fn percentile(sorted: &[f32], percent: usize) -> f32 {
    // In hundredths of a position, to stay exact.
    let hundredths = percent * (sorted.len() - 1);
    let (below, rest) = (hundredths / 100, hundredths % 100);
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (rest as f32 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_linear_between_neighbors() {
        let sorted: Vec<f32> = (0..101).map(|i| i as f32).collect();
        assert_eq!((percentile(&sorted, 5), percentile(&sorted, 98)), (5.0, 98.0));
        assert_eq!(percentile(&[0.0, 1.0], 5), 0.05);
        assert_eq!(percentile(&[3.0], 98), 3.0);
    }

    #[test]
    fn stretch_undoes_contrast_gain_and_offset() {
        let clean: Vec<f32> = (0..784).map(|i| ((i * 37) % 784) as f32 / 783.0).collect();
        let mut expected = clean.clone();
        stretch(&mut expected);
        for (gain, offset) in [(0.05, 0.4), (0.3, 0.0), (0.5, 0.5)] {
            let mut image: Vec<f32> = clean.iter().map(|x| gain * x + offset).collect();
            stretch(&mut image);
            // Values near 0.5 carry errors of 2^-24, which the stretch multiplies by 1 / gain.
            let bound = 8.0 * f32::EPSILON / gain;
            assert!(image.iter().zip(&expected).all(|(a, b)| (a - b).abs() < bound), "gain {gain}");
        }
    }

    #[test]
    fn flat_empty_and_broken_images_stay_as_they_are() {
        for image in [vec![], vec![0.3; 10], vec![0.0, f32::NAN, 1.0], vec![0.5, 0.503]] {
            let mut stretched = image.clone();
            stretch(&mut stretched);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&stretched), bits(&image));
        }
        let images = Images::new(vec![7, 7, 10, 20], vec![0, 0], [1, 1, 2], 1).unwrap();
        assert_eq!(stretch_all(&images).pixels(), [7, 7, 0, 255]);
    }
}
