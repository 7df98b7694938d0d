//! Convolutions whose groups have a few output channels, above all depthwise ones, on the CPU: whole planes as one line.
//!
//! The image is laid out once, between zeros and by residue of the stride, with rows as far apart as those of the output.
//! Then tap (u, v) of all outputs of a plane reads one line of neighbors, and forward pass, input gradient and weight
//! gradient are sums of weighed lines, whatever stride, dilation and padding are.

use acclimate_tensor::engine::cpu::simd::{Wide, wide};
use smallvec::SmallVec;

use super::cpu::{with_places, with_scratch};
use super::geometry::Geometry;

/// Numbers that are summed side by side.
const LANES: usize = 32;

/// How a group's planes are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines<'g> {
    g: &'g Geometry,
    /// How far the taps reach beyond the first, in outputs.
    reach: [usize; 2],
    /// Distance of rows.
    pitch: usize,
    /// Floats of a line over all outputs, a whole number of lanes.
    line: usize,
    /// Floats of a plane of one channel and residue.
    plane: usize,
}

/// A channel and residues of the stride: which plane, and how it lies over the image.
struct Phase {
    plane: usize,
    channel: usize,
    residue: [usize; 2],
}

impl<'g> Lines<'g> {
    pub fn new(g: &'g Geometry) -> Self {
        let reach = |d: usize, k: usize| (k - 1) * g.conv.dilation[d] / g.conv.stride[d];
        let reach = [reach(0, g.kh), reach(1, g.kw)];
        let pitch = g.ow + reach[1];
        let line = (g.oh * pitch).next_multiple_of(LANES);
        Lines { g, reach, pitch, line, plane: line + (reach[0] * pitch + reach[1]).next_multiple_of(LANES) }
    }

    fn phases(&self) -> impl Iterator<Item = Phase> + use<> {
        let (ins, [down, along]) = (self.g.ins(), self.g.conv.stride);
        let of = move |plane| {
            let residue = [plane / along % down, plane % along];
            Phase { plane, channel: plane / (down * along), residue }
        };
        (0..ins * down * along).map(of)
    }

    /// Floats of all planes of a group.
    fn planes(&self) -> usize {
        self.g.ins() * self.g.conv.stride[0] * self.g.conv.stride[1] * self.plane
    }

    /// Where in the planes tap (u, v) of channel c reads for the first output: (plane, position in it).
    fn tap(&self, c: usize, u: usize, v: usize) -> (usize, usize) {
        let ([down, along], [du, dv]) = (self.g.conv.stride, self.g.conv.dilation);
        let plane = (c * down + u * du % down) * along + v * dv % along;
        (plane, u * du / down * self.pitch + v * dv / along)
    }

    /// The taps of a channel.
    fn taps(&self, c: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let g = self.g;
        (0..g.kh).flat_map(move |u| (0..g.kw).map(move |v| self.tap(c, u, v)))
    }

    /// Calls `f` for each row of a plane that crosses the image: the first float in the plane, the first in the image, and
    /// how many, `stride` apart in the image.
    fn rows(&self, phase: &Phase, mut f: impl FnMut(usize, usize, usize)) {
        let g = self.g;
        let ([down, along], [[top, _], [left, _]]) = (g.conv.stride, g.conv.padding);
        let Phase { channel, residue: [a, b], .. } = *phase;
        let first = left.saturating_sub(b).div_ceil(along).min(self.pitch);
        let end = (g.w + left).saturating_sub(b).div_ceil(along).clamp(first, self.pitch);
        for r in 0..g.oh + self.reach[0] {
            let Some(row) = (r * down + a).checked_sub(top).filter(|&row| row < g.h && first < end) else { continue };
            let column = first * along + b - left;
            f(r * self.pitch + first, (channel * g.h + row) * g.w + column, end - first);
        }
    }

    /// The planes of one group's image.
    fn lay_out(&self, x: &[f32], planes: &mut [f32]) {
        let along = self.g.conv.stride[1];
        planes.fill(0.0);
        for phase in self.phases() {
            let plane = &mut planes[phase.plane * self.plane..][..self.plane];
            self.rows(&phase, |to, from, n| {
                let to = &mut plane[to..to + n];
                if along == 1 {
                    to.copy_from_slice(&x[from..from + n]);
                } else {
                    to.iter_mut().zip(x[from..].iter().step_by(along)).for_each(|(to, from)| *to = *from);
                }
            });
        }
    }

