//! Direct convolutions on the CPU: tiles of sums of products that read the image where it lies, without columns of pixels.
//!
//! Forward: 8 pixels by up to 32 output channels over all taps. Input gradient: the same over the upstream gradient, for
//! each residue of the stride. Weight gradient: 8 taps by up to 32 output channels over all pixels. Each sum runs over its
//! terms in one order, wherever its tile lies, so bits depend neither on threads nor on an image's place in the batch.

use acclimate_tensor::engine::cpu::tile::{COLUMNS, ROWS, Steps, tile};
use acclimate_tensor::engine::cpu::transpose::transpose;
use rayon::prelude::*;

use smallvec::SmallVec;

use super::cpu::{MANY, with_places, with_scratch};
use super::geometry::Geometry;

/// Columns below which most of a tile would be empty.
const LEAST: usize = 8;
/// Tiles that are computed before their sums go to the planes of the image: 16 pixels are a whole line of memory.
const TILES: usize = 2;
/// Steps whose right factors stay in a usual second-level cache while tiles go over them.
const STEPS: usize = 1024;
/// Tiles that go over so many steps before the next ones come, where there are more.
const DEEP_TILES: usize = 16;
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
        // A whole number of cache lines, so that what comes behind begins at one too.
        if self.is_bare() { 0 } else { (self.channels * self.plane()).next_multiple_of(16) }
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
struct Walk<'a> {
    frame: Frame,
    /// Positions of the terms of one output.
    steps: Steps<'a>,
    grid: [usize; 2],
    step: [usize; 2],
    /// Where the pixels go: first row and column, distance, width of the output.
    to: [usize; 2],
    apart: [usize; 2],
    to_width: usize,
}

