//! Small changes of training images that a label survives.

use super::rng::Philox;
use super::{DataError, Images};

/// Mirrors every second image and moves each by up to some pixels, black moving in (He et al. 2016, section 4.2).
///
/// ```
/// # use acclimate_train::data::{Augment, DataError, Images};
/// # fn main() -> Result<(), DataError> {
/// let images = Images::new((0..16).collect(), vec![0], [1, 4, 4], 1)?;
/// let augment = Augment::new(1, 7);
/// assert_eq!(augment.of(&images, &[0], 3)?, augment.of(&images, &[0], 3)?); // a function of seed and draw
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augment {
    /// Whether images are mirrored left to right, each with probability ½.
    pub mirror: bool,
    /// Pixels that an image moves at most, down and right, each from −shift to shift.
    pub shift: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Augment {
    /// Mirrored, and moved by up to `shift` pixels; 4 is usual for 32 × 32.
    pub fn new(shift: usize, seed: u64) -> Self {
        Augment { mirror: true, shift, seed }
    }

    /// The images at `positions` as pixels in 0..1, [n, channels, height, width], changed by draw number `draw`: another
    /// number each time.
    ///
    /// # Errors
    /// [`DataError::Argument`] if a position is not below [`Images::len`].
    pub fn of(&self, images: &Images, positions: &[usize], draw: u64) -> Result<Vec<f32>, DataError> {
        let (h, w) = (images.height(), images.width());
        let mut pixels = images.to_f32_at(positions)?;
        let mut stream = Philox::from_seed(self.seed).fold_name("augment").stream(draw);
        let mut row = vec![0.0; w];
        for image in pixels.chunks_exact_mut(images.image_len()) {
            let mirrored = stream.uniform() < 0.5 && self.mirror;
            let span = self.shift.saturating_mul(2).saturating_add(1) as u64;
            let [down, right] = [(); 2].map(|()| usize::try_from(stream.below(span)).unwrap_or(0));
            for plane in image.chunks_exact_mut(h * w) {
                let old = plane.to_vec();
                for (i, to) in plane.chunks_exact_mut(w).enumerate() {
                    row.fill(0.0);
                    if let Some(from) = (i + down).checked_sub(self.shift).filter(|&r| r < h) {
                        for (j, x) in row.iter_mut().enumerate() {
                            let column = (j + right).checked_sub(self.shift).filter(|&c| c < w);
                            *x = column.map_or(0.0, |c| old[from * w + c]);
                        }
                    }
                    if mirrored {
                        row.reverse();
                    }
                    to.copy_from_slice(&row);
                }
            }
        }
        Ok(pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_moved_whole_or_mirrored() {
        let images = Images::new((0..18).collect(), vec![0], [2, 3, 3], 1).unwrap();
        let plain = images.to_f32_at(&[0]).unwrap();
        let still = Augment { mirror: false, shift: 0, seed: 1 };
        assert_eq!(still.of(&images, &[0], 5).unwrap(), plain);
        let mirrored: Vec<f32> = plain.chunks(3).flat_map(|row| row.iter().rev().copied()).collect();
        let flips: Vec<Vec<f32>> = (0..20).map(|d| Augment::new(0, 1).of(&images, &[0], d).unwrap()).collect();
        assert!(flips.iter().all(|f| *f == plain || *f == mirrored));
        assert!(flips.contains(&plain) && flips.contains(&mirrored));
        // Moved by one pixel, both planes the same way: what is left is where it was but for the offset.
        let moved = Augment { mirror: false, shift: 1, seed: 1 };
        let all: Vec<Vec<f32>> = (0..60).map(|d| moved.of(&images, &[0], d).unwrap()).collect();
        for (down, right) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
            let at = |c: usize, i: usize, j: usize| -> f32 {
                let (i, j) = ((i + down).wrapping_sub(1), (j + right).wrapping_sub(1));
                if i < 3 && j < 3 { plain[c * 9 + i * 3 + j] } else { 0.0 }
            };
            let expected: Vec<f32> = (0..18).map(|p| at(p / 9, p / 3 % 3, p % 3)).collect();
            assert!(all.contains(&expected), "{down} {right}");
        }
        assert!(moved.of(&images, &[1], 0).is_err());
    }
}
