//! Textures of frost: from the benchmark's pictures where a user has them, else drawn.

use std::path::Path;

use super::Size;
use super::fog::plasma;
use super::tone::LUMA;
use crate::data::rng::{Philox, Stream};
use crate::data::{DataError, Images, picture};

/// The five pictures that the published generator draws from (it has a sixth and never takes it).
const PICTURES: [&str; 5] = ["frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"];
/// The generator shrinks its pictures to a fifth for images of 32 pixels: every fifth pixel, from the third.
const SHRINK: usize = 5;
/// Side of drawn textures for images up to half of it.
const SIDE: usize = 128;

/// Textures that [`super::Shift::Frost`] lays over images.
///
/// The pictures of the benchmark (Hendrycks and Dietterich 2019) are not part of this library. Without them textures
/// are drawn: veins of crystals with the colors and the contrast of the pictures, but not the pictures, so numbers
/// made with them compare with each other and not with published ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Frost {
    /// Each [3, height, width] in 0..1.
    textures: Vec<Texture>,
}

#[derive(Clone, Debug, PartialEq)]
struct Texture {
    values: Vec<f64>,
    height: usize,
    width: usize,
}

impl Frost {
    /// Textures given as images of three channels, one texture a set.
    ///
    /// # Errors
    /// [`DataError::Argument`] if there is none, or one is not a single image of three channels.
    pub fn new(textures: &[Images]) -> Result<Self, DataError> {
        let fits = |images: &&Images| images.len() == 1 && images.channels() == 3;
        if let Some(wrong) = textures.iter().find(|images| !fits(images)) {
            let found = format!("{} images of {} channels", wrong.len(), wrong.channels());
            return Err(DataError::argument("frost texture", "one image of 3 channels", found, "give one each"));
        }
        if textures.is_empty() {
            return Err(DataError::argument("frost textures", "at least one", "none", "give one, or `Frost::drawn()`"));
        }
        let texture = |images: &Images| Texture {
            values: images.pixels().iter().map(|&byte| f64::from(byte) / 255.0).collect(),
            height: images.height(),
            width: images.width(),
        };
        Ok(Self { textures: textures.iter().map(texture).collect() })
    }

    /// The pictures `frost1.png` to `frost5.jpg` of the published generator in `folder`, shrunk as it does.
    ///
    /// # Errors
    /// [`DataError::Io`] or [`DataError::Format`] if one is not there or is no picture of three or four channels.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, DataError> {
        let textures = PICTURES.iter().map(|name| {
            let picture = picture::read(&folder.as_ref().join(name))?;
            shrunk(&picture)
        });
        Self::new(&textures.collect::<Result<Vec<_>, _>>()?)
    }

    /// Five drawn textures, always the same.
    pub fn drawn() -> Self {
        // Darkest and brightest color of each picture's range, red, green, blue: measured once on the five pictures.
        const RANGES: [[[f64; 3]; 2]; 5] = [
            [[0.16, 0.46, 0.42], [0.44, 0.72, 0.86]],
            [[0.58, 0.62, 0.68], [0.95, 0.96, 0.98]],
            [[0.58, 0.62, 0.68], [0.95, 0.96, 0.98]],
            [[0.30, 0.37, 0.42], [0.92, 0.95, 0.97]],
            [[0.14, 0.17, 0.20], [0.90, 0.94, 0.96]],
        ];
        let philox = Philox::from_seed(0).fold_name("frost textures");
        let textures = RANGES.iter().zip(0u64..).map(|([dark, bright], i)| {
            let clouds = plasma(SIDE, 1.75, &mut philox.stream(2 * i));
            let veins = plasma(SIDE, 1.6, &mut philox.stream(2 * i + 1));
            // A vein runs where the second map crosses its middle; the first says how thick the ice is.
            let ice: Vec<f64> = clouds
                .iter()
                .zip(&veins)
                .map(|(cloud, vein)| {
                    let ridge = 1.0 - (4.0 * (vein - 0.5)).abs().min(1.0);
                    0.5 * cloud + 0.5 * ridge * ridge
                })
                .collect();
            let colors = dark.iter().zip(bright);
            let values = colors.flat_map(|(dark, bright)| ice.iter().map(move |x| dark + (bright - dark) * x));
            Texture { values: values.collect(), height: SIDE, width: SIDE }
        });
        Self { textures: textures.collect() }
    }

    /// A random part of a random texture, in the image's channels: three, or one of their luma. A texture that is
    /// smaller than the image goes on from its beginning.
    pub(super) fn part(&self, size: Size, stream: &mut Stream) -> Vec<f64> {
        let mut below = |n: usize| usize::try_from(stream.below(n as u64)).unwrap_or(0);
        let texture = &self.textures[below(self.textures.len())];
        let top = below(texture.height.saturating_sub(size.height).max(1));
        let left = below(texture.width.saturating_sub(size.width).max(1));
        let n = texture.height * texture.width;
        let value = |row: usize, column: usize, channel: usize| {
            let (row, column) = ((top + row) % texture.height, (left + column) % texture.width);
            texture.values[channel * n + row * texture.width + column]
        };
        let mut part = Vec::with_capacity(size.channels * size.plane_len());
        for channel in 0..size.channels {
            for row in 0..size.height {
                part.extend((0..size.width).map(|column| match size.channels {
                    3 => value(row, column, channel),
                    _ => (0..3).map(|channel| LUMA[channel] * value(row, column, channel)).sum(),
                }));
            }
        }
        part
    }
}

