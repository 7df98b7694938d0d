//! Windows that slide over an image: how many there are, and which pixels they see.

use acclimate_tensor::{Error, Result};

/// How a pooling window slides over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Pixels added on both sides of each axis, at most half a window. They never win a maximum.
    pub padding: [usize; 2],
    /// Pixels from one tap to the next; only maxima know any but 1.
    pub dilation: [usize; 2],
    /// Whether a mean counts padded pixels (as zeros) too.
    pub count_include_pad: bool,
}

impl Pool2d {
    /// Windows of k × k side by side, without padding.
    pub fn new(k: usize) -> Self {
        Pool2d { kernel: [k; 2], stride: [k; 2], padding: [0; 2], dilation: [1; 2], count_include_pad: true }
    }

    /// With this stride both ways.
    #[must_use]
    pub fn strided(self, stride: usize) -> Self {
        Pool2d { stride: [stride; 2], ..self }
    }

    /// With this padding on every side.
    #[must_use]
    pub fn padded(self, p: usize) -> Self {
        Pool2d { padding: [p; 2], ..self }
    }

    /// Sizes of the output for an image of this size. Fails if a window does not fit.
    pub(crate) fn output(&self, op: &'static str, image: [usize; 2]) -> Result<[usize; 2]> {
        let mut out = [0; 2];
        for d in 0..2 {
            let (k, p, dilation) = (self.kernel[d], self.padding[d], self.dilation[d]);
            out[d] = windows(op, image[d], k, self.stride[d], [p; 2], dilation)?;
            if p * 2 > (k - 1) * dilation + 1 {
                return Err(Error::argument(op, "padding", format!("at most half of a window of {k} taps"), p));
            }
            if image[d] == 0 {
                return Err(Error::shape(op, "at least one pixel", "an empty image"));
            }
        }
        Ok(out)
    }

    /// The pixels of window (i, j) of an image of h × w, as flat positions in the order of the taps.
    pub(crate) fn pixels(&self, [h, w]: [usize; 2], i: usize, j: usize) -> impl Iterator<Item = usize> + use<> {
        let this = *self;
        (0..this.kernel[0]).flat_map(move |u| {
            let row = tap(i, u, this.stride[0], this.dilation[0], this.padding[0], h);
            let columns = 0..if row.is_some() { this.kernel[1] } else { 0 };
            columns.filter_map(move |v| {
                let column = tap(j, v, this.stride[1], this.dilation[1], this.padding[1], w)?;
                Some(row? * w + column)
            })
        })
    }
}

impl Pool2d {
    /// Calls `f` for each row of windows and each tap with the first window and pixel (flat) and the number of windows
    /// whose tap lies inside; from one to the next the pixel moves by the stride. Taps come in order.
    pub(crate) fn runs(&self, size: [usize; 2], out: [usize; 2], mut f: impl FnMut(usize, usize, usize)) {
        let (stride, pad) = (self.stride[1], self.padding[1]);
        for (i, u) in (0..out[0]).flat_map(|i| (0..self.kernel[0]).map(move |u| (i, u))) {
            let Some(row) = tap(i, u, self.stride[0], self.dilation[0], self.padding[0], size[0]) else { continue };
            for v in 0..self.kernel[1] {
                let at = v * self.dilation[1];
                let first = pad.saturating_sub(at).div_ceil(stride).min(out[1]);
                let end = (size[1] + pad).saturating_sub(at).div_ceil(stride).clamp(first, out[1]);
                if first < end {
                    f(i * out[1] + first, row * size[1] + first * stride + at - pad, end - first);
                }
            }
        }
    }
}

/// The pixel that a tap of a window reads; `None` in the padding.
pub(crate) fn tap(window: usize, k: usize, stride: usize, dilation: usize, pad: usize, size: usize) -> Option<usize> {
    (window * stride + k * dilation).checked_sub(pad).filter(|&i| i < size)
}

/// How many windows fit along one axis. Fails on a stride, dilation or kernel of 0, and where none fits.
pub(crate) fn windows(
    op: &'static str,
    size: usize,
    k: usize,
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
) -> Result<usize> {
    for (what, value) in [("stride", stride), ("dilation", dilation), ("kernel size", k)] {
        if value == 0 {
            return Err(Error::argument(op, what, "at least 1", 0));
        }
    }
    // Beyond 2^31 the shaders' words would wrap.
    let limit = 1usize << 31;
    let reach = (k - 1).checked_mul(dilation).map(|r| r.saturating_add(1)).filter(|&r| r < limit);
    let padded = padding.iter().try_fold(size, |s, &p| s.checked_add(p)).filter(|&s| s < limit);
    match (padded, reach) {
        (Some(padded), Some(reach)) if reach <= padded && stride < limit => Ok((padded - reach) / stride + 1),
        _ => Err(Error::shape(
            op,
            format!("a kernel that fits: {k} taps at distance {dilation}, stride {stride}"),
            format!("an image of {size} with padding {} + {}; pad more", padding[0], padding[1]),
        )),
    }
}
