//! Which formula with which constants a shift is, for each family and severity.

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
            Shift::LowLight => return None,
        })
    }
}
