//! Reductions with their fused prologue. Sums of f32 are taken in eight f32 lanes over a block and in f64 over blocks,
//! so the error does not grow with the length beyond a block.

use rayon::prelude::*;

use super::blocks::{BLOCK, Kernel, RunLoad, position};
use crate::core_op::{combine, identity};
use crate::dtype::DType;
use crate::error::Result;
use crate::op::Reduction;
use crate::plan::ReduceStep;
use crate::plan::layout::{Axis, Layout};

/// Elements below which a reduction stays on one thread.
const SERIAL: usize = 32 * 1024;

/// A partial result: f64 for f32 sums and products, words for the rest.
#[derive(Clone, Copy)]
enum Acc {
    Real(f64),
    Word(u32),
}

struct Reducer<'a> {
    k: &'a Kernel,
    step: &'a ReduceStep,
    dtype: DType,
    sources: &'a [Option<&'a [u32]>],
    scalars: &'a [u32],
    layouts: Vec<&'a Layout>,
    kept: Vec<usize>,
    reduced: Vec<usize>,
}

/// Runs a reduction into `out`.
pub(super) fn run(
    k: &Kernel,
    step: &ReduceStep,
    dtype: DType,
    sources: &[Option<&[u32]>],
    scalars: &[u32],
    out: &mut [u32],
) -> Result<()> {
    let (reduced, kept): (Vec<usize>, Vec<usize>) = (0..step.dims.len()).partition(|&d| step.reduced[d]);
    let r = Reducer { k, step, dtype, sources, scalars, layouts: k.layouts().collect(), kept, reduced };
    let numel: usize = step.dims.iter().product();
    let (_, first) = identity::<f32>(step.kind, dtype);
    if numel == 0 {
        let (real, _) = identity::<f32>(step.kind, dtype);
        out.fill(if dtype == DType::F32 { real.to_bits() } else { first });
        return Ok(());
    }
    let inner_kept = r.kept.last().is_some_and(|&d| d == step.dims.len() - 1);
    let parallel = numel > SERIAL;
    if inner_kept {
        let width = step.dims[step.dims.len() - 1];
        let block = width.min(BLOCK);
        // Rows of the output, cut into blocks: each an independent task.
        let mut tasks: Vec<(usize, usize, &mut [u32])> = Vec::with_capacity(out.len() / block + 1);
        for (row, cells) in out.chunks_mut(width).enumerate() {
            tasks.extend(cells.chunks_mut(block).enumerate().map(|(b, c)| (row, b * block, c)));
        }
        let task = |(row, from, cells): (usize, usize, &mut [u32])| r.columns(row, from, cells);
        if parallel { tasks.into_par_iter().for_each(task) } else { tasks.into_iter().for_each(task) }
    } else if out.len() >= 8 || !parallel {
        let size = if parallel { out.len().div_ceil(64).max(1) } else { out.len().max(1) };
        let task = |(c, cells): (usize, &mut [u32])| {
            r.k.with_registers(r.scalars, |registers| {
                for (i, cell) in cells.iter_mut().enumerate() {
                    *cell = r.finish(r.cell(c * size + i, 0..r.outer(), registers));
                }
            });
        };
        if parallel {
            out.par_chunks_mut(size).enumerate().for_each(task);
        } else {
            out.chunks_mut(size).enumerate().for_each(task);
        }
    } else {
        // Few cells of many elements: pieces of each over threads, combined in order.
        for (i, cell) in out.iter_mut().enumerate() {
            *cell = r.finish(r.long_cell(i));
        }
    }
    Ok(())
}

