//! Sizes of a convolution, checked once, and the textbook loop over all its terms.

use acclimate_tensor::{Error, Result, Shape};

use super::Conv2d;
use crate::window::{tap, windows};

/// All sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub conv: Conv2d,
    pub n: usize,
    pub c_in: usize,
    pub h: usize,
    pub w: usize,
    pub c_out: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
}

impl Geometry {
    /// Checks x and weight against each other.
    pub fn new(op: &'static str, conv: Conv2d, x: [usize; 4], weight: &[usize]) -> Result<Self> {
        let groups = conv.groups;
        if groups == 0 {
            return Err(Error::argument(op, "groups", "at least 1", 0));
        }
        if !x[1].is_multiple_of(groups) || x[1] / groups != weight[1] || x[1] == 0 {
            return Err(Error::shape(
                op,
                format!("{groups} groups of {} input channels, as the weight {} says", weight[1], show(weight)),
                format!("{} channels in the image {}", x[1], show(&x)),
            ));
        }
        if !weight[0].is_multiple_of(groups) || weight[0] == 0 {
            let expected = format!("output channels divisible by {groups} groups");
            return Err(Error::shape(op, expected, format!("{} in the weight {}", weight[0], show(weight))));
        }
        let mut out = [0; 2];
        for d in 0..2 {
            let (size, k) = (x[2 + d], weight[2 + d]);
            out[d] = windows(op, size, k, conv.stride[d], conv.padding[d], conv.dilation[d])?;
        }
        let y = [x[0], weight[0], out[0], out[1]];
        Shape::new(&y)?;
        Ok(Geometry::of(conv, &x, weight, &y))
    }

    /// Of shapes that were checked before. Where one window fits the stride is 1: any is as good.
    pub fn of(mut conv: Conv2d, x: &[usize], weight: &[usize], y: &[usize]) -> Self {
        for axis in (0..2).filter(|&axis| y[2 + axis] == 1) {
            conv.stride[axis] = 1;
        }
        Geometry {
            conv,
            n: x[0],
            c_in: x[1],
            h: x[2],
            w: x[3],
            c_out: weight[0],
            kh: weight[2],
            kw: weight[3],
            oh: y[2],
            ow: y[3],
        }
    }

    /// Fails unless dy has the shape of the output.
    pub fn require_upstream(&self, op: &'static str, dy: &[usize]) -> Result<()> {
        if dy == self.y() {
            return Ok(());
        }
        Err(Error::shape(op, format!("an upstream gradient of {}", show(&self.y())), show(dy)))
    }

    /// Shape of the output.
    pub fn y(&self) -> [usize; 4] {
        [self.n, self.c_out, self.oh, self.ow]
    }

    /// Input channels of a group.
    pub fn ins(&self) -> usize {
        self.c_in / self.conv.groups
    }

    /// Output channels of a group.
    pub fn outs(&self) -> usize {
        self.c_out / self.conv.groups
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kh * self.kw
    }

    /// Terms of one output.
    pub fn depth(&self) -> usize {
        self.ins() * self.taps()
    }

    /// How many rows (axis 0) or columns (axis 1) of the image have this place modulo the stride, padding included: the same
    /// taps reach them.
    pub fn residue(&self, axis: usize, residue: usize) -> usize {
        let (stride, pad, size) = (self.conv.stride[axis], self.conv.padding[axis][0], [self.h, self.w][axis]);
        let first = (residue + stride - pad % stride) % stride;
        (size + stride - 1 - first) / stride
    }

    /// Multiplications and additions, those with the padding included.
    pub fn flop(&self) -> u64 {
        2 * (self.n * self.c_out * self.oh * self.ow * self.depth()) as u64
    }

    /// The words of the shaders' `Params`.
    pub fn params(&self) -> [usize; 16] {
        let c = &self.conv;
        [
            self.n,
            self.c_in,
            self.h,
            self.w,
            self.c_out,
            self.kh,
            self.kw,
            self.oh,
            self.ow,
            c.stride[0],
            c.stride[1],
            c.padding[0][0],
            c.padding[1][0],
            c.dilation[0],
            c.dilation[1],
            c.groups,
        ]
    }

    /// The image row (axis 0) or column (axis 1) that a tap of an output reads; `None` in the padding.
    pub fn tap(&self, axis: usize, out: usize, k: usize) -> Option<usize> {
        let c = &self.conv;
        tap(out, k, c.stride[axis], c.dilation[axis], c.padding[axis][0], [self.h, self.w][axis])
    }

    /// Calls `f` with the positions in x, weight and y of every term w · x · y, in the textbook order.
    pub fn visit(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (ins, outs) = (self.ins(), self.outs());
        for (n, o) in (0..self.n).flat_map(|n| (0..self.c_out).map(move |o| (n, o))) {
            for (i, j) in (0..self.oh).flat_map(|i| (0..self.ow).map(move |j| (i, j))) {
                let iy = ((n * self.c_out + o) * self.oh + i) * self.ow + j;
                for (c, u) in (0..ins).flat_map(|c| (0..self.kh).map(move |u| (c, u))) {
                    let Some(row) = self.tap(0, i, u) else { continue };
                    let plane = n * self.c_in + o / outs * ins + c;
                    for v in 0..self.kw {
                        let Some(column) = self.tap(1, j, v) else { continue };
                        let ix = (plane * self.h + row) * self.w + column;
                        f(ix, ((o * ins + c) * self.kh + u) * self.kw + v, iy);
                    }
                }
            }
        }
    }
}

fn show(dims: &[usize]) -> String {
    format!("{dims:?}")
}
