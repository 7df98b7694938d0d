//! An image as the report shows it: 8-bit gray or RGB, written as a PNG inside the page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;

/// An 8-bit image, gray or RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    /// Row by row, the channels of a pixel side by side.
    pixels: Vec<u8>,
}

impl Picture {
    /// From values in [0, 1] laid out `[channels, height, width]` with 1 or 3 channels; values outside are clipped and
    /// NaN becomes black.
    ///
    /// # Errors
    /// [`Error::Size`] for another number of channels or of values, [`Error::Empty`] for no pixels.
    pub fn from_unit(values: &[f32], [channels, height, width]: [usize; 3]) -> Result<Self, Error> {
        if channels != 1 && channels != 3 {
            return Err(Error::size("channels of a picture", "1 or 3", channels));
        }
        let count = channels.checked_mul(height).and_then(|n| n.checked_mul(width));
        if count != Some(values.len()) {
            let expected = format!("{channels} x {height} x {width}");
            return Err(Error::size("values of a picture", expected, values.len()));
        }
        if values.is_empty() {
            return Err(Error::Empty { what: "picture" });
        }
        let plane = height * width;
        // `as` saturates and takes NaN to 0, which is what a picture wants.
        let byte = |x: f32| (x * 255.0).round() as u8;
        let pixels = (0..plane).flat_map(|i| (0..channels).map(move |c| byte(values[c * plane + i]))).collect();
        Ok(Self { width, height, channels, pixels })
    }

    /// Pixels per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The image as a PNG file.
    ///
    /// # Errors
    /// [`Error::Image`] if the encoder refuses, as for sides beyond 2³¹.
    pub fn to_png(&self) -> Result<Vec<u8>, Error> {
        let (width, height) = (self.width, self.height);
        let failed = |source| Error::Image { width, height, source };
        let mut file = Vec::new();
        // A side beyond u32 becomes one that the encoder refuses.
        let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut encoder = png::Encoder::new(&mut file, side(width), side(height));
        encoder.set_color(if self.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.pixels).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(file)
    }

    /// The PNG as a `data:` address.
    pub(super) fn to_data_uri(&self) -> Result<String, Error> {
        Ok(format!("data:image/png;base64,{}", STANDARD.encode(self.to_png()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_back_from_its_png() {
        let values = [0.0, 1.0, 0.5, 2.0, -1.0, f32::NAN, 0.25, 0.75, 1.0, 0.0, 0.1, 0.9];
        let picture = Picture::from_unit(&values, [3, 2, 2]).unwrap();
        let png = picture.to_png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut back = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut back).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (2, 2, png::ColorType::Rgb));
        assert_eq!(back, [0, 0, 255, 255, 0, 0, 128, 64, 26, 255, 191, 230]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(Picture::from_unit(&[0.0; 4], [2, 1, 2]).is_err());
        assert!(Picture::from_unit(&[0.0; 5], [1, 2, 2]).is_err());
        assert!(Picture::from_unit(&[], [1, 0, 0]).is_err());
        assert!(Picture::from_unit(&[], [3, usize::MAX, usize::MAX]).is_err());
    }
}
