//! Snow and frost: what falls through the image, and what grows on the lens.

use super::frost::Frost;
use super::motion::motion;
use super::tone::luma;
use super::warp::zoomed;
use super::{Size, as_byte};
use crate::data::rng::Stream;

/// Constants of [`snow`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Snow {
    /// Mean and standard deviation of the noise that flakes are made of.
    pub flakes: (f64, f64),
    /// How large they are.
    pub zoom: f64,
    /// What is darker is no flake.
    pub threshold: f64,
    /// Radius and standard deviation of their motion.
    pub motion: (f64, f64),
    /// The share of the image that keeps its tone; the rest turns as white as snow light makes it.
    pub keep: f64,
}

/// Flakes fall (45 degrees about straight down) over the image, and once more turned by 180 degrees, in an image whose
/// dark parts are lit. Draws: one normal for each pixel, then the angle.
pub(super) fn snow(image: &mut [f64], size: Size, snow: Snow, stream: &mut Stream) {
    let (mean, std) = snow.flakes;
    let noise: Vec<f64> = (0..size.plane_len()).map(|_| mean + std * stream.normal()).collect();
    let mut layer = zoomed(&noise, size.height, size.width, snow.zoom);
    layer.iter_mut().for_each(|x| *x = if *x < snow.threshold { 0.0 } else { as_byte(*x) });
    let angle = -135.0 + 90.0 * stream.uniform_f64();
    motion(&mut layer, Size { channels: 1, ..size }, snow.motion, angle);
    let light = luma(image, size);
    for plane in image.chunks_exact_mut(size.plane_len()) {
        // A layer turned by 180 degrees is the layer read backwards.
        for ((x, light), (layer, turned)) in plane.iter_mut().zip(&light).zip(layer.iter().zip(layer.iter().rev())) {
            *x = snow.keep * *x + (1.0 - snow.keep) * x.max(1.5 * light + 0.5) + layer + turned;
        }
    }
}

/// share · x + cover · texture, with the texture a random part of a random one of `textures`. Draws: which, row, column.
pub(super) fn frost(image: &mut [f64], size: Size, [share, cover]: [f64; 2], textures: &Frost, stream: &mut Stream) {
    let part = textures.part(size, stream);
    image.iter_mut().zip(part).for_each(|(x, texture)| *x = share * *x + cover * texture);
}
