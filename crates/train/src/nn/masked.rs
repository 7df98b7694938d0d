//! Masked reconstruction: what a side head learns by that sees a part of an image and paints the rest (He et al. 2022; at
//! inference Gandelsman et al. 2022).

use acclimate_kernels::TensorOps;
use acclimate_kernels::concat;
use acclimate_kernels::random::{Key, uniform};
use acclimate_tensor::{Error as TensorError, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::mean;

/// How images are masked: `count` times each, by square patches, of which a share is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Masks {
    /// Masks of each image.
    pub count: usize,
    /// Side of a patch in pixels; it divides height and width.
    pub patch: usize,
    /// Share of the patches that is hidden, rounded to whole ones: 0.75 in the papers.
    pub share: f32,
}

/// Masked images, all images under the first mask, then all under the second, ..: m = count·n rows.
#[derive(Clone, Debug)]
pub struct Masked {
    /// The images with hidden pixels replaced by the mean of the seen ones of their channel: [m, c, h, w].
    pub rows: Tensor,
    /// The images: [m, c, h, w].
    pub targets: Tensor,
    /// Whether a pixel is hidden: bool [m, 1, h, w].
    pub hidden: Tensor,
}

impl Masks {
    /// Three quarters hidden.
    pub fn new(count: usize, patch: usize) -> Self {
        Masks { count, patch, share: 0.75 }
    }

    /// Fails for no masks, no patch, or a share that is not between 0 and 1.
    pub fn check(&self) -> Result<()> {
        if self.count > 0 && self.patch > 0 && self.share > 0.0 && self.share < 1.0 {
            return Ok(());
        }
        let expected = "at least one mask, patches of at least one pixel, a share between 0 and 1";
        Err(Error::argument("masks", expected, format!("{self:?}")))
    }

    /// Masks x [n, c, h, w]. Each row hides the patches with the smallest of its own random numbers, the same number of
    /// patches in each. Fails as [`Masks::check`] does, unless patches fill the image, and where a share would hide none or
    /// all of them.
    pub fn of(&self, x: &Tensor, key: &Key) -> Result<Masked> {
        self.check()?;
        let &[n, c, h, w] = x.dims() else {
            let found = format!("shape {}", x.shape());
            return Err(TensorError::shape("masks", "images [n, c, h, w]", found).into());
        };
        let p = self.patch;
        if !h.is_multiple_of(p) || !w.is_multiple_of(p) {
            let expected = format!("height and width that are multiples of the patch, {p}");
            return Err(TensorError::shape("masks", expected, format!("{h} × {w}")).into());
        }
        let (rows, down, across) = (self.count * n, h / p, w / p);
        let patches = down * across;
        let k = hidden_of(self.share, patches);
        if k == 0 || k == patches {
            let expected = format!("a share that hides some of {patches} patches and not all");
            return Err(Error::argument("masks", expected, self.share));
        }
        let draws = uniform(key, &[rows, patches])?;
        let limit = draws.sort(false)?.0.narrow(1, k - 1, 1)?;
        let hidden = draws.le(&limit)?.reshape(&[rows, 1, down, 1, across, 1])?;
        let hidden = hidden.expand(&[rows, 1, down, p, across, p])?.reshape(&[rows, 1, h, w])?;
        let copies = vec![x; self.count];
        let targets = concat(&copies, 0)?;
        let all = hidden.broadcast_to(targets.shape())?;
        let seen = all.select(&targets.zeros_like()?, &targets)?.sum_keep(&[2, 3])?;
        let fill = seen.mul_scalar(1.0 / crate::num::real((patches - k) * p * p))?.expand(&[rows, c, h, w])?;
        Ok(Masked { rows: all.select(&fill, &targets)?, targets, hidden })
    }
}

/// How many of `patches` are hidden.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count"
)]
fn hidden_of(share: f32, patches: usize) -> usize {
    (share * crate::num::real(patches)).round() as usize
}

/// The mean squared error of a side head's painting over the hidden pixels: painting [m, c, h, w] → scalar. Added to the
/// task's loss it trains both heads jointly.
pub fn mask_loss(painting: &Tensor, masked: &Masked) -> Result<Tensor> {
    if painting.shape() != masked.targets.shape() {
        let (expected, found) = (format!("a painting of shape {}", masked.targets.shape()), painting.shape());
        return Err(TensorError::shape("mask_loss", expected, format!("{found}")).into());
    }
    let hidden = masked.hidden.broadcast_to(painting.shape())?;
    let error = painting.sub(&masked.targets)?.square()?;
    let share = masked.hidden.cast(acclimate_tensor::DType::F32)?.mean(&[])?;
    Ok(mean(&hidden.select(&error, &error.zeros_like()?)?)?.div(&share)?)
}
