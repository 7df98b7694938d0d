//! Contrast, brightness and saturation: the same curve for every pixel of an image.

use super::Size;

/// (x − m) · factor + m, with m the mean of the channel.
pub(super) fn contrast(image: &mut [f64], size: Size, factor: f64) {
    for plane in image.chunks_exact_mut(size.plane_len()) {
        #[expect(clippy::cast_precision_loss, reason = "pixels of an image, far below 2^53")]
        let mean = plane.iter().sum::<f64>() / plane.len() as f64;
        plane.iter_mut().for_each(|x| *x = (*x - mean) * factor + mean);
    }
}

/// V of HSV (the largest channel) plus `shift`, at most 1, hue and saturation kept: all channels grow in proportion.
/// Black has no hue and becomes gray. A gray image just gets `shift` added.
pub(super) fn brightness(image: &mut [f64], size: Size, shift: f64) {
    let n = size.plane_len();
    for i in 0..n {
        let positions = (0..size.channels).map(|channel| channel * n + i);
        let value = positions.clone().map(|at| image[at]).fold(0.0, f64::max);
        let brighter = (value + shift).min(1.0);
        for at in positions {
            image[at] = if value > 0.0 { image[at] * brighter / value } else { brighter };
        }
    }
}

/// Weights of red, green and blue in the luma (ITU-R BT.601).
pub(super) const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

/// Luma of each pixel; a gray image is its own.
pub(super) fn luma(image: &[f64], size: Size) -> Vec<f64> {
    let n = size.plane_len();
    match size.channels {
        3 => (0..n).map(|i| (0..3).map(|channel| LUMA[channel] * image[channel * n + i]).sum()).collect(),
        _ => image.to_vec(),
    }
}

/// S of HSV times `factor` plus `shift`, within 0..1, of an image of red, green and blue: hue and the largest channel
/// are kept. Gray has the hue of red, as in the generator's library.
pub(super) fn saturate(image: &mut [f64], size: Size, factor: f64, shift: f64) {
    let n = size.plane_len();
    for i in 0..n {
        let pixel = [image[i], image[n + i], image[2 * n + i]];
        let (low, high) = pixel.iter().fold((1.0_f64, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
        if high <= 0.0 {
            continue;
        }
        let saturation = (high - low) / high;
        let wanted = (saturation * factor + shift).clamp(0.0, 1.0);
        for (channel, x) in pixel.into_iter().enumerate() {
            image[channel * n + i] = if saturation > 0.0 {
                // Every channel's distance to the largest grows with the saturation.
                high - (high - x) * wanted / saturation
            } else if channel == 0 {
                high
            } else {
                high * (1.0 - wanted)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXEL: Size = Size { channels: 3, height: 1, width: 1 };

    #[test]
    fn contrast_keeps_the_mean_of_each_channel() {
        let mut image = [0.0, 1.0, 0.2, 0.6];
        contrast(&mut image, Size { channels: 2, height: 1, width: 2 }, 0.5);
        for (found, expected) in image.iter().zip([0.25, 0.75, 0.3, 0.5]) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn brightness_keeps_hue_and_saturation() {
        for (before, after) in
            [([0.4, 0.2, 0.1], [0.6, 0.3, 0.15]), ([0.9, 0.45, 0.0], [1.0, 0.5, 0.0]), ([0.0; 3], [0.2; 3])]
        {
            let mut image = before;
            brightness(&mut image, PIXEL, 0.2);
            for (found, expected) in image.iter().zip(after) {
                assert!((found - expected).abs() < 1e-15, "{image:?}");
            }
        }
    }

    #[test]
    fn saturation_keeps_the_largest_channel_and_the_hue() {
        for ([factor, shift], before, after) in [
            ([0.5, 0.0], [0.8, 0.4, 0.6], [0.8, 0.6, 0.7]),
            ([2.0, 0.0], [0.8, 0.4, 0.6], [0.8, 0.0, 0.4]),
            ([9.0, 0.5], [0.8, 0.4, 0.6], [0.8, 0.0, 0.4]),
            ([2.0, 0.1], [0.5, 0.5, 0.5], [0.5, 0.45, 0.45]),
            ([2.0, 0.2], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ] {
            let mut image = before;
            saturate(&mut image, PIXEL, factor, shift);
            for (found, expected) in image.iter().zip(after) {
                assert!((found - expected).abs() < 1e-15, "{image:?}");
            }
        }
    }
}
