//! Direct convolutions on the CPU: tiles of sums of products that read the image where it lies, without columns of pixels.
//!
//! Forward: 8 pixels by up to 32 output channels over all taps. Input gradient: the same over the upstream gradient, for
//! each residue of the stride. Weight gradient: 8 taps by up to 32 output channels over all pixels. Each sum runs over its
//! terms in one order, wherever its tile lies, so bits depend neither on threads nor on an image's place in the batch.

use acclimate_tensor::engine::cpu::tile::{COLUMNS, ROWS, Steps, tile};
use rayon::prelude::*;

use super::cpu::{MANY, with_scratch};
use super::geometry::Geometry;

/// Columns below which most of a tile would be empty.
const LEAST: usize = 8;
/// Pixels whose upstream gradients are laid out at once for a weight gradient.
const PIXELS: usize = 1024;
/// Parts that the batch is cut into for a weight gradient; fixed, so that the order of additions is too.
const PARTS: usize = 8;
/// Floats of all parts' sums together.
const PART_FLOATS: usize = 1 << 23;

/// Whether tiles of output channels pay.
pub(super) fn pays_by_outputs(g: &Geometry) -> bool {
    g.outs() >= LEAST && g.depth() >= LEAST
}

/// Whether tiles of input channels pay.
pub(super) fn pays_by_inputs(g: &Geometry) -> bool {
    g.ins() >= LEAST
}

/// Blocks of columns: (first, width of the tile, how many are real).
fn blocks(n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..n).step_by(COLUMNS).map(move |first| {
        let real = (n - first).min(COLUMNS);
        (first, if real > COLUMNS / 2 { COLUMNS } else { COLUMNS / 2 }, real)
    })
}

/// Columns of all blocks, those that are not real included.
fn padded(n: usize) -> usize {
    blocks(n).map(|b| b.1).sum()
}

/// An image between zeros.
#[derive(Clone, Copy, Debug)]
struct Frame {
    channels: usize,
    size: [usize; 2],
    low: [usize; 2],
    high: [usize; 2],
}

impl Frame {
    fn height(&self) -> usize {
        self.size[0] + self.low[0] + self.high[0]
    }

    fn width(&self) -> usize {
        self.size[1] + self.low[1] + self.high[1]
    }

    fn plane(&self) -> usize {
        self.height() * self.width()
    }

    fn is_bare(&self) -> bool {
        self.low == [0; 2] && self.high == [0; 2]
    }

    /// Floats of the framed image; none where the image itself will do.
    fn floats(&self) -> usize {
        if self.is_bare() { 0 } else { self.channels * self.plane() }
    }

    /// The framed image.
    fn of<'a>(&self, x: &'a [f32], scratch: &'a mut [f32]) -> &'a [f32] {
        if self.is_bare() {
            return x;
        }
        let [h, w] = self.size;
        let width = self.width();
        if h * w == 0 {
            scratch.fill(0.0);
            return scratch;
        }
        for (x, plane) in x.chunks_exact(h * w).zip(scratch.chunks_exact_mut(self.plane())) {
            let (top, rest) = plane.split_at_mut(self.low[0] * width);
            let (middle, bottom) = rest.split_at_mut(h * width);
            top.fill(0.0);
            bottom.fill(0.0);
            for (x, row) in x.chunks_exact(w).zip(middle.chunks_exact_mut(width)) {
                row[..self.low[1]].fill(0.0);
                row[self.low[1]..self.low[1] + w].copy_from_slice(x);
                row[self.low[1] + w..].fill(0.0);
            }
        }
        scratch
    }
}

/// A convolution as rows and steps of a framed image: rows are `grid` pixels, `step` apart.
struct Walk {
    frame: Frame,
    /// Positions of the terms of one output.
    steps: Steps,
    grid: [usize; 2],
    step: [usize; 2],
    /// Where the pixels go: first row and column, distance, width of the output.
    to: [usize; 2],
    apart: [usize; 2],
    to_width: usize,
}

impl Walk {
    /// All blocks of columns over one image: `panels` has the right factors of each block, `out` a plane of `area` for
    /// each column.
    fn run(&self, x: &[f32], panels: &[f32], columns: usize, out: &mut [f32], area: usize, parallel: bool) {
        let depth = self.steps.len();
        let block = |(b, out): (usize, &mut [f32])| {
            let (first, width, real) = (b * COLUMNS, tile_width(columns, b), out.len() / area);
            self.block(x, &panels[first * depth..][..width * depth], width, real, out, area);
        };
        if parallel && columns > COLUMNS {
            out.par_chunks_mut(COLUMNS * area).enumerate().for_each(block);
        } else {
            out.chunks_mut(COLUMNS * area).enumerate().for_each(block);
        }
    }

