//! GTSRB, the German traffic sign recognition benchmark, as records of 32 x 32 pixels in CIFAR-10's layout.
//!
//! J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel: Man vs. computer: benchmarking machine learning algorithms for traffic
//! sign recognition, Neural Networks 32 (2012).

use std::path::Path;

use super::{DataError, Images, cifar};

/// How many kinds of signs there are.
pub const N_CLASSES: u32 = 43;

/// The signs, by label.
pub const CLASSES: [&str; 43] = [
    "speed limit 20",
    "speed limit 30",
    "speed limit 50",
    "speed limit 60",
    "speed limit 70",
    "speed limit 80",
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no passing",
    "no passing for trucks",
    "priority at next crossing",
    "priority road",
    "give way",
    "stop",
    "no vehicles",
    "no trucks",
    "no entry",
    "danger",
    "curve to the left",
    "curve to the right",
    "double curve",
    "uneven road",
    "slippery road",
    "road narrows",
    "road works",
    "traffic signals",
    "pedestrians",
    "children",
    "bicycles",
    "snow or ice",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "ahead or right",
    "ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no passing",
    "end of no passing for trucks",
];

/// A file of records: one label byte below 43, then 3 x 32 x 32 pixel bytes; plain or gzip. File order is kept.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Truncated`] if the file ends within a record; [`DataError::Format`] if it is
/// empty; [`DataError::Label`].
pub fn read(path: impl AsRef<Path>) -> Result<Images, DataError> {
    cifar::read(path, N_CLASSES)
}

/// Two parts of a training file that is sorted by class and, within a class, by track: of each class the first share
/// `fraction` and the rest, in file order. The frames of a track are near-copies of each other, so a random split would
/// test on what was trained on; here at most one track of a class lies on both sides.
///
/// # Errors
/// [`DataError::Argument`] if the fraction is not between 0 and 1.
pub fn split(images: &Images, fraction: f64) -> Result<(Images, Images), DataError> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(DataError::argument("fraction of the signs", "a number from 0 to 1", fraction, "0.8 is usual"));
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for class in 0..images.n_classes() {
        let positions: Vec<usize> = (0..images.len()).filter(|&i| images.labels()[i] == class).collect();
        // Even, because a track has two frames.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        #[expect(clippy::cast_precision_loss, reason = "counts of images, far below 2^53")]
        let n = 2 * (fraction * positions.len() as f64 / 2.0).round() as usize;
        let (before, after) = positions.split_at(n.min(positions.len()));
        first.extend_from_slice(before);
        second.extend_from_slice(after);
    }
    Ok((images.select(&first)?, images.select(&second)?))
}
