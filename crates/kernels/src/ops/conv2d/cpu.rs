//! Convolutions on the CPU: tiles of sums where the image lies, lines where a group has only a few output channels, else
//! columns of pixels and a product per image and group.
//!
//! All cuts follow from shapes, so answers depend neither on the number of threads nor on an image's place in the batch.

use std::cell::RefCell;
use std::thread::LocalKey;

use acclimate_tensor::engine::cpu::aligned::Aligned;
use acclimate_tensor::engine::cpu::product::{Strides, Threads, gemm};
use rayon::prelude::*;

use super::direct;
use super::geometry::Geometry;
use super::lines::Lines;

/// Floats of columns that are made at once: half of a usual second-level cache.
const BLOCK: usize = 1 << 16;
/// Images times groups from which every thread has enough of them for itself.
pub(super) const MANY: usize = 16;
/// Output channels of a group below which a product would be mostly overhead.
const FEW: usize = 4;
/// Parts that the batch is cut into for a weight gradient; fixed, so that the order of additions is too.
const PARTS: usize = 16;
/// Floats of all parts' sums together.
const PART_FLOATS: usize = 1 << 23;

thread_local! {
    static SCRATCH: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
    static PLACES: RefCell<Vec<Vec<usize>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with `len` floats of this thread, holding anything, from a cache line on.
pub(super) fn with_scratch(len: usize, f: impl FnOnce(&mut [f32])) {
    with(&SCRATCH, |scratch| {
        scratch.grow(len);
        f(&mut scratch.floats_mut()[..len]);
    });
}

/// The same with `len` positions.
pub(super) fn with_places(len: usize, f: impl FnOnce(&mut [usize])) {
    with(&PLACES, |places| {
        places.resize(len.max(places.len()), 0);
        f(&mut places[..len]);
    });
}

fn with<T: Default>(pool: &'static LocalKey<RefCell<Vec<T>>>, f: impl FnOnce(&mut T)) {
    // Taken out, not borrowed: what runs inside `f`, or is stolen while it waits, gets memory of its own.
    let mut scratch = pool.with_borrow_mut(Vec::pop).unwrap_or_default();
    f(&mut scratch);
    pool.with_borrow_mut(|all| all.push(scratch));
}

/// y = w * x.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    if direct::pays_by_outputs(g) && !is_pointwise(g) {
        return direct::forward(g, x, w, y);
    }
    let (outs, depth, area) = (g.outs(), g.depth(), g.oh * g.ow);
    if outs < FEW {
        let lines = Lines::new(g);
        return lines.with_taps(|taps| {
            each_job(g, y, outs * area, |job, y, _| lines.forward(taps, x_of(g, x, job), w_of(g, w, job), y));
        });
    }
    each_job(g, y, outs * area, |job, y, threads| {
        let x = x_of(g, x, job);
        let w = w_of(g, w, job);
        each_block(g, threads, |rows, columns, scratch| {
            let columns_of = if is_pointwise(g) {
                (x, Strides::rows(area), rows.start * g.ow)
            } else {
                gather(g, x, rows.clone(), scratch);
                (&*scratch, Strides::rows(columns), 0)
            };
            let (b, b_strides, from) = columns_of;
            let y = &mut y[rows.start * g.ow..];
            let size = (outs, columns, depth);
            gemm(size, w, Strides::rows(depth), &b[from..], b_strides, y, Strides::rows(area), false, threads);
        });
    });
}

/// dx = wᵀ * dy.
pub(super) fn input_grad(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    if direct::pays_by_inputs(g) && g.outs() >= FEW && !is_pointwise(g) {
        return direct::input_grad(g, dy, w, dx);
    }
    let (outs, depth, area) = (g.outs(), g.depth(), g.oh * g.ow);
    each_job(g, dx, g.ins() * g.h * g.w, |job, dx, threads| {
        let dy = &dy[job * outs * area..][..outs * area];
        let w = w_of(g, w, job);
        if is_pointwise(g) && outs >= FEW {
            let size = (depth, area, outs);
            let t = Strides::transposed(depth);
            return gemm(size, w, t, dy, Strides::rows(area), dx, Strides::rows(area), false, threads);
        }
        if outs < FEW {
            return Lines::new(g).input_grad(dy, w, dx);
        }
        dx.fill(0.0);
        each_block(g, threads, |rows, columns, scratch| {
            let size = (depth, columns, outs);
            let dy = &dy[rows.start * g.ow..];
            let t = Strides::transposed(depth);
            gemm(size, w, t, dy, Strides::rows(area), scratch, Strides::rows(columns), false, threads);
            scatter(g, scratch, rows, dx);
        });
    });
}

