//! The names of shifts, their severities, and the families of constants.

use std::fmt;
use std::str::FromStr;

use crate::data::DataError;

/// What happens to the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shift {
    /// Independent normal noise on every value.
    Gaussian,
    /// Poisson noise of few photons.
    Shot,
    /// Values replaced by black or white ("salt and pepper").
    Impulse,
    /// Normal noise proportional to the value.
    Speckle,
    /// Blur with a normal kernel.
    GaussianBlur,
    /// Blur with a disk, as a lens out of focus.
    Defocus,
    /// Values drawn towards the image's mean, per channel.
    Contrast,
    /// A constant added to the brightness (V of HSV).
    Brightness,
    /// A random veil of plasma clouds.
    Fog,
    /// Fewer, larger pixels.
    Pixelate,
    /// Pixels that appear a few places off, as behind frosted glass.
    Glass,
    /// A trail along a random direction.
    Motion,
    /// The mean of several zooms.
    Zoom,
    /// Falling flakes, and the light of snow.
    Snow,
    /// Ice on the lens. See [`super::Frost`] for its textures.
    Frost,
    /// A random affine map and a smooth random displacement.
    Elastic,
    /// A round trip through a JPEG file.
    Jpeg,
    /// Water or mud on the lens.
    Spatter,
    /// Paler or stronger colors (S of HSV).
    Saturate,
    /// Too little light: a small gain, photon noise, and noise of the read-out.
    LowLight,
}

impl Shift {
    /// Every shift.
    pub const ALL: [Self; 20] = [
        Self::Gaussian,
        Self::Shot,
        Self::Impulse,
        Self::Speckle,
        Self::GaussianBlur,
        Self::Defocus,
        Self::Contrast,
        Self::Brightness,
        Self::Fog,
        Self::Pixelate,
        Self::Glass,
        Self::Motion,
        Self::Zoom,
        Self::Snow,
        Self::Frost,
        Self::Elastic,
        Self::Jpeg,
        Self::Spatter,
        Self::Saturate,
        Self::LowLight,
    ];

    /// The fifteen common corruptions, in the order of the benchmark's tables.
    pub const COMMON: [Self; 15] = [
        Self::Gaussian,
        Self::Shot,
        Self::Impulse,
        Self::Defocus,
        Self::Glass,
        Self::Motion,
        Self::Zoom,
        Self::Snow,
        Self::Frost,
        Self::Fog,
        Self::Brightness,
        Self::Contrast,
        Self::Elastic,
        Self::Pixelate,
        Self::Jpeg,
    ];

    /// The benchmark's four extra corruptions, for choosing constants of a method.
    pub const EXTRA: [Self; 4] = [Self::Speckle, Self::GaussianBlur, Self::Spatter, Self::Saturate];

    /// The five shifts that [`Family::Camera`] has constants for, in the order of its tables.
    pub const CAMERA: [Self; 5] = [Self::Gaussian, Self::Contrast, Self::Defocus, Self::Fog, Self::LowLight];

    /// The name that is printed and parsed, for example `low_light`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Shot => "shot",
            Self::Impulse => "impulse",
            Self::Speckle => "speckle",
            Self::GaussianBlur => "gaussian_blur",
            Self::Defocus => "defocus",
            Self::Contrast => "contrast",
            Self::Brightness => "brightness",
            Self::Fog => "fog",
            Self::Pixelate => "pixelate",
            Self::Glass => "glass",
            Self::Motion => "motion",
            Self::Zoom => "zoom",
            Self::Snow => "snow",
            Self::Frost => "frost",
            Self::Elastic => "elastic",
            Self::Jpeg => "jpeg",
            Self::Spatter => "spatter",
            Self::Saturate => "saturate",
            Self::LowLight => "low_light",
        }
    }

    /// How many channels an image must have, for shifts that ask for a color; none for the others.
    pub fn channels(self) -> Option<&'static [usize]> {
        match self {
            Self::Brightness | Self::Snow | Self::Frost | Self::Jpeg | Self::Spatter => Some(&[1, 3]),
            Self::Saturate => Some(&[3]),
            _ => None,
        }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Shift {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        by_name("shift", name, &Self::ALL, Self::name)
    }
}

/// How strong: 1 (weakest) to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(u8);

impl Severity {
    /// Every severity, weakest first.
    pub const ALL: [Self; 5] = [Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// Severity `level`.
    ///
    /// # Errors
    /// [`DataError::Argument`] unless the level is 1 to 5.
    pub fn new(level: u8) -> Result<Self, DataError> {
        if (1..=5).contains(&level) { Ok(Self(level)) } else { Err(not_a_severity(level)) }
    }

    /// The level, 1 to 5.
    pub fn level(self) -> u8 {
        self.0
    }

    /// This severity's entry of a row of constants.
    pub(super) fn pick<T: Copy>(self, row: &[T; 5]) -> T {
        row[usize::from(self.0 - 1)]
    }
}

fn not_a_severity(found: impl ToString) -> DataError {
    DataError::argument("severity", "1, 2, 3, 4 or 5", found, "5 is the strongest")
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Severity {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        text.parse().map_err(|_| not_a_severity(text)).and_then(Self::new)
    }
}

/// Which published constants belong to the severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// A camera in the world, for small images of 28 or 32 pixels: [`Shift::CAMERA`].
    Camera,
    /// The generator of CIFAR-10-C (Hendrycks and Dietterich 2019): all but [`Shift::LowLight`].
    Cifar,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Camera, Self::Cifar];

    /// The name that is printed and parsed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Cifar => "cifar",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Family {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        by_name("family of shifts", name, &Self::ALL, Self::name)
    }
}

fn by_name<T: Copy>(what: &'static str, wanted: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, DataError> {
    all.iter().copied().find(|&item| name(item) == wanted).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|&item| name(item)).collect();
        DataError::unknown(what, wanted, &known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for shift in Shift::ALL {
            assert_eq!(shift.to_string().parse::<Shift>().unwrap(), shift);
        }
        for severity in Severity::ALL {
            assert_eq!(severity.to_string().parse::<Severity>().unwrap(), severity);
        }
        for family in Family::ALL {
            assert_eq!(family.to_string().parse::<Family>().unwrap(), family);
        }
    }

    #[test]
    fn wrong_names_list_the_right_ones() {
        let message = "gausian".parse::<Shift>().unwrap_err().to_string();
        assert!(message.contains("did you mean `gaussian`?") && message.contains("low_light"), "{message}");
        for wrong in ["0", "6", "-1", "hard", "256"] {
            assert!(matches!(wrong.parse::<Severity>(), Err(DataError::Argument { .. })), "{wrong}");
        }
    }
}
