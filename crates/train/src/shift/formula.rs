//! Which formula with which constants a shift is, for each family and severity.

use super::spatter::{Liquid, Spatter};
use super::warp::Elastic;
use super::weather::Snow;
use super::{Family, Severity, Shift};
use crate::data::DataError;

/// A shift with its constants. Values are in 0..1, lengths in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Formula {
    /// x + std · normal.
    Gaussian { std: f64 },
    /// Poisson(photons · x) / photons.
    Shot { photons: f64 },
    /// A share `amount` of the values becomes 0 or 1, each half of the time.
    Impulse { amount: f64 },
    /// x + x · std · normal.
    Speckle { std: f64 },
    /// Gain, then shot noise, then normal noise of standard deviation `read`.
    LowLight { gain: f64, photons: f64, read: f64 },
    /// Normal kernel.
    GaussianBlur { std: f64 },
    /// Disk kernel weighted by the area each pixel shares with the disk.
    Disk { radius: f64 },
    /// Disk kernel of whole pixels, smoothed by a 3 x 3 normal kernel.
    AliasedDisk { radius: f64, blur: f64 },
    /// Down to `scale` of the size and back.
    Pixelate { scale: f64 },
    /// (x − mean) · factor + mean.
    Contrast { factor: f64 },
    /// V of HSV plus `shift`.
    Brightness { shift: f64 },
    /// (x + strength · plasma) · max / (max + strength).
    Fog { strength: f64, decay: f64 },
    /// Blur, each pixel from up to `reach` places off, `rounds` times, blur.
    Glass { std: f64, reach: usize, rounds: usize },
    /// Half a normal kernel along a random angle within 45 degrees of the rows.
    Motion { radius: f64, std: f64 },
    /// Mean of the image and of zooms by 1, 1.01, 1.02, …
    Zoom { n_zooms: u32 },
    /// Flakes and light.
    Snow(Snow),
    /// mix[0] · x + mix[1] · texture.
    Frost { mix: [f64; 2] },
    /// An affine map and a displacement.
    Elastic(Elastic),
    /// A round trip at this quality.
    Jpeg { quality: i32 },
    /// Water or mud.
    Spatter(Spatter),
    /// S of HSV times `factor` plus `shift`.
    Saturate { factor: f64, shift: f64 },
}

impl Formula {
    /// The formula of a shift.
    ///
    /// Errors: [`DataError::Argument`] if the family has no constants for it.
    pub(super) fn of(shift: Shift, severity: Severity, family: Family) -> Result<Self, DataError> {
        let formula = match family {
            Family::Camera => Self::camera(shift, severity),
            Family::Cifar => Self::cifar(shift, severity),
        };
        formula.ok_or_else(|| {
            let level = Severity::ALL[0];
            let has = |family: &Family| match family {
                Family::Camera => Self::camera(shift, level).is_some(),
                Family::Cifar => Self::cifar(shift, level).is_some(),
            };
            let families: Vec<&str> = Family::ALL.iter().filter(|family| has(family)).map(|f| f.name()).collect();
            DataError::argument(
                "shift",
                format!("a family with constants for {shift} ({})", families.join(", ")),
                family,
                "choose that family or another shift",
            )
        })
    }

    /// Noise: the ImageNet-C constants. The others were chosen for images of 28 or 32 pixels.
    fn camera(shift: Shift, severity: Severity) -> Option<Self> {
        Some(match shift {
            Shift::Gaussian => Self::Gaussian { std: severity.pick(&[0.08, 0.12, 0.18, 0.26, 0.38]) },
            Shift::Contrast => Self::Contrast { factor: severity.pick(&[0.4, 0.3, 0.2, 0.1, 0.05]) },
            Shift::Defocus => Self::Disk { radius: severity.pick(&[0.6, 0.9, 1.2, 1.6, 2.0]) },
            Shift::Fog => Self::Fog { strength: severity.pick(&[0.5, 0.8, 1.1, 1.4, 1.8]), decay: 2.0 },
            Shift::LowLight => Self::LowLight {
                gain: severity.pick(&[0.6, 0.45, 0.35, 0.25, 0.18]),
                photons: severity.pick(&[400.0, 250.0, 150.0, 100.0, 60.0]),
                read: severity.pick(&[0.005, 0.01, 0.015, 0.02, 0.03]),
            },
            _ => return None,
        })
    }

