//! Spatter: water or mud on the lens.

use super::edges::{Gray, canny, distances, equalized};
use super::optics::gaussian_blur;
use super::plane::{Plane, signed};
use super::tone::LUMA;
use super::{Size, truncated};
use crate::data::rng::Stream;

/// Constants of [`spatter`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spatter {
    /// Mean and standard deviation of the noise that drops are made of.
    pub drops: (f64, f64),
    /// Standard deviation of the kernel that rounds them.
    pub smooth: f64,
    /// What is thinner is dry.
    pub threshold: f64,
    /// What they are of.
    pub liquid: Liquid,
}

/// What splashes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Liquid {
    /// Pale turquoise that refracts: bright where drops end. At most this bright.
    Water(f64),
    /// Brown that covers. Blurred with this standard deviation.
    Mud(f64),
}

const WATER: [f64; 3] = [175.0 / 255.0, 238.0 / 255.0, 238.0 / 255.0];
const MUD: [f64; 3] = [63.0 / 255.0, 42.0 / 255.0, 20.0 / 255.0];
/// Water further from its edge is equally bright, in pixels.
const MOST: f64 = 20.0;

/// Applies [`Spatter`]. Draws: one normal for each pixel.
pub(super) fn spatter(image: &mut [f64], size: Size, spatter: Spatter, stream: &mut Stream) {
    let (mean, std) = spatter.drops;
    let one = Size { channels: 1, ..size };
    let mut layer: Vec<f64> = (0..size.plane_len()).map(|_| mean + std * stream.normal()).collect();
    gaussian_blur(&mut layer, one, spatter.smooth);
    layer.iter_mut().for_each(|x| *x = if *x < spatter.threshold { 0.0 } else { *x });
    let (cover, color, keeps) = match spatter.liquid {
        Liquid::Water(most) => (water(&layer, size, most), WATER, 0.0),
        Liquid::Mud(smooth) => {
            layer.iter_mut().for_each(|x| *x = if *x > spatter.threshold { 1.0 } else { 0.0 });
            gaussian_blur(&mut layer, one, smooth);
            layer.iter_mut().for_each(|x| *x = if *x < 0.8 { 0.0 } else { *x });
            (layer, MUD, 1.0)
        }
    };
    for (channel, plane) in image.chunks_exact_mut(size.plane_len()).enumerate() {
        let shade = match size.channels {
            3 => color[channel],
            _ => color.iter().zip(LUMA).map(|(color, weight)| color * weight).sum(),
        };
        plane.iter_mut().zip(&cover).for_each(|(x, cover)| *x = *x * (1.0 - keeps * cover) + cover * shade);
    }
}

/// How bright the water shines at each pixel: thickness times a relief of the distance to the nearest edge.
fn water(layer: &[f64], size: Size, most: f64) -> Vec<f64> {
    let bytes: Vec<u8> = layer.iter().map(|&x| truncated(x)).collect();
    let gray = Gray { values: bytes, height: size.height, width: size.width };
    let distance = distances(&canny(&gray, 50, 150), size.height, size.width, MOST);
    let (height, width) = (size.height, size.width);
    let mean = |values: &[f64]| filtered(values, height, width, &[1.0; 9], 9.0);
    let near: Vec<u8> = mean(&distance).iter().map(|&x| truncated(x / 255.0)).collect();
    let flat: Vec<f64> = equalized(&near).iter().map(|&x| f64::from(x)).collect();
    let relief = filtered(&flat, height, width, &[-2.0, -1.0, 0.0, -1.0, 1.0, 1.0, 0.0, 1.0, 2.0], 1.0);
    let relief: Vec<f64> = relief.iter().map(|x| x.clamp(0.0, 255.0)).collect();
    let shine: Vec<f64> =
        mean(&relief).iter().zip(&gray.values).map(|(relief, &wet)| relief.round() * f64::from(wet)).collect();
    let brightest = shine.iter().copied().fold(0.0, f64::max);
    // Without any water there is nothing to scale.
    let scale = if brightest > 0.0 { most / brightest } else { 0.0 };
    shine.iter().map(|x| x * scale).collect()
}

/// Σ weight · neighbor / total over 3 x 3 neighbors, mirrored at the outermost pixel.
fn filtered(values: &[f64], height: usize, width: usize, weights: &[f64; 9], total: f64) -> Vec<f64> {
    let plane = Plane::new(values, height, width);
    let mut out = Vec::with_capacity(values.len());
    for row in 0..signed(height) {
        for column in 0..signed(width) {
            let near = (-1..=1).flat_map(|i| (-1..=1).map(move |j| (i, j)));
            let sum: f64 =
                near.zip(weights).map(|((i, j), weight)| weight * plane.reflected(row + i, column + j)).sum();
            out.push(sum / total);
        }
    }
    out
}