    /// Upstream gradients with rows as far apart as the planes': `before` zeros, then the line.
    fn spread(&self, dy: &[f32], before: usize, line: &mut [f32]) {
        line.fill(0.0);
        for (row, to) in dy.chunks_exact(self.g.ow).zip(line[before..].chunks_mut(self.pitch)) {
            to[..row.len()].copy_from_slice(row);
        }
    }

    /// Calls `f` with the position of each tap's line.
    pub fn with_taps(&self, f: impl FnOnce(&[usize])) {
        with_places(self.g.depth(), |places| {
            let taps = (0..self.g.ins()).flat_map(|c| self.taps(c));
            places.iter_mut().zip(taps).for_each(|(to, (plane, at))| *to = plane * self.plane + at);
            f(places);
        });
    }

    /// y = w * x for one image and group.
    pub fn forward(&self, taps: &[usize], x: &[f32], w: &[f32], y: &mut [f32]) {
        let g = self.g;
        with_scratch(self.planes() + self.line, |scratch| {
            let (planes, line) = scratch.split_at_mut(self.planes());
            self.lay_out(x, planes);
            for (w, y) in w.chunks_exact(g.depth()).zip(y.chunks_exact_mut(g.oh * g.ow)) {
                wide(Weighed { x: planes, at: taps, w, out: line });
                for (row, y) in line.chunks(self.pitch).zip(y.chunks_exact_mut(g.ow)) {
                    y.copy_from_slice(&row[..g.ow]);
                }
            }
        });
    }

    /// dx = wᵀ * dy for one image and group.
    pub fn input_grad(&self, dy: &[f32], w: &[f32], dx: &mut [f32]) {
        let (g, along) = (self.g, self.g.conv.stride[1]);
        // A tap that reads `at` floats further gives to what lies `at` floats before.
        let before = self.reach[0] * self.pitch + self.reach[1];
        let each = before + self.plane;
        dx.fill(0.0);
        with_scratch(g.outs() * each + self.plane, |scratch| {
            let (lines, sums) = scratch.split_at_mut(g.outs() * each);
            for (dy, line) in dy.chunks_exact(g.oh * g.ow).zip(lines.chunks_exact_mut(each)) {
                self.spread(dy, before, line);
            }
            for phase in self.phases() {
                let mut at: SmallVec<[usize; 32]> = SmallVec::new();
                let mut weights: SmallVec<[f32; 32]> = SmallVec::new();
                for (o, w) in w.chunks_exact(g.depth()).enumerate() {
                    // No tap of another channel reads this plane.
                    let taps = self.taps(phase.channel).zip(&w[phase.channel * g.taps()..]);
                    for ((_, back), &w) in taps.filter(|((plane, _), _)| *plane == phase.plane) {
                        at.push(o * each + before - back);
                        weights.push(w);
                    }
                }
                wide(Weighed { x: lines, at: &at, w: &weights, out: sums });
                self.rows(&phase, |from, to, n| {
                    let sums = &sums[from..from + n];
                    dx[to..].iter_mut().step_by(along).zip(sums).for_each(|(dx, sum)| *dx = *sum);
                });
            }
        });
    }

    /// Adds one image's and group's share of dw = dy * x.
    pub fn weight_grad(&self, taps: &[usize], x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let g = self.g;
        with_scratch(self.planes() + self.line, |scratch| {
            let (planes, line) = scratch.split_at_mut(self.planes());
            self.lay_out(x, planes);
            for (dy, dw) in dy.chunks_exact(g.oh * g.ow).zip(dw.chunks_exact_mut(g.depth())) {
                self.spread(dy, 0, line);
                for (dw, &at) in dw.iter_mut().zip(taps) {
                    *dw += wide(Dot(&planes[at..at + line.len()], line));
                }
            }
        });
    }
}

/// `out[p] = Σ_q w[q] · x[at[q] + p]`.
struct Weighed<'a> {
    x: &'a [f32],
    at: &'a [usize],
    w: &'a [f32],
    out: &'a mut [f32],
}

impl Wide for Weighed<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (block, out) in self.out.chunks_exact_mut(LANES).enumerate() {
            let mut sums = [0.0; LANES];
            for (&at, &w) in self.at.iter().zip(self.w) {
                let x = &self.x[at + block * LANES..][..LANES];
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += w * x;
                }
            }
            out.copy_from_slice(&sums);
        }
    }
}

/// Σ a · b over whole lanes.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl Wide for Dot<'_> {
    type Output = f32;
    #[inline(always)]
    fn run(self) -> f32 {
        let mut sums = [0.0f32; LANES];
        for (a, b) in self.0.chunks_exact(LANES).zip(self.1.chunks_exact(LANES)) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
        sums.iter().sum()
    }
}
