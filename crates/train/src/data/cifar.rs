//! CIFAR-10's binary layout: records of 3,073 bytes, a label and the red, green and blue planes of 32 x 32.
//!
//! A. Krizhevsky: Learning multiple layers of features from tiny images (2009). Plain or gzip.

use std::path::Path;

use super::open::{DataFile, Gzip};
use super::{DataError, Images};

const SIDE: usize = 32;
const CHANNELS: usize = 3;
const RECORD_BYTES: usize = 1 + CHANNELS * SIDE * SIDE;

/// The 10 classes of CIFAR-10, by label.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// A file of CIFAR-10 records.
///
/// # Errors
/// Those of [`read`].
pub fn cifar10(path: impl AsRef<Path>) -> Result<Images, DataError> {
    read(path, 10)
}

/// A file of records in CIFAR-10's layout, with labels below `n_classes`. File order is kept.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Truncated`] if the file ends within a record; [`DataError::Format`] if it is
/// empty; [`DataError::Label`].
pub fn read(path: impl AsRef<Path>, n_classes: u32) -> Result<Images, DataError> {
    let path = path.as_ref();
    let bytes = DataFile::open(path, Gzip::UnlessRecordsOf(RECORD_BYTES as u64))?.rest()?;
    if bytes.is_empty() {
        return Err(DataError::format(
            path,
            format!("records of {RECORD_BYTES} bytes"),
            "an empty file",
            "get the file again",
        ));
    }
    let records = bytes.chunks_exact(RECORD_BYTES);
    if !records.remainder().is_empty() {
        let n_begun = bytes.len().div_ceil(RECORD_BYTES);
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected_bytes: (n_begun * RECORD_BYTES) as u64,
            found_bytes: bytes.len() as u64,
        });
    }
    let labels = records.clone().map(|record| u32::from(record[0])).collect();
    let pixels = records.flat_map(|record| &record[1..]).copied().collect();
    Images::new(pixels, labels, [CHANNELS, SIDE, SIDE], u32::MAX)?.relabel(n_classes, path)
}
