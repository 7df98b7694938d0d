//! Labelled 8-bit images in host memory.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::DataError;
use super::batches::split_positions;

/// A set of labelled 8-bit images of one size, stored [n, channels, height, width], 0 = black, 255 = white.
///
/// Fields are private because they must agree: `n · channels · height · width` pixels, `n` labels below `n_classes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pixels: Vec<u8>,
    labels: Vec<u32>,
    channels: usize,
    height: usize,
    width: usize,
    n_classes: u32,
}

/// Mean and (population) standard deviation of each channel, in 0..1.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStats {
    /// One mean per channel.
    pub mean: Vec<f64>,
    /// One standard deviation per channel.
    pub std: Vec<f64>,
}

impl Images {
    /// Images from pixels in [n, channels, height, width] order and one label each.
    ///
    /// # Errors
    /// [`DataError::Argument`] if an axis is 0 or the number of pixels is not the product of the axes;
    /// [`DataError::Label`] if a label is not below `n_classes`.
    pub fn new(
        pixels: Vec<u8>,
        labels: Vec<u32>,
        [channels, height, width]: [usize; 3],
        n_classes: u32,
    ) -> Result<Self, DataError> {
        let size = [channels, height, width].iter().try_fold(labels.len(), |n, &axis| n.checked_mul(axis));
        if [channels, height, width].contains(&0) || size != Some(pixels.len()) {
            return Err(DataError::argument(
                "images",
                format!("{} x {channels} x {height} x {width} pixels, no axis of an image being 0", labels.len()),
                pixels.len(),
                "give one label per image and all pixels of each",
            ));
        }
        let images = Self { pixels, labels, channels, height, width, n_classes };
        images.check_labels("images".into())?;
        Ok(images)
    }

    /// The same images with labels checked against `n_classes`; the error names `path`.
    pub(super) fn relabel(self, n_classes: u32, path: &Path) -> Result<Self, DataError> {
        let images = Self { n_classes, ..self };
        images.check_labels(path.to_owned())?;
        Ok(images)
    }

    fn check_labels(&self, path: PathBuf) -> Result<(), DataError> {
        match self.labels.iter().position(|&label| label >= self.n_classes) {
            Some(index) => Err(DataError::Label { path, index, found: self.labels[index], n_classes: self.n_classes }),
            None => Ok(()),
        }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels of an image: 1 for gray, 3 for red, green, blue.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Rows of an image.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of an image.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many classes the labels may name.
    pub fn n_classes(&self) -> u32 {
        self.n_classes
    }

    /// Bytes of one image: channels · height · width.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// All pixels, [n, channels, height, width].
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The labels, in the images' order.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The pixels of image `i`, [channels, height, width]; empty if there is no such image.
    pub fn image(&self, i: usize) -> &[u8] {
        self.pixels.chunks_exact(self.image_len()).nth(i).unwrap_or(&[])
    }

    /// The images at `positions`, in that order; a position may come more than once.
    ///
    /// # Errors
    /// [`DataError::Argument`] if a position is not below [`Images::len`].
    pub fn select(&self, positions: &[usize]) -> Result<Self, DataError> {
        let labels = self.labels_at(positions)?;
        let pixels = positions.iter().flat_map(|&i| self.image(i)).copied().collect();
        Ok(Self { pixels, labels, ..self.empty() })
    }

    /// The images of a range of positions.
    ///
    /// # Errors
    /// [`DataError::Argument`] if the range does not lie within 0..[`Images::len`].
    pub fn subset(&self, range: Range<usize>) -> Result<Self, DataError> {
        let pixels = self.pixels_in(&range)?.to_vec();
        Ok(Self { pixels, labels: self.labels[range].to_vec(), ..self.empty() })
    }

    /// The first `n` images of each class in file order (fewer where a class has fewer), kept in file order.
    pub fn first_per_class(&self, n: usize) -> Self {
        let mut seen = std::collections::BTreeMap::<u32, usize>::new();
        let mut chosen = self.empty();
        for (image, &label) in self.pixels.chunks_exact(self.image_len()).zip(&self.labels) {
            let count = seen.entry(label).or_default();
            if *count < n {
                chosen.pixels.extend_from_slice(image);
                chosen.labels.push(label);
            }
            *count += 1;
        }
        chosen
    }

    /// Two parts: a share `fraction` of the images, drawn by `seed`, and the others. Both keep file order.
    ///
    /// # Errors
    /// [`DataError::Argument`] if the fraction is not between 0 and 1.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self), DataError> {
        let (first, second) = split_positions(self.len(), fraction, seed)?;
        Ok((self.select(&first)?, self.select(&second)?))
    }

    /// Pixels / 255 of a range of images, [range, channels, height, width].
    ///
    /// # Errors
    /// [`DataError::Argument`] if the range does not lie within 0..[`Images::len`].
    pub fn to_f32(&self, range: Range<usize>) -> Result<Vec<f32>, DataError> {
        Ok(self.pixels_in(&range)?.iter().copied().map(unit).collect())
    }

    /// Pixels / 255 of the images at `positions`, [positions, channels, height, width].
    ///
    /// # Errors
    /// [`DataError::Argument`] if a position is not below [`Images::len`].
    pub fn to_f32_at(&self, positions: &[usize]) -> Result<Vec<f32>, DataError> {
        self.labels_at(positions)?;
        Ok(positions.iter().flat_map(|&i| self.image(i)).copied().map(unit).collect())
    }