impl Reducer<'_> {
    /// Reduced indices outside the innermost axis.
    fn outer(&self) -> usize {
        self.reduced.iter().rev().skip(1).map(|&d| self.step.dims[d]).product()
    }

    fn start(&self) -> Acc {
        let (real, word) = identity::<f64>(self.step.kind, self.dtype);
        if self.dtype == DType::F32 { Acc::Real(real) } else { Acc::Word(word) }
    }

    fn finish(&self, acc: Acc) -> u32 {
        match acc {
            Acc::Real(x) => (x as f32).to_bits(),
            Acc::Word(w) => w,
        }
    }

    fn fold(&self, a: Acc, b: Acc) -> Acc {
        let f = combine(self.step.kind);
        match (a, b) {
            (Acc::Real(a), Acc::Real(b)) => Acc::Real(f.real(&[a, b]).unwrap_or(f64::NAN)),
            (Acc::Word(a), Acc::Word(b)) => Acc::Word(f.word(self.dtype, &[a, b]).unwrap_or(0)),
            (a, _) => a,
        }
    }

    /// The positions of the loads at the indices of `axes` given by the linear index `i` (row-major over `axes`).
    fn offsets(&self, axes: &[usize], mut i: usize, base: &mut [Option<isize>]) {
        for &d in axes.iter().rev() {
            let size = self.step.dims[d];
            let idx = i % size;
            i /= size;
            for (b, l) in base.iter_mut().zip(&self.layouts) {
                *b = b.and_then(|b| Some(b + position(&l.axes[d], idx)?));
            }
        }
    }

    fn base(&self) -> Vec<Option<isize>> {
        self.layouts.iter().map(|l| Some(l.offset)).collect()
    }

    fn run_loads(&self, base: &[Option<isize>], axis: usize, from: usize) -> Vec<RunLoad> {
        let one = |(b, l): (&Option<isize>, &&Layout)| {
            let a: &Axis = &l.axes[axis];
            match a.guard {
                Some(g) => RunLoad { start: *b, step: a.stride, guard: Some((g, from)) },
                None => RunLoad { start: b.map(|b| b + from as isize * a.stride), step: a.stride, guard: None },
            }
        };
        base.iter().zip(&self.layouts).map(one).collect()
    }

    /// Cell `i` over a range of the outer reduced indices; the innermost axis is reduced.
    fn cell(&self, i: usize, outer: std::ops::Range<usize>, registers: &mut [Vec<u32>]) -> Acc {
        let mut at_cell = self.base();
        self.offsets(&self.kept, i, &mut at_cell);
        let mut acc = self.start();
        let Some((&inner, outer_axes)) = self.reduced.split_last() else {
            // Nothing is reduced: the element itself.
            let loads: Vec<RunLoad> = at_cell.iter().map(|&start| RunLoad { start, step: 0, guard: None }).collect();
            return self.block(self.k.run(self.sources, registers, &loads, 1));
        };
        let len = self.step.dims[inner];
        for o in outer {
            let mut base = at_cell.clone();
            self.offsets(outer_axes, o, &mut base);
            let mut from = 0;
            while from < len {
                let n = (len - from).min(BLOCK);
                let loads = self.run_loads(&base, inner, from);
                acc = self.fold(acc, self.block(self.k.run(self.sources, registers, &loads, n)));
                from += n;
            }
        }
        acc
    }

    /// Combines a block.
    fn block(&self, words: &[u32]) -> Acc {
        if self.dtype == DType::F32 && self.step.kind == Reduction::Sum {
            let mut lanes = [0f32; 8];
            let chunks = words.chunks_exact(8);
            let mut total: f64 = chunks.remainder().iter().map(|&w| f64::from(f32::from_bits(w))).sum();
            for c in chunks {
                for (lane, &w) in lanes.iter_mut().zip(c) {
                    *lane += f32::from_bits(w);
                }
            }
            total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
            return Acc::Real(total);
        }
        words.iter().fold(self.start(), |acc, &w| {
            let x = if self.dtype == DType::F32 { Acc::Real(f64::from(f32::from_bits(w))) } else { Acc::Word(w) };
            self.fold(acc, x)
        })
    }

    /// One cell in parallel. The pieces depend on the shape alone.
    fn long_cell(&self, i: usize) -> Acc {
        let outer = self.outer();
        let inner = self.reduced.last().map_or(1, |&d| self.step.dims[d]);
        if outer >= 8 {
            let size = (SERIAL / 2 / inner.max(1)).max(1);
            let pieces: Vec<Acc> = (0..outer.div_ceil(size))
                .into_par_iter()
                .map(|p| {
                    self.k.with_registers(self.scalars, |r| self.cell(i, p * size..((p + 1) * size).min(outer), r))
                })
                .collect();
            return pieces.into_iter().fold(self.start(), |a, b| self.fold(a, b));
        }
        // A long innermost axis: pieces of it.
        let Some((&axis, outer_axes)) = self.reduced.split_last() else { return self.start() };
        let mut acc = self.start();
        for o in 0..outer {
            let mut base = self.base();
            self.offsets(&self.kept, i, &mut base);
            self.offsets(outer_axes, o, &mut base);
            let size = SERIAL / 2;
            let pieces: Vec<Acc> = (0..inner.div_ceil(size))
                .into_par_iter()
                .map(|p| {
                    self.k.with_registers(self.scalars, |registers| {
                        let mut acc = self.start();
                        let (mut from, end) = (p * size, ((p + 1) * size).min(inner));
                        while from < end {
                            let n = (end - from).min(BLOCK);
                            let loads = self.run_loads(&base, axis, from);
                            acc = self.fold(acc, self.block(self.k.run(self.sources, registers, &loads, n)));
                            from += n;
                        }
                        acc
                    })
                })
                .collect();
            acc = pieces.into_iter().fold(acc, |a, b| self.fold(a, b));
        }
        acc
    }

    /// Cells `from ..` of row `row` of the output, whose last axis is the innermost one of the index space.
    fn columns(&self, row: usize, from: usize, cells: &mut [u32]) {
        let Some((&inner, outer_kept)) = self.kept.split_last() else { return };
        let n = cells.len();
        let mut base = self.base();
        self.offsets(outer_kept, row, &mut base);
        let n_reduced: usize = self.reduced.iter().map(|&d| self.step.dims[d]).product();
        let sums = self.dtype == DType::F32 && self.step.kind == Reduction::Sum;
        let mut totals = vec![0f64; if sums { n } else { 0 }];
        let (real, word) = identity::<f32>(self.step.kind, self.dtype);
        let first = if self.dtype == DType::F32 { real.to_bits() } else { word };
        let mut acc = vec![first; if sums { 0 } else { n }];
        let mut next = acc.clone();
        self.k.with_registers(self.scalars, |registers| {
            for i in 0..n_reduced {
                let mut at = base.clone();
                self.offsets(&self.reduced, i, &mut at);
                let loads = self.run_loads(&at, inner, from);
                let x = self.k.run(self.sources, registers, &loads, n);
                if sums {
                    totals.iter_mut().zip(x).for_each(|(t, &w)| *t += f64::from(f32::from_bits(w)));
                } else {
                    combine(self.step.kind).block(self.dtype, &mut next, &[&acc, x, &[], &[]]);
                    std::mem::swap(&mut acc, &mut next);
                }
            }
        });
        if sums {
            cells.iter_mut().zip(&totals).for_each(|(c, &t)| *c = (t as f32).to_bits());
        } else {
            cells.copy_from_slice(&acc);
        }
    }
}