    fn block(&self, x: &[f32], panel: &[f32], width: usize, real: usize, out: &mut [f32], area: usize) {
        let mut sums = [0.0; ROWS * COLUMNS];
        let n = self.grid[0] * self.grid[1];
        let wide = self.frame.width();
        let is_dense = self.apart == [1; 2] && self.grid[1] == self.to_width && self.to == [0; 2];
        let (mut i, mut j) = (0, 0);
        let mut rows = [0; ROWS];
        let mut places = [0; ROWS];
        for p in (0..n).step_by(ROWS) {
            let count = ROWS.min(n - p);
            for (row, place) in rows.iter_mut().zip(&mut places).take(count) {
                *row = i * self.step[0] * wide + j * self.step[1];
                *place = (self.to[0] + i * self.apart[0]) * self.to_width + self.to[1] + j * self.apart[1];
                j += 1;
                if j == self.grid[1] {
                    (i, j) = (i + 1, 0);
                }
            }
            tile(x, &rows, &self.steps, panel, width, &mut sums[..ROWS * width], false);
            if is_dense && count == ROWS {
                for (o, plane) in out.chunks_exact_mut(area).take(real).enumerate() {
                    let eight: [f32; ROWS] = std::array::from_fn(|r| sums[r * width + o]);
                    plane[p..p + ROWS].copy_from_slice(&eight);
                }
            } else {
                for (o, plane) in out.chunks_exact_mut(area).take(real).enumerate() {
                    for (r, &place) in places.iter().take(count).enumerate() {
                        plane[place] = sums[r * width + o];
                    }
                }
            }
        }
    }
}

/// Width of the tile of block `b` of `columns`.
fn tile_width(columns: usize, b: usize) -> usize {
    if columns - b * COLUMNS > COLUMNS / 2 { COLUMNS } else { COLUMNS / 2 }
}

/// The right factors by blocks of columns, a row for each step: `at(step, column)`, zeros beyond.
fn pack(panels: &mut [f32], n: usize, depth: usize, at: impl Fn(usize, usize) -> f32) {
    let mut rest = panels;
    for (first, width, real) in blocks(n) {
        let (panel, tail) = rest.split_at_mut(width * depth);
        rest = tail;
        for (q, row) in panel.chunks_exact_mut(width).enumerate() {
            for (c, to) in row.iter_mut().enumerate() {
                *to = if c < real { at(q, first + c) } else { 0.0 };
            }
        }
    }
}

/// The frame that padding puts around the image, and the taps' positions in it.
fn framed(g: &Geometry) -> (Frame, Steps) {
    let [[top, bottom], [left, right]] = g.conv.padding;
    let frame = Frame { channels: g.ins(), size: [g.h, g.w], low: [top, left], high: [bottom, right] };
    let (plane, width, [down, along]) = (frame.plane(), frame.width(), g.conv.dilation);
    let taps = (0..g.kh).flat_map(|u| (0..g.kw).map(move |v| u * down * width + v * along));
    let mut steps = Steps::default();
    steps.fill((0..g.ins()).flat_map(|c| taps.clone().map(move |tap| c * plane + tap)));
    (frame, steps)
}

/// y = w * x.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    let (outs, depth, area) = (g.outs(), g.depth(), g.oh * g.ow);
    let (frame, steps) = framed(g);
    let [step, grid] = [g.conv.stride, [g.oh, g.ow]];
    let walk = Walk { frame, steps, grid, step, to: [0; 2], apart: [1; 2], to_width: g.ow };
    let size = padded(outs) * depth;
    with_scratch(size * g.conv.groups, |panels| {
        for (q, panels) in panels.chunks_exact_mut(size.max(1)).enumerate() {
            pack(panels, outs, depth, |k, o| w[(q * outs + o) * depth + k]);
        }
        each_image(g, y, outs * area, |job, y, parallel| {
            with_scratch(frame.floats(), |scratch| {
                let size = g.ins() * g.h * g.w;
                let x = frame.of(&x[job * size..][..size], scratch);
                let panels = &panels[job % g.conv.groups * padded(outs) * depth..];
                walk.run(x, panels, outs, y, area, parallel);
            });
        });
    });
}

/// Calls `f` for each image and group with its piece of the output, and whether it may use other threads.
fn each_image(g: &Geometry, out: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32], bool) + Sync) {
    if size == 0 || out.is_empty() {
        return;
    }
    let jobs = g.n * g.conv.groups;
    let work = (g.outs() * g.depth() * g.oh * g.ow).max(1);
    // A task of less than this is over before another thread has woken up.
    let least = ((1 << 17) / work).max(1);
    let parallel = jobs < MANY && work > 1 << 18;
    out.par_chunks_exact_mut(size).with_min_len(least).enumerate().for_each(|(job, out)| f(job, out, parallel));
}