    /// The labels at `positions`.
    ///
    /// # Errors
    /// [`DataError::Argument`] if a position is not below [`Images::len`].
    pub fn labels_at(&self, positions: &[usize]) -> Result<Vec<u32>, DataError> {
        positions.iter().map(|&i| self.labels.get(i).copied().ok_or_else(|| self.no_image(i))).collect()
    }

    /// Mean and standard deviation of each channel over all images, in 0..1. An empty set has zeros.
    pub fn channel_stats(&self) -> ChannelStats {
        // Sums of bytes and of their squares are exact in u64.
        let mut sums = vec![(0u64, 0u64); self.channels];
        for (i, plane) in self.pixels.chunks_exact(self.height * self.width).enumerate() {
            let (sum, squares) = &mut sums[i % self.channels];
            for &pixel in plane {
                *sum += u64::from(pixel);
                *squares += u64::from(pixel).pow(2);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "sums of fewer than 2^31 bytes are exact in f64 up to 2^53")]
        let moments = |&(sum, squares): &(u64, u64)| {
            let n = (self.len() * self.height * self.width).max(1) as f64;
            let mean = sum as f64 / n;
            let variance = (squares as f64 / n - mean * mean).max(0.0);
            (mean / 255.0, variance.sqrt() / 255.0)
        };
        let (mean, std) = sums.iter().map(moments).unzip();
        ChannelStats { mean, std }
    }

    /// The same labels with other pixels, which must be as many.
    pub(crate) fn with_pixels(&self, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), self.pixels.len());
        Self { pixels, labels: self.labels.clone(), ..self.empty() }
    }

    fn empty(&self) -> Self {
        Self { pixels: Vec::new(), labels: Vec::new(), ..*self }
    }

    fn pixels_in(&self, range: &Range<usize>) -> Result<&[u8], DataError> {
        let bytes = |i: usize| i.checked_mul(self.image_len());
        match (bytes(range.start), bytes(range.end)) {
            (Some(start), Some(end)) => self.pixels.get(start..end),
            _ => None,
        }
        .ok_or_else(|| self.no_image(range.end.max(range.start)))
    }

    fn no_image(&self, i: usize) -> DataError {
        DataError::argument("images", format!("positions up to {}", self.len()), i, "check the range or the positions")
    }
}

fn unit(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five images of 1 x 1 x 2 pixels; image i has pixels 10·i and 10·i + 1.
    fn five() -> Images {
        let pixels = (0..5).flat_map(|i| [10 * i, 10 * i + 1]).collect();
        Images::new(pixels, vec![0, 1, 0, 0, 1], [1, 1, 2], 2).unwrap()
    }

    #[test]
    fn selections_keep_pixels_and_labels_together() {
        let images = five();
        let picked = images.select(&[4, 0]).unwrap();
        assert_eq!((picked.pixels(), picked.labels()), (&[40, 41, 0, 1][..], &[1, 0][..]));
        assert_eq!(images.subset(1..3).unwrap().pixels(), [10, 11, 20, 21]);
        let first = images.first_per_class(2);
        assert_eq!((first.pixels(), first.labels()), (&[0, 1, 10, 11, 20, 21, 40, 41][..], &[0, 1, 0, 1][..]));
        assert_eq!(images.to_f32(4..5).unwrap(), [40.0 / 255.0, 41.0 / 255.0]);
        assert_eq!(images.to_f32_at(&[4]).unwrap(), images.to_f32(4..5).unwrap());
        assert_eq!(images.image(3), [30, 31]);
        assert!(images.image(5).is_empty());
    }

    #[test]
    fn splits_are_partitions() {
        let (first, second) = five().split(0.4, 1).unwrap();
        assert_eq!((first.len(), second.len()), (2, 3));
        let mut all = [first.pixels(), second.pixels()].concat();
        all.sort_unstable();
        assert_eq!(all, five().pixels());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let images = five();
        #[expect(clippy::reversed_empty_ranges, reason = "a user may give one")]
        for range in [4..6, 3..2, usize::MAX..usize::MAX] {
            assert!(matches!(images.to_f32(range.clone()), Err(DataError::Argument { .. })), "{range:?}");
            assert!(images.subset(range).is_err());
        }
        assert!(matches!(images.select(&[5]), Err(DataError::Argument { .. })));
        assert!(matches!(images.to_f32_at(&[5]), Err(DataError::Argument { .. })));
        assert!(Images::new(vec![0; 3], vec![0], [1, 2, 2], 1).is_err());
        assert!(Images::new(vec![], vec![0], [usize::MAX, 2, 2], 1).is_err());
        assert!(Images::new(vec![], vec![], [1, 0, 2], 1).is_err());
        let error = Images::new(vec![0; 2], vec![0, 7], [1, 1, 1], 7);
        assert!(matches!(error, Err(DataError::Label { index: 1, found: 7, n_classes: 7, .. })));
    }

    #[test]
    fn channel_statistics() {
        // Two images of two channels: channel 0 holds 0 and 255, channel 1 holds 51 only.
        let images = Images::new(vec![0, 51, 255, 51], vec![0, 0], [2, 1, 1], 1).unwrap();
        let stats = images.channel_stats();
        assert_eq!(stats.mean, [0.5, 0.2]);
        assert_eq!(stats.std, [0.5, 0.0]);
    }
}
