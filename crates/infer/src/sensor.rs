//! Correcting the sensor for one image: what moves is the image, nothing of the network.
//!
//! A correction is gain, offset, gamma and a sharpening (or, negative, smoothing) amount on pixels in 0..1, after the
//! best of a few closed-form candidates. Everything works on one image [c, h, w] and is mapped over slots by `vmap`.

use acclimate_kernels::{TensorOps, concat, stack};
use acclimate_tensor::{Result, Tensor};

/// Names of the correction's parameters, in the order of its vector. All are 0 for "no correction".
pub const PARAMETERS: [&str; 4] = ["sensor/log_gain", "sensor/offset", "sensor/log_gamma", "sensor/sharpen"];

/// The closed-form candidates a correction may start from, in order.
pub const CANDIDATES: [&str; 6] =
    ["none", "stretch", "denoise", "denoise+stretch", "stretch+sharpen", "stretch+sharpen twice"];

/// Smallest base of the gamma curve: below it the curve's slope would be unbounded.
const FLOOR: f32 = 1e-3;

/// The corrected image: u = (e^gain·x + offset) softly limited to 0..1, v = u^(e^gamma), v + sharpen·(v − blur(v)).
/// x: [c, h, w], phi: \[4\] → [c, h, w]. At phi = 0 a pixel in [0.001, 1] keeps its value.
pub fn correct(x: &Tensor, phi: &Tensor) -> Result<Tensor> {
    let part = |i: usize| phi.narrow(0, i, 1)?.reshape(&[1, 1, 1]);
    let u = x.mul(&part(0)?.exp()?)?.add(&part(1)?)?;
    // Beyond the range a slope of 1/100 stays, so that an overexposed start can come back.
    let inside = u.clamp(FLOOR, 1.0)?;
    let soft = inside.add(&u.sub(&inside)?.mul_scalar(0.01)?)?.maximum(&u.full_like(FLOOR)?)?;
    let v = soft.ln()?.mul(&part(2)?.exp()?)?.exp()?;
    v.add(&v.sub(&blur(&v)?)?.mul(&part(3)?)?)
}

/// All candidates of an image: [c, h, w] → [6, c, h, w], in the order of [`CANDIDATES`].
pub fn candidates(x: &Tensor) -> Result<Tensor> {
    let denoised = median3(x)?;
    let stretched = stretch(x)?;
    let both = stretch(&denoised)?;
    let detail = stretched.sub(&blur(&stretched)?)?;
    let sharper = |amount: f32| stretched.add(&detail.mul_scalar(amount)?)?.clamp(0.0, 1.0);
    let (once, twice) = (sharper(1.0)?, sharper(2.0)?);
    stack(&[x, &stretched, &denoised, &both, &once, &twice], 0)
}

/// The 5 to 98 percentile stretch of an image, all channels jointly; an image that is nearly flat stays as it is.
pub fn stretch(x: &Tensor) -> Result<Tensor> {
    let (sorted, _) = x.reshape(&[1, x.numel()])?.sort(false)?;
    let (low, high) = (quantile(&sorted, 0.05)?, quantile(&sorted, 0.98)?);
    let range = high.sub(&low)?;
    let flat = range.lt(&range.full_like(0.02)?)?;
    let y = x.sub(&low)?.div(&range.maximum(&range.full_like(1e-3)?)?)?.clamp(0.0, 1.0)?;
    flat.broadcast_to(x.shape())?.select(x, &y)
}

/// The q-quantile of sorted [1, n], interpolated linearly: [1, 1, 1].
fn quantile(sorted: &Tensor, q: f32) -> Result<Tensor> {
    let n = sorted.numel();
    let at = q * (n - 1) as f32;
    let below = at.floor() as usize;
    let share = at - at.floor();
    let element = |i: usize| sorted.narrow(1, i.min(n - 1), 1)?.reshape(&[1, 1, 1]);
    element(below)?.mul_scalar(1.0 - share)?.add(&element(below + 1)?.mul_scalar(share)?)
}

/// [c, h, w] with `by` copies of the border on each side of h and w.
fn replicate(x: &Tensor, by: usize) -> Result<Tensor> {
    let mut y = x.clone();
    for axis in [1isize, 2] {
        let n = y.dims()[axis.unsigned_abs()];
        let (first, last) = (y.narrow(axis, 0, 1)?, y.narrow(axis, n - 1, 1)?);
        let mut parts: Vec<&Tensor> = vec![&first; by];
        parts.push(&y);
        parts.extend(vec![&last; by]);
        y = concat(&parts, axis)?;
    }
    Ok(y)
}

/// A binomial blur (1, 4, 6, 4, 1)/16 along both axes, a Gaussian of standard deviation 1; borders are replicated.
pub fn blur(x: &Tensor) -> Result<Tensor> {
    let (h, w) = (x.dims()[1], x.dims()[2]);
    let pass = |y: &Tensor, axis: isize, len: usize| -> Result<Tensor> {
        let at = |i: usize| y.narrow(axis, i, len);
        let ends = at(0)?.add(&at(4)?)?.mul_scalar(1.0 / 16.0)?;
        let middle = at(1)?.add(&at(3)?)?.mul_scalar(0.25)?;
        ends.add(&middle)?.add(&at(2)?.mul_scalar(0.375)?)
    };
    let padded = replicate(x, 2)?;
    pass(&pass(&padded, 1, h)?, 2, w)
}

/// The median of each 3 × 3 neighborhood; borders are replicated. The network of exchanges is that of Paeth 1990
/// (Graphics Gems): 19 exchanges leave the median of nine in the middle.
pub fn median3(x: &Tensor) -> Result<Tensor> {
    let (h, w) = (x.dims()[1], x.dims()[2]);
    let padded = replicate(x, 1)?;
    let mut p = Vec::with_capacity(9);
    for i in 0..9 {
        p.push(padded.narrow(1, i / 3, h)?.narrow(2, i % 3, w)?);
    }
    const EXCHANGES: [(usize, usize); 19] = [
        (1, 2),
        (4, 5),
        (7, 8),
        (0, 1),
        (3, 4),
        (6, 7),
        (1, 2),
        (4, 5),
        (7, 8),
        (0, 3),
        (5, 8),
        (4, 7),
        (3, 6),
        (1, 4),
        (2, 5),
        (4, 7),
        (4, 2),
        (6, 4),
        (4, 2),
    ];
    for (a, b) in EXCHANGES {
        let (low, high) = (p[a].minimum(&p[b])?, p[a].maximum(&p[b])?);
        (p[a], p[b]) = (low, high);
    }
    Ok(p.swap_remove(4))
}