impl Walk<'_> {
    /// All blocks of columns over one image: `panels` has the right factors of each block, `out` a plane of `area` for
    /// each column.
    fn run(&self, x: &[f32], panels: &[f32], columns: usize, out: &mut [f32], area: usize, parallel: bool) {
        let depth = self.steps.len();
        let block = |(b, out): (usize, &mut [f32])| {
            let (first, width, real) = (b * COLUMNS, tile_width(columns, b), out.len() / area);
            let panel = &panels[first * depth..][..width * depth];
            match depth {
                ..=STEPS => self.block::<TILES>(x, panel, width, real, out, area),
                _ => self.block::<DEEP_TILES>(x, panel, width, real, out, area),
            }
        };
        if parallel && columns > COLUMNS {
            out.par_chunks_mut(COLUMNS * area).enumerate().for_each(block);
        } else {
            out.chunks_mut(COLUMNS * area).enumerate().for_each(block);
        }
    }

    fn block<const N: usize>(&self, x: &[f32], panel: &[f32], width: usize, real: usize, out: &mut [f32], area: usize) {
        let depth = self.steps.len();
        let mut sums = [[0.0; ROWS * COLUMNS]; N];
        let sums = sums.as_flattened_mut();
        let n = self.grid[0] * self.grid[1];
        let frame_width = self.frame.width();
        let is_dense = self.apart == [1; 2] && self.grid[1] == self.to_width && self.to == [0; 2];
        let (mut i, mut j) = (0, 0);
        let mut rows = [[0; ROWS]; N];
        let mut places = [[0; ROWS]; N];
        for p in (0..n).step_by(N * ROWS) {
            let count = (n - p).min(N * ROWS);
            for (row, place) in rows.as_flattened_mut().iter_mut().zip(places.as_flattened_mut()).take(count) {
                *row = i * self.step[0] * frame_width + j * self.step[1];
                *place = (self.to[0] + i * self.apart[0]) * self.to_width + self.to[1] + j * self.apart[1];
                j += 1;
                if j == self.grid[1] {
                    (i, j) = (i + 1, 0);
                }
            }
            // No step at all is one stretch of none: its sums are 0.
            for from in (0..depth.max(1)).step_by(STEPS) {
                let steps = self.steps.part(from..depth.min(from + STEPS));
                let panel = &panel[from * width..];
                for (rows, sums) in rows.iter().zip(sums.chunks_exact_mut(ROWS * width)).take(count.div_ceil(ROWS)) {
                    tile(x, rows, steps, panel, width, sums, from > 0);
                }
            }
            if is_dense {
                transpose(sums, width, &mut out[p..], area, count, real);
            } else {
                for (o, plane) in out.chunks_exact_mut(area).take(real).enumerate() {
                    for (r, &place) in places.as_flattened().iter().take(count).enumerate() {
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

/// The frame that padding puts around the image.
fn framed(g: &Geometry) -> Frame {
    let [[top, bottom], [left, right]] = g.conv.padding;
    Frame { channels: g.ins(), size: [g.h, g.w], low: [top, left], high: [bottom, right] }
}

/// The positions of the taps of all channels in the frame.
fn taps(g: &Geometry, frame: &Frame, to: &mut [usize]) {
    let (plane, width, [down, along]) = (frame.plane(), frame.width(), g.conv.dilation);
    let all = (0..g.ins()).flat_map(|c| (0..g.kh).flat_map(move |u| (0..g.kw).map(move |v| (c, u, v))));
    to.iter_mut().zip(all).for_each(|(to, (c, u, v))| *to = c * plane + u * down * width + v * along);
}

/// y = w * x.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    let (outs, depth, area) = (g.outs(), g.depth(), g.oh * g.ow);
    let frame = framed(g);
    let size = padded(outs) * depth;
    with_places(depth, |list| {
        taps(g, &frame, list);
        let (steps, grid, step) = (Steps::new(list), [g.oh, g.ow], g.conv.stride);
        let walk = Walk { frame, steps, grid, step, to: [0; 2], apart: [1; 2], to_width: g.ow };
        with_scratch(size * g.conv.groups, |panels| {
            for (q, panels) in panels.chunks_exact_mut(size.max(1)).enumerate() {
                pack(panels, outs, depth, |k, o| w[(q * outs + o) * depth + k]);
            }
            each_image(g, y, outs * area, |job, y, parallel| {
                with_scratch(frame.floats(), |scratch| {
                    let each = g.ins() * g.h * g.w;
                    let x = frame.of(&x[job * each..][..each], scratch);
                    walk.run(x, &panels[job % g.conv.groups * size..], outs, y, area, parallel);
                });
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
    taps: SmallVec<[(usize, usize); 8]>,
}

fn residues(g: &Geometry, axis: usize) -> SmallVec<[Residue; 4]> {
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
    let n_taps = |r: &Residue, s: &Residue| r.taps.len() * s.taps.len();
    let depth: usize = outs * pairs().map(|(r, s)| n_taps(r, s)).sum::<usize>();
    let size = depth * padded(ins);
    with_places(depth, |list| {
        let mut rest = &mut *list;
        for (r, s) in pairs() {
            let (mine, tail) = rest.split_at_mut(outs * n_taps(r, s));
            rest = tail;
            for (k, to) in mine.iter_mut().enumerate() {
                let (o, tap) = (k / n_taps(r, s), k % n_taps(r, s));
                let (up, left) = (r.taps[tap / s.taps.len()].1, s.taps[tap % s.taps.len()].1);
                *to = o * plane + (r.at + low[0] - up) * width + s.at + low[1] - left;
            }
        }
        let list = &*list;
        with_scratch(size * g.conv.groups, |panels| {
            for (q, mut panels) in panels.chunks_exact_mut(size.max(1)).enumerate() {
                for (r, s) in pairs() {
                    let each = n_taps(r, s);
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
                    let mut list = list;
                    for (r, s) in pairs() {
                        let (steps, rest) = list.split_at(outs * n_taps(r, s));
                        list = rest;
                        let (mine, rest) = panels.split_at(steps.len() * padded(ins));
                        panels = rest;
                        let (steps, grid, to) = (Steps::new(steps), [r.count, s.count], [r.first, s.first]);
                        let walk = Walk { frame, steps, grid, step: [1; 2], to, apart: g.conv.stride, to_width: g.w };
                        walk.run(dy, mine, ins, dx, area, parallel);
                    }
                });
            });
        });
    });
}

/// dw = Σ over images of dy * x: the batch is cut into a fixed number of parts, whose sums are added in order.
pub(super) fn weight_grad(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (outs, depth, groups) = (g.outs(), g.depth(), g.conv.groups);
    let frame = framed(g);
    // Whole rows of pixels; the last stretch of an image may have fewer.
    let rows = (PIXELS / g.ow.max(1)).clamp(1, g.oh.max(1));
    let sum = padded(outs) * depth.next_multiple_of(ROWS);
    let parts = PARTS.div_ceil(groups).min(PART_FLOATS / (sum * groups).max(1)).clamp(1, g.n.max(1));
    let images = g.n.div_ceil(parts).max(1);
    let parts = g.n.div_ceil(images).max(1);
    let panel = rows * g.ow * COLUMNS;
    with_places(depth + rows * g.ow, |list| {
        let (offsets, pixels) = list.split_at_mut(depth);
        taps(g, &frame, offsets);
        let (width, [down, along]) = (frame.width(), g.conv.stride);
        for (p, to) in pixels.iter_mut().enumerate() {
            *to = p / g.ow * down * width + p % g.ow * along;
        }
        let (offsets, whole, last) = (&*offsets, Steps::new(pixels), Steps::new(&pixels[..g.oh % rows * g.ow]));
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
                            let steps = if i + rows <= g.oh { whole } else { last };
                            let x = &x[i * down * width..];
                            add_weights(g, x, offsets, steps, dy, i * g.ow, panel, sums);
                        }
                    }
                });
            });
            total(g, sums, sum, parts, dw);
        });
    });
}

/// Adds the parts' sums in order.
fn total(g: &Geometry, sums: &[f32], sum: usize, parts: usize, dw: &mut [f32]) {
    let (outs, depth, groups) = (g.outs(), g.depth(), g.conv.groups);
    for (q, dw) in dw.chunks_exact_mut(outs * depth).enumerate() {
        for (first, width, real) in blocks(outs) {
            let base = first * depth.next_multiple_of(ROWS);
            for (k, o) in (0..depth).flat_map(|k| (0..real).map(move |o| (k, o))) {
                let one = |p: usize| sums[(p * groups + q) * sum + base + k * width + o];
                dw[(first + o) * depth + k] = (1..parts).fold(one(0), |total, p| total + one(p));
            }
        }
    }
}

/// Adds the share of a stretch of pixels, the first of which is `from`.
#[allow(clippy::too_many_arguments)] // an image, its gradient, and what is made of them
fn add_weights(
    g: &Geometry,
    x: &[f32],
    offsets: &[usize],
    steps: Steps<'_>,
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
        transpose(&dy[first * area + from..], area, panel, width, real, steps.len());
        let (mine, tail) = rest.split_at_mut(offsets.len().next_multiple_of(ROWS) * width);
        rest = tail;
        for (taps, sums) in offsets.chunks(ROWS).zip(mine.chunks_exact_mut(ROWS * width)) {
            let mut rows = [taps[0]; ROWS];
            rows[..taps.len()].copy_from_slice(taps);
            tile(x, &rows, steps, panel, width, sums, true);
        }
    }
}