/// dw = Σ over images of dy * x: the batch is cut into a fixed number of parts, whose sums are added in order.
pub(super) fn weight_grad(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (outs, groups) = (g.outs(), g.conv.groups);
    let size = outs * g.depth();
    if g.n == 0 || size == 0 {
        return dw.fill(0.0);
    }
    if direct::pays_by_outputs(g) && !is_pointwise(g) {
        return direct::weight_grad(g, x, dy, dw);
    }
    let wanted = PARTS.div_ceil(groups).min(PART_FLOATS / dw.len()).clamp(1, g.n);
    let images = g.n.div_ceil(wanted);
    let parts = g.n.div_ceil(images);
    let threads = if parts * groups < FEW { Threads::All } else { Threads::One };
    // Job p · groups + q: part p of the batch, group q.
    let job = |job: usize, dw: &mut [f32]| {
        let part = job / groups;
        dw.fill(0.0);
        for n in part * images..((part + 1) * images).min(g.n) {
            one_weight_grad(g, x, dy, n * groups + job % groups, dw, threads);
        }
    };
    if parts == 1 {
        return dw.par_chunks_exact_mut(size).enumerate().for_each(|(i, dw)| job(i, dw));
    }
    let mut sums = vec![0.0; parts * dw.len()];
    sums.par_chunks_exact_mut(size).enumerate().for_each(|(i, sum)| job(i, sum));
    dw.copy_from_slice(&sums[..dw.len()]);
    for sum in sums[dw.len()..].chunks_exact(dw.len()) {
        dw.iter_mut().zip(sum).for_each(|(total, part)| *total += part);
    }
}

/// Adds one image's and group's share.
fn one_weight_grad(g: &Geometry, x: &[f32], dy: &[f32], job: usize, dw: &mut [f32], threads: Threads) {
    let (outs, depth, area) = (g.outs(), g.depth(), g.oh * g.ow);
    let x = x_of(g, x, job);
    let dy = &dy[job * outs * area..][..outs * area];
    if outs < FEW {
        let lines = Lines::new(g);
        return lines.with_taps(|taps| lines.weight_grad(taps, x, dy, dw));
    }
    if is_pointwise(g) {
        let t = Strides::transposed(area);
        return gemm((outs, depth, area), dy, Strides::rows(area), x, t, dw, Strides::rows(depth), true, threads);
    }
    each_block(g, threads, |rows, columns, scratch| {
        gather(g, x, rows.clone(), scratch);
        let size = (outs, depth, columns);
        let (dy, t) = (&dy[rows.start * g.ow..], Strides::transposed(columns));
        gemm(size, dy, Strides::rows(area), scratch, t, dw, Strides::rows(depth), true, threads);
    });
}

/// Whether the image itself is the columns.
fn is_pointwise(g: &Geometry) -> bool {
    g.taps() == 1 && g.conv.stride == [1; 2] && g.conv.padding == [[0; 2]; 2]
}

/// The image planes of job n · groups + group.
fn x_of<'a>(g: &Geometry, x: &'a [f32], job: usize) -> &'a [f32] {
    let size = g.ins() * g.h * g.w;
    &x[job * size..][..size]
}

/// The weights of its group.
fn w_of<'a>(g: &Geometry, w: &'a [f32], job: usize) -> &'a [f32] {
    let size = g.outs() * g.depth();
    &w[job % g.conv.groups * size..][..size]
}