/// Every fifth pixel, from the third: a linear resize to a fifth falls on these pixels exactly.
fn shrunk(picture: &Images) -> Result<Images, DataError> {
    let n = |side: usize| ((side + SHRINK / 2) / SHRINK).max(1);
    let (height, width) = (n(picture.height()), n(picture.width()));
    let at = |i: usize, side: usize| (SHRINK * i + SHRINK / 2).min(side - 1);
    let mut pixels = Vec::with_capacity(3 * height * width);
    for plane in picture.pixels().chunks_exact(picture.height() * picture.width()) {
        for row in 0..height {
            let line = &plane[at(row, picture.height()) * picture.width()..][..picture.width()];
            pixels.extend((0..width).map(|column| line[at(column, picture.width())]));
        }
    }
    Images::new(pixels, vec![0], [3, height, width], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_textures_are_frost_and_differ() {
        let frost = Frost::drawn();
        assert_eq!(frost, Frost::drawn());
        for (i, texture) in frost.textures.iter().enumerate() {
            let mean = texture.values.iter().sum::<f64>() / texture.values.len() as f64;
            // The means of the five pictures are 0.51, 0.81, 0.81, 0.60 and 0.48.
            assert!((0.35..0.9).contains(&mean), "texture {i}: {mean}");
            assert!(texture.values.iter().all(|x| (0.0..=1.0).contains(x)));
            assert!(frost.textures[..i].iter().all(|other| other != texture));
        }
    }

    #[test]
    fn a_picture_is_shrunk_to_every_fifth_pixel() {
        let plane: Vec<u8> = (0..11 * 7).map(|i| i as u8).collect();
        let picture = Images::new(plane.repeat(3), vec![0], [3, 11, 7], 1).unwrap();
        let small = shrunk(&picture).unwrap();
        assert_eq!((small.height(), small.width()), (2, 1));
        assert_eq!(small.pixels(), [16, 51].repeat(3));
    }

    /// The pictures are not part of the repository: `ACCLIMATE_DATA` names the folder that has them.
    #[test]
    fn the_published_pictures() {
        let folder = std::env::var_os("ACCLIMATE_DATA").map(std::path::PathBuf::from);
        let Some(folder) = folder.filter(|folder| PICTURES.iter().all(|name| folder.join(name).exists())) else {
            println!("skipped: no {} (set ACCLIMATE_DATA to their folder)", PICTURES.join(", "));
            return;
        };
        // Sizes and means of red, green and blue after OpenCV's resize to a fifth.
        let expected = [
            (120, 180, [77.5356, 149.0469, 165.6835]),
            (63, 112, [200.8012, 205.3990, 214.4979]),
            (63, 112, [200.8012, 205.3990, 214.4979]),
            (70, 105, [138.0452, 153.2192, 165.6050]),
            (99, 132, [112.2955, 123.2912, 134.6703]),
        ];
        for (texture, (height, width, means)) in Frost::read(&folder).unwrap().textures.iter().zip(expected) {
            assert_eq!((texture.height, texture.width), (height, width));
            for (plane, mean) in texture.values.chunks_exact(height * width).zip(means) {
                let found = 255.0 * plane.iter().sum::<f64>() / plane.len() as f64;
                // JPEG decoders differ by a level here and there; PNG is exact to the digits above.
                assert!((found - mean).abs() < 0.2, "{found}, expected {mean}");
            }
        }
    }

    #[test]
    fn what_is_no_texture_is_refused() {
        assert!(matches!(Frost::new(&[]), Err(DataError::Argument { .. })));
        let gray = Images::new(vec![0; 4], vec![0], [1, 2, 2], 1).unwrap();
        assert!(matches!(Frost::new(&[gray]), Err(DataError::Argument { .. })));
        assert!(matches!(Frost::read("no such folder"), Err(DataError::Io { .. })));
    }
}