    /// The constants of CIFAR-10-C's generator.
    fn cifar(shift: Shift, severity: Severity) -> Option<Self> {
        Some(match shift {
            Shift::Gaussian => Self::Gaussian { std: severity.pick(&[0.04, 0.06, 0.08, 0.09, 0.10]) },
            Shift::Shot => Self::Shot { photons: severity.pick(&[500.0, 250.0, 100.0, 75.0, 50.0]) },
            Shift::Impulse => Self::Impulse { amount: severity.pick(&[0.01, 0.02, 0.03, 0.05, 0.07]) },
            Shift::Speckle => Self::Speckle { std: severity.pick(&[0.06, 0.10, 0.12, 0.16, 0.20]) },
            Shift::GaussianBlur => Self::GaussianBlur { std: severity.pick(&[0.4, 0.6, 0.7, 0.8, 1.0]) },
            Shift::Defocus => {
                let (radius, blur) = severity.pick(&[(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)]);
                Self::AliasedDisk { radius, blur }
            }
            Shift::Contrast => Self::Contrast { factor: severity.pick(&[0.75, 0.5, 0.4, 0.3, 0.15]) },
            Shift::Brightness => Self::Brightness { shift: severity.pick(&[0.05, 0.1, 0.15, 0.2, 0.3]) },
            Shift::Fog => {
                let (strength, decay) = severity.pick(&[(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)]);
                Self::Fog { strength, decay }
            }
            Shift::Pixelate => Self::Pixelate { scale: severity.pick(&[0.95, 0.9, 0.85, 0.75, 0.65]) },
            Shift::Glass => {
                let (std, reach, rounds) =
                    severity.pick(&[(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)]);
                Self::Glass { std, reach, rounds }
            }
            Shift::Motion => {
                let (radius, std) = severity.pick(&[(6.0, 1.0), (6.0, 1.5), (6.0, 2.0), (8.0, 2.0), (9.0, 2.5)]);
                Self::Motion { radius, std }
            }
            // Up to 1.06, 1.11, 1.15, 1.20 and 1.25: ranges that round up to one zoom more where their length does.
            Shift::Zoom => Self::Zoom { n_zooms: severity.pick(&[7, 12, 16, 21, 26]) },
            Shift::Snow => Self::Snow(severity.pick(&[
                snow((0.1, 0.2), 1.0, 0.6, (8.0, 3.0), 0.95),
                snow((0.1, 0.2), 1.0, 0.5, (10.0, 4.0), 0.9),
                snow((0.15, 0.3), 1.75, 0.55, (10.0, 4.0), 0.9),
                snow((0.25, 0.3), 2.25, 0.6, (12.0, 6.0), 0.85),
                snow((0.3, 0.3), 1.25, 0.65, (14.0, 12.0), 0.8),
            ])),
            Shift::Frost => {
                Self::Frost { mix: severity.pick(&[[1.0, 0.2], [1.0, 0.3], [0.9, 0.4], [0.85, 0.4], [0.75, 0.45]]) }
            }
            Shift::Elastic => {
                let (strength, smooth, corners) = severity.pick(&[
                    (0.0, 0.0, 0.08),
                    (0.05, 0.2, 0.07),
                    (0.08, 0.06, 0.06),
                    (0.1, 0.04, 0.05),
                    (0.1, 0.03, 0.03),
                ]);
                Self::Elastic(Elastic { strength, smooth, corners })
            }
            Shift::Jpeg => Self::Jpeg { quality: severity.pick(&[80, 65, 58, 50, 40]) },
            Shift::Spatter => Self::Spatter(severity.pick(&[
                spatter((0.62, 0.1), 0.7, 0.7, Liquid::Water(0.5)),
                spatter((0.65, 0.1), 0.8, 0.7, Liquid::Water(0.5)),
                spatter((0.65, 0.3), 1.0, 0.69, Liquid::Water(0.5)),
                spatter((0.65, 0.1), 0.7, 0.69, Liquid::Mud(0.6)),
                spatter((0.65, 0.1), 0.5, 0.68, Liquid::Mud(0.6)),
            ])),
            Shift::Saturate => {
                let (factor, shift) = severity.pick(&[(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)]);
                Self::Saturate { factor, shift }
            }
            Shift::LowLight => return None,
        })
    }
}

fn snow(flakes: (f64, f64), zoom: f64, threshold: f64, motion: (f64, f64), keep: f64) -> Snow {
    Snow { flakes, zoom, threshold, motion, keep }
}

fn spatter(drops: (f64, f64), smooth: f64, threshold: f64, liquid: Liquid) -> Spatter {
    Spatter { drops, smooth, threshold, liquid }
}