/// Calls `f` for each image and group with its piece of the output.
fn each_job(g: &Geometry, out: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32], Threads) + Sync) {
    if size == 0 {
        return;
    }
    let jobs = g.n * g.conv.groups;
    let threads = if jobs < MANY { Threads::All } else { Threads::One };
    let work = (g.outs() * g.depth() * g.oh * g.ow).max(1);
    // A task of less than this is over before another thread has woken up.
    let least = ((1 << 15) / work).max(1);
    out.par_chunks_exact_mut(size).with_min_len(least).enumerate().for_each(|(job, out)| f(job, out, threads));
}

/// Calls `f` for blocks of output rows with the number of their pixels and scratch for their columns. One block where
/// all threads work on one product.
fn each_block(g: &Geometry, threads: Threads, mut f: impl FnMut(std::ops::Range<usize>, usize, &mut [f32])) {
    let depth = if is_pointwise(g) { 0 } else { g.depth() };
    let per_row = (g.depth() * g.ow).max(1);
    let block = match threads {
        Threads::All => g.oh,
        Threads::One => (BLOCK / per_row).clamp(1, g.oh),
    };
    with_scratch(depth * block * g.ow, |scratch| {
        for start in (0..g.oh).step_by(block.max(1)) {
            let rows = start..(start + block).min(g.oh);
            let columns = rows.len() * g.ow;
            f(rows, columns, &mut scratch[..depth * columns]);
        }
    });
}

/// Output columns whose tap `v` lies inside the image, and the image column of the first.
fn inside(g: &Geometry, v: usize) -> (std::ops::Range<usize>, usize) {
    let (stride, left) = (g.conv.stride[1], g.conv.padding[1][0]);
    let at = v * g.conv.dilation[1];
    let first = left.saturating_sub(at).div_ceil(stride).min(g.ow);
    let end = (g.w + left).saturating_sub(at).div_ceil(stride).clamp(first, g.ow);
    (first..end, (first * stride + at).saturating_sub(left))
}

/// The columns of some output rows: scratch[c, u, v][i, j] is the pixel that tap (u, v) of output (i, j) reads.
fn gather(g: &Geometry, x: &[f32], rows: std::ops::Range<usize>, scratch: &mut [f32]) {
    let stride = g.conv.stride[1];
    let mut lines = scratch.chunks_exact_mut(g.ow);
    for (c, u) in (0..g.ins()).flat_map(|c| (0..g.kh).map(move |u| (c, u))) {
        let plane = &x[c * g.h * g.w..][..g.h * g.w];
        for v in 0..g.kw {
            let (columns, from) = inside(g, v);
            for (i, line) in rows.clone().zip(&mut lines) {
                let Some(row) = g.tap(0, i, u).filter(|_| !columns.is_empty()) else {
                    line.fill(0.0);
                    continue;
                };
                let pixels = &plane[row * g.w + from..(row + 1) * g.w];
                line[..columns.start].fill(0.0);
                line[columns.end..].fill(0.0);
                let line = &mut line[columns.clone()];
                if stride == 1 {
                    line.copy_from_slice(&pixels[..line.len()]);
                } else {
                    line.iter_mut().zip(pixels.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// The adjoint of [`gather`]: adds columns to the pixels that they were read from.
fn scatter(g: &Geometry, scratch: &[f32], rows: std::ops::Range<usize>, dx: &mut [f32]) {
    let stride = g.conv.stride[1];
    let mut lines = scratch.chunks_exact(g.ow);
    for plane in dx.chunks_exact_mut(g.h * g.w) {
        for (u, v) in (0..g.kh).flat_map(|u| (0..g.kw).map(move |v| (u, v))) {
            let (columns, from) = inside(g, v);
            for (i, line) in rows.clone().zip(&mut lines) {
                let Some(row) = g.tap(0, i, u).filter(|_| !columns.is_empty()) else { continue };
                let pixels = &mut plane[row * g.w + from..(row + 1) * g.w];
                let line = &line[columns.clone()];
                if stride == 1 {
                    pixels.iter_mut().zip(line).for_each(|(to, from)| *to += from);
                } else {
                    pixels.iter_mut().step_by(stride).zip(line).for_each(|(to, from)| *to += from);
                }
            }
        }
    }
}