/// One axis of an input gradient: pixels by residue of the stride, each with the taps that reach them.
struct Residue {
    /// The first pixel.
    first: usize,
    /// How many pixels.
    count: usize,
    /// The output that tap 0 of this residue reaches from the first pixel.
    at: usize,
    /// (tap, how many outputs earlier).
    taps: Vec<(usize, usize)>,
}

fn residues(g: &Geometry, axis: usize) -> Vec<Residue> {
    let c = &g.conv;
    let (stride, dilation, pad) = (c.stride[axis], c.dilation[axis], c.padding[axis][0]);
    let (size, k) = ([g.h, g.w][axis], [g.kh, g.kw][axis]);
    let of = |a: usize| {
        let first = (a + stride - pad % stride) % stride;
        let taps = (0..k).filter(|u| u * dilation % stride == a).map(|u| (u, (u * dilation - a) / stride)).collect();
        let count = size.saturating_sub(first).div_ceil(stride);
        Residue { first, count, at: (first + pad - a) / stride, taps }
    };
    (0..stride).map(of).filter(|r| r.count > 0).collect()
}

/// dx = wᵀ * dy.
pub(super) fn input_grad(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (ins, outs, area) = (g.ins(), g.outs(), g.h * g.w);
    let axes = [residues(g, 0), residues(g, 1)];
    // Zeros around dy, as far as any tap reaches.
    let (mut low, mut high) = ([0; 2], [0; 2]);
    for (d, size) in [g.oh, g.ow].into_iter().enumerate() {
        for r in &axes[d] {
            for &(_, back) in &r.taps {
                low[d] = low[d].max(back.saturating_sub(r.at));
                high[d] = high[d].max((r.at + r.count).saturating_sub(back + size));
            }
        }
    }
    let frame = Frame { channels: outs, size: [g.oh, g.ow], low, high };
    let (plane, width) = (frame.plane(), frame.width());
    let pairs = || axes[0].iter().flat_map(|r| axes[1].iter().map(move |s| (r, s)));
    let walks: Vec<Walk> = pairs()
        .map(|(r, s)| {
            let taps = || r.taps.iter().flat_map(|&(_, up)| s.taps.iter().map(move |&(_, left)| (up, left)));
            let tap = |(up, left): (usize, usize)| (r.at + low[0] - up) * width + s.at + low[1] - left;
            let mut steps = Steps::default();
            steps.fill((0..outs).flat_map(|o| taps().map(move |t| o * plane + tap(t))));
            let (to, apart) = ([r.first, s.first], g.conv.stride);
            Walk { frame, steps, grid: [r.count, s.count], step: [1; 2], to, apart, to_width: g.w }
        })
        .collect();
    let size: usize = walks.iter().map(|walk| walk.steps.len() * padded(ins)).sum();
    with_scratch(size * g.conv.groups, |panels| {
        for (q, mut panels) in panels.chunks_exact_mut(size.max(1)).enumerate() {
            for (r, s) in pairs() {
                let each = r.taps.len() * s.taps.len();
                let (mine, rest) = panels.split_at_mut(outs * each * padded(ins));
                panels = rest;
                pack(mine, ins, outs * each, |k, c| {
                    let (u, v) = (r.taps[k % each / s.taps.len()].0, s.taps[k % s.taps.len()].0);
                    w[(((q * outs + k / each) * ins + c) * g.kh + u) * g.kw + v]
                });
            }
        }
        let panels = &*panels;
        each_image(g, dx, ins * area, |job, dx, parallel| {
            with_scratch(frame.floats(), |scratch| {
                let each = outs * g.oh * g.ow;
                let dy = frame.of(&dy[job * each..][..each], scratch);
                let mut panels = &panels[job % g.conv.groups * size..][..size];
                for walk in &walks {
                    let (mine, rest) = panels.split_at(walk.steps.len() * padded(ins));
                    panels = rest;
                    walk.run(dy, mine, ins, dx, area, parallel);
                }
            });
        });
    });
}

