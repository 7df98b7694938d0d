//! Halves to floats and back, with the processor's own conversions where it has them.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Elements that one task converts.
const TASK: usize = 1 << 16;
/// Elements that are rounded at once.
const BLOCK: usize = 256;

/// The halves of packed words: two to a word, the first in the lower part.
pub(crate) fn of_words(words: &[u32]) -> &[f16] {
    bytemuck::cast_slice(words)
}

/// Each half as f32, exactly.
pub fn widen(from: &[f16], to: &mut [f32]) {
    let n = from.len().min(to.len());
    from[..n].convert_to_f32_slice(&mut to[..n]);
}

/// The same over all threads, into memory of its own.
pub fn widened(from: &[f16]) -> Vec<f32> {
    let mut to = vec![0.0; from.len()];
    to.par_chunks_mut(TASK).zip(from.par_chunks(TASK)).for_each(|(to, from)| widen(from, to));
    to
}

/// Each f32 as the nearest half, ties to even; beyond ±65504 (after rounding) ±∞.
pub(crate) fn narrow(from: &[f32], to: &mut [f16]) {
    let n = from.len().min(to.len());
    to[..n].convert_from_f32_slice(&from[..n]);
}

/// Floats (as their bits) rounded to halves, as floats.
pub(crate) fn round(from: &[u32], to: &mut [u32]) {
    let mut halves = [f16::ZERO; BLOCK];
    for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
        let halves = &mut halves[..from.len()];
        narrow(bytemuck::cast_slice(from), halves);
        widen(halves, bytemuck::cast_slice_mut(to));
    }
}
