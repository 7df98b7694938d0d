//! Views of one input: the input itself and small changes of it that a label survives.
//!
//! View 0 is the input. View k is moved by a few pixels (a fixed spiral of offsets), mirrored for odd k, and its gain
//! and offset are drawn under the input's key. So views depend on the input's key and on k, never on slot or device.

use acclimate_kernels::random::{self, Key};
use acclimate_kernels::stack;
use acclimate_tensor::{Result, Tensor};

/// How views are made.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Views {
    /// How many, the input itself included.
    pub count: usize,
    /// Whether every second view is mirrored left to right.
    pub mirror: bool,
    /// Standard deviation of the logarithm of the gain.
    pub gain: f32,
    /// Standard deviation of the offset, of pixels in 0..1.
    pub offset: f32,
}

impl Views {
    /// `count` views, mirrored, with gain ±5 % and offset ±0.02.
    pub fn new(count: usize) -> Self {
        Views { count, mirror: true, gain: 0.05, offset: 0.02 }
    }

    /// The views of x: [c, h, w] → [count, c, h, w].
    pub fn of(&self, x: &Tensor, key: &Key) -> Result<Tensor> {
        let n = self.count.max(1);
        let normals = random::normal(key, &[2, n])?;
        let mut views = Vec::with_capacity(n);
        views.push(x.clone());
        for k in 1..n {
            let (dy, dx) = spiral(k / if self.mirror { 2 } else { 1 });
            let mut view = moved(x, dy, dx)?;
            if self.mirror && k % 2 == 1 {
                view = view.flip(2)?;
            }
            let draw = |row: usize| normals.narrow(0, row, 1)?.narrow(1, k, 1)?.reshape(&[1, 1, 1]);
            let gain = draw(0)?.mul_scalar(self.gain)?.exp()?;
            views.push(view.mul(&gain)?.add(&draw(1)?.mul_scalar(self.offset)?)?);
        }
        stack(&views.iter().collect::<Vec<_>>(), 0)
    }
}

/// Offset number `i` of a spiral around (0, 0).
fn spiral(i: usize) -> (isize, isize) {
    const RING: [(isize, isize); 8] = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)];
    if i == 0 {
        return (0, 0);
    }
    let (ring, at) = ((i - 1) / 8, (i - 1) % 8);
    let step = (ring % 3 + 1) as isize;
    (RING[at].0 * step, RING[at].1 * step)
}

/// [c, h, w] moved by (dy, dx) pixels, zeros moving in.
fn moved(x: &Tensor, dy: isize, dx: isize) -> Result<Tensor> {
    let (h, w) = (x.dims()[1], x.dims()[2]);
    let (ay, ax) = (dy.unsigned_abs().min(h), dx.unsigned_abs().min(w));
    let around = |d: isize, a: usize| if d >= 0 { (a, 0) } else { (0, a) };
    let start = |d: isize, a: usize| if d >= 0 { 0 } else { a };
    x.pad(&[(0, 0), around(dy, ay), around(dx, ax)])?.narrow(1, start(dy, ay), h)?.narrow(2, start(dx, ax), w)
}
