//! Shifts: what a camera, a sensor or the weather does to images, in five severities.
//!
//! D. Hendrycks, T. Dietterich: Benchmarking neural network robustness to common corruptions and perturbations
//! (ICLR 2019). Every shift is a function of (seed, image position, shift, severity): the same pixels on every
//! platform and for any number of threads.
//!
//! The position is the image's index in the set given, so shift a whole set first and select from it after:
//! then an image meets the same noise in the subset as in the whole.

mod edges;
mod fog;
mod formula;
mod frost;
mod jpeg;
mod motion;
mod name;
mod noise;
mod optics;
mod plane;
mod spatter;
mod stretch;
mod tone;
mod warp;
mod weather;

pub use frost::Frost;
pub use name::{Family, Severity, Shift};
pub use stretch::{stretch, stretch_all};

use rayon::prelude::*;

use crate::data::rng::{Philox, Stream};
use crate::data::{DataError, Images};
use formula::Formula;

/// The images after `shift`, clipped to 0..1 and stored as `trunc(255 x)`, labels and order kept.
///
/// ```
/// # use acclimate_train::{data::{DataError, Images}, shift::{self, Family, Severity, Shift}};
/// # fn main() -> Result<(), DataError> {
/// let clean = Images::new(vec![128; 28 * 28], vec![0], [1, 28, 28], 10)?;
/// let noisy = shift::apply(&clean, Shift::Gaussian, Severity::new(5)?, Family::Camera, 7)?;
/// assert_ne!(noisy.pixels(), clean.pixels());
/// # Ok(()) }
/// ```
///
/// [`Shift::Frost`] lays drawn textures over the images ([`Frost::drawn`]); [`apply_with`] takes others.
///
/// # Errors
/// [`DataError::Argument`] if the family has no constants for this shift, or the shift is not defined for the
/// number of channels (see [`Shift::channels`]).
pub fn apply(
    images: &Images,
    shift: Shift,
    severity: Severity,
    family: Family,
    seed: u64,
) -> Result<Images, DataError> {
    apply_with(images, shift, severity, family, seed, None)
}

/// [`apply`] with textures for [`Shift::Frost`].
///
/// # Errors
/// Those of [`apply`].
pub fn apply_with(
    images: &Images,
    shift: Shift,
    severity: Severity,
    family: Family,
    seed: u64,
    textures: Option<&Frost>,
) -> Result<Images, DataError> {
    let formula = Formula::of(shift, severity, family)?;
    if let Some(channels) = shift.channels().filter(|channels| !channels.contains(&images.channels())) {
        return Err(DataError::argument(
            "channels of the images to shift",
            format!("{channels:?} for {shift}"),
            images.channels(),
            "select the color channels, or choose another shift",
        ));
    }
    let drawn;
    let textures = match (textures, shift) {
        (Some(textures), _) => Some(textures),
        (None, Shift::Frost) => {
            drawn = Frost::drawn();
            Some(&drawn)
        }
        (None, _) => None,
    };
    let philox = Philox::from_seed(seed).fold_name(shift.name()).fold(u32::from(severity.level()));
    let size = Size { channels: images.channels(), height: images.height(), width: images.width() };
    let mut pixels = images.pixels().to_vec();
    pixels.par_chunks_mut(images.image_len()).enumerate().for_each(|(i, bytes)| {
        let mut image: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();
        formula.shift(&mut image, size, &mut philox.stream(i as u64), textures);
        for (byte, x) in bytes.iter_mut().zip(image) {
            *byte = truncated(x);
        }
    });
    Ok(images.with_pixels(pixels))
}

/// The extent of one image.
#[derive(Clone, Copy, Debug)]
struct Size {
    channels: usize,
    height: usize,
    width: usize,
}

impl Size {
    fn plane_len(self) -> usize {
        self.height * self.width
    }
}

impl Formula {
    /// Shifts one image, [channels, height, width] in 0..1. What leaves 0..1 is clipped when it is stored.
    fn shift(&self, image: &mut Vec<f64>, size: Size, stream: &mut Stream, textures: Option<&Frost>) {
        match *self {
            Self::Gaussian { std } => noise::gaussian(image, std, stream),
            Self::Shot { photons } => noise::shot(image, photons, stream),
            Self::Impulse { amount } => noise::impulse(image, amount, stream),
            Self::Speckle { std } => noise::speckle(image, std, stream),
            Self::LowLight { gain, photons, read } => {
                image.iter_mut().for_each(|x| *x *= gain);
                noise::shot(image, photons, stream);
                noise::gaussian(image, read, stream);
            }
            Self::GaussianBlur { std } => optics::gaussian_blur(image, size, std),
            Self::Disk { radius } => optics::convolve(image, size, &optics::disk(radius)),
            Self::AliasedDisk { radius, blur } => optics::convolve(image, size, &optics::aliased_disk(radius, blur)),
            Self::Pixelate { scale } => optics::pixelate(image, size, scale),
            Self::Contrast { factor } => tone::contrast(image, size, factor),
            Self::Brightness { shift } => tone::brightness(image, size, shift),
            Self::Fog { strength, decay } => fog::fog(image, size, strength, decay, stream),
            Self::Glass { std, reach, rounds } => optics::glass(image, size, std, reach, rounds, stream),
            Self::Motion { radius, std } => {
                let angle = -45.0 + 90.0 * stream.uniform_f64();
                motion::motion(image, size, (radius, std), angle);
            }
            Self::Zoom { n_zooms } => warp::zoom_blur(image, size, n_zooms),
            Self::Snow(snow) => weather::snow(image, size, snow, stream),
            Self::Frost { mix } => {
                if let Some(textures) = textures {
                    weather::frost(image, size, mix, textures, stream);
                }
            }
            Self::Elastic(rubber) => warp::elastic(image, size, rubber, stream),
            Self::Jpeg { quality } => jpeg::jpeg(image, size, quality),
            Self::Spatter(spatter) => spatter::spatter(image, size, spatter, stream),
            Self::Saturate { factor, shift } => tone::saturate(image, size, factor, shift),
        }
    }
}

/// 0..1 to a byte: clipped, then truncated, as the published corrupted data sets were stored.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clipped to 0..=255, and truncation is meant"
)]
fn truncated(x: f64) -> u8 {
    // Sums of a few hundred terms in f64 err by 1e-13; without this margin a flat 128 could become 127.
    const ROUNDING: f64 = 1e-9;
    (255.0 * x.clamp(0.0, 1.0) + ROUNDING) as u8
}

/// [`truncated`], as a number in 0..1: what a step in between stores as a byte.
fn as_byte(x: f64) -> f64 {
    f64::from(truncated(x)) / 255.0
}