/// dw = Σ over images of dy * x: the batch is cut into a fixed number of parts, whose sums are added in order.
pub(super) fn weight_grad(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (outs, depth, groups) = (g.outs(), g.depth(), g.conv.groups);
    let (frame, taps) = framed(g);
    let offsets: Vec<usize> = taps.iter().collect();
    // Whole rows of pixels; the last stretch of an image may have fewer.
    let rows = (PIXELS / g.ow.max(1)).clamp(1, g.oh.max(1));
    let pixels = |n_rows: usize| {
        let mut steps = Steps::default();
        let [down, along] = g.conv.stride;
        let width = frame.width();
        steps.fill((0..n_rows).flat_map(|i| (0..g.ow).map(move |j| i * down * width + j * along)));
        steps
    };
    let (whole, last) = (pixels(rows), pixels(g.oh % rows));
    let sum = padded(outs) * depth.next_multiple_of(ROWS);
    let parts = PARTS.div_ceil(groups).min(PART_FLOATS / (sum * groups).max(1)).clamp(1, g.n.max(1));
    let images = g.n.div_ceil(parts).max(1);
    let parts = g.n.div_ceil(images).max(1);
    let panel = rows * g.ow * COLUMNS;
    with_scratch(parts * groups * sum, |sums| {
        sums.fill(0.0);
        // Job p · groups + q: part p of the batch, group q.
        sums.par_chunks_exact_mut(sum.max(1)).enumerate().for_each(|(job, sums)| {
            let part = job / groups;
            with_scratch(frame.floats() + panel, |scratch| {
                let (image, panel) = scratch.split_at_mut(frame.floats());
                for n in part * images..((part + 1) * images).min(g.n) {
                    let at = n * groups + job % groups;
                    let size = g.ins() * g.h * g.w;
                    let x = frame.of(&x[at * size..][..size], image);
                    let dy = &dy[at * outs * g.oh * g.ow..][..outs * g.oh * g.ow];
                    for i in (0..g.oh).step_by(rows) {
                        let steps = if i + rows <= g.oh { &whole } else { &last };
                        let x = &x[i * g.conv.stride[0] * frame.width()..];
                        add_weights(g, x, &offsets, steps, dy, i * g.ow, panel, sums);
                    }
                }
            });
        });
        for (q, dw) in dw.chunks_exact_mut(outs * depth).enumerate() {
            for (b, (first, width, real)) in blocks(outs).enumerate() {
                let base = b * COLUMNS * depth.next_multiple_of(ROWS);
                for (k, o) in (0..depth).flat_map(|k| (0..real).map(move |o| (k, o))) {
                    let one = |p: usize| sums[(p * groups + q) * sum + base + k * width + o];
                    dw[(first + o) * depth + k] = (1..parts).fold(one(0), |total, p| total + one(p));
                }
            }
        }
    });
}

/// Adds the share of a stretch of pixels, the first of which is `from`.
#[allow(clippy::too_many_arguments)] // an image, its gradient, and what is made of them
fn add_weights(
    g: &Geometry,
    x: &[f32],
    offsets: &[usize],
    steps: &Steps,
    dy: &[f32],
    from: usize,
    panel: &mut [f32],
    sums: &mut [f32],
) {
    let area = g.oh * g.ow;
    let mut rest = sums;
    for (first, width, real) in blocks(g.outs()) {
        let panel = &mut panel[..steps.len() * width];
        if real < width {
            panel.fill(0.0);
        }
        transpose(&dy[first * area + from..], area, real, panel, width);
        let (mine, tail) = rest.split_at_mut(offsets.len().next_multiple_of(ROWS) * width);
        rest = tail;
        for (taps, sums) in offsets.chunks(ROWS).zip(mine.chunks_exact_mut(ROWS * width)) {
            let mut rows = [taps[0]; ROWS];
            rows[..taps.len()].copy_from_slice(taps);
            tile(x, &rows, steps, panel, width, sums, true);
        }
    }
}

/// `to[p][c] = from[c][p]` for `n` rows of `from`, `stride` apart, and all rows of `to`, `width` apart.
fn transpose(from: &[f32], stride: usize, n: usize, to: &mut [f32], width: usize) {
    let pixels = to.len() / width;
    // Blocks of 8 by 8, so that each line of memory is touched once.
    for p in (0..pixels).step_by(8) {
        for c in (0..n).step_by(8) {
            if p + 8 <= pixels && c + 8 <= n {
                let eight: [[f32; 8]; 8] = std::array::from_fn(|i| {
                    let row = &from[(c + i) * stride + p..][..8];
                    std::array::from_fn(|j| row[j])
                });
                for j in 0..8 {
                    let column: [f32; 8] = std::array::from_fn(|i| eight[i][j]);
                    to[(p + j) * width + c..][..8].copy_from_slice(&column);
                }
                continue;
            }
            for j in p..(p + 8).min(pixels) {
                for i in c..(c + 8).min(n) {
                    to[j * width + i] = from[i * stride + j];
                }
            }
        }
    }
}
