//! Noise: independent draws for every value of an image. Clipping to 0..1 is the caller's, except between two noises.

use crate::data::rng::Stream;

/// x + std · normal.
pub(super) fn gaussian(image: &mut [f64], std: f64, stream: &mut Stream) {
    image.iter_mut().for_each(|x| *x += std * stream.normal());
}

/// Poisson(photons · x) / photons: `photons` is what a white pixel collects.
pub(super) fn shot(image: &mut [f64], photons: f64, stream: &mut Stream) {
    image.iter_mut().for_each(|x| *x = stream.poisson(photons * *x) / photons);
}

/// A share `amount` of the values becomes 0 or 1, each half of the time; channels on their own.
pub(super) fn impulse(image: &mut [f64], amount: f64, stream: &mut Stream) {
    for x in image {
        let hit = f64::from(stream.uniform()) < amount;
        let white = stream.uniform() < 0.5;
        if hit {
            *x = if white { 1.0 } else { 0.0 };
        }
    }
}

/// x + x · std · normal.
pub(super) fn speckle(image: &mut [f64], std: f64, stream: &mut Stream) {
    image.iter_mut().for_each(|x| *x += *x * std * stream.normal());
}
