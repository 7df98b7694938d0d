//! Reads one PNG or JPEG picture as an image of three channels; an alpha channel is dropped.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::data::{DataError, Images};

/// The most bytes a picture may unpack to.
const MAX_BYTES: usize = 1 << 28;
/// The longest side a picture may have.
const MAX_SIDE: usize = 1 << 14;

/// The picture at `path`, told by its first bytes.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Format`] if it is neither, damaged, larger than 2^28 bytes, or not of 8-bit colors.
pub(crate) fn read(path: &Path) -> Result<Images, DataError> {
    decode(&fs::read(path).map_err(|source| DataError::io(path, source))?, path)
}

/// The picture that these bytes are; errors name `path`.
///
/// # Errors
/// As [`read`], but for the reading.
pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Images, DataError> {
    let wrong = |found: String| DataError::format(path, "a PNG or JPEG picture of 8-bit colors", found, "convert it");
    let (interleaved, channels, height, width) = match bytes {
        [0x89, b'P', b'N', b'G', ..] => png(bytes).map_err(wrong)?,
        [0xff, 0xd8, ..] => jpeg(bytes).map_err(wrong)?,
        _ => return Err(wrong("another kind of file".to_owned())),
    };
    let plane = |channel: usize| interleaved.iter().skip(channel).step_by(channels).copied();
    Images::new((0..3).flat_map(plane).collect(), vec![0], [3, height, width], 1)
}

type Interleaved = (Vec<u8>, usize, usize, usize);

fn png(bytes: &[u8]) -> Result<Interleaved, String> {
    let limits = png::Limits { bytes: MAX_BYTES };
    let decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let n = reader.output_buffer_size().filter(|&n| n <= MAX_BYTES).ok_or("a picture that is too large")?;
    let mut pixels = vec![0; n];
    let info = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    let channels = match (info.color_type, info.bit_depth) {
        (png::ColorType::Rgb, png::BitDepth::Eight) => 3,
        (png::ColorType::Rgba, png::BitDepth::Eight) => 4,
        (color, depth) => return Err(format!("{color:?} of {depth:?} bits")),
    };
    pixels.truncate(info.buffer_size());
    Ok((pixels, channels, info.height as usize, info.width as usize))
}

fn jpeg(bytes: &[u8]) -> Result<Interleaved, String> {
    // The portable path: the same pixels on every processor.
    let options = DecoderOptions::default()
        .set_use_unsafe(false)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("a picture without a size")?;
    Ok((pixels, 3, height, width))
}
