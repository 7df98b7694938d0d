//! Reductions with their fused prologue. Sums of f32 are taken in lanes of f32 over at most 64 numbers each and in f64
//! beyond, so the error does not grow with the length. All cuts follow from shapes, never from the number of threads.

use rayon::prelude::*;
use smallvec::{SmallVec, smallvec};

use super::blocks::{BLOCK, Kernel, SERIAL, Sources};
use super::lanes::Fold;
use super::strided::{Reader, position};
use crate::core_op::identity;
use crate::dtype::DType;
use crate::op::Reduction;
use crate::plan::ReduceStep;

/// Elements of a cell below which several cells share a block.
const SHORT: usize = BLOCK / 4;
/// Pieces that few cells are cut into at most.
const PIECES: usize = 64;
/// Elements of a piece at least; a multiple of the block.
const PIECE: usize = 32 * BLOCK;

/// Positions of the loads; `None` outside a guard.
type Starts = SmallVec<[Option<isize>; 16]>;

/// How the index space is walked.
#[derive(Clone, Copy, Debug)]
enum Walk {
    /// Short cells one behind the other: several in a block.
    Segments,
    /// The innermost axis is kept: a row of cells at once, several rows in a block where they are short.
    Columns {
        /// Cells of a block.
        width: usize,
        /// Innermost reduced axes that a block covers too: rows of cells in a block.
        rows: usize,
    },
    /// One cell after the other, over all its elements.
    Cells,
}

/// A reduction, made ready once.
#[derive(Debug)]
pub(super) struct Reduce {
    kernel: Kernel,
    kind: Reduction,
    dtype: DType,
    dims: Vec<usize>,
    kept: Vec<usize>,
    reduced: Vec<usize>,
    /// The loads over the axes that a block runs along.
    block: Vec<Reader>,
    walk: Walk,
    n_cells: usize,
    /// Elements of a cell.
    n_each: usize,
}

impl Reduce {
    pub fn new(step: &ReduceStep, dtype: DType) -> Self {
        let kernel = Kernel::new(&step.program);
        let (mut reduced, mut kept): (Vec<usize>, Vec<usize>) = (0..step.dims.len()).partition(|&d| step.reduced[d]);
        let size = |axes: &[usize]| axes.iter().map(|&d| step.dims[d]).product::<usize>();
        let (n_cells, n_each) = (size(&kept), size(&reduced));
        let innermost = step.dims.len().wrapping_sub(1);
        let over = |axes: &[usize]| kernel.readers().iter().map(|r| r.over(axes)).collect::<Vec<_>>();
        let trailing = kept.iter().all(|k| reduced.iter().all(|r| k < r));
        let (walk, block) = if trailing && n_each <= SHORT {
            (Walk::Segments, over(&(0..step.dims.len()).collect::<Vec<_>>()))
        } else if let Some(&inner) = kept.last().filter(|&&d| d == innermost) {
            let width = step.dims[inner];
            kept.pop();
            match reduced.last() {
                Some(&r) if r + 1 == inner && width <= SHORT => {
                    reduced.pop();
                    (Walk::Columns { width, rows: step.dims[r] }, over(&[r, inner]))
                }
                _ => (Walk::Columns { width, rows: 1 }, over(&[inner])),
            }
        } else {
            (Walk::Cells, over(&reduced))
        };
        Reduce { kernel, kind: step.kind, dtype, dims: step.dims.clone(), kept, reduced, block, walk, n_cells, n_each }
    }

    /// Runs it into `out`.
    pub fn run(&self, sources: Sources<'_>, scalars: &[u32], out: &mut [u32]) {
        if self.n_cells * self.n_each == 0 {
            let (real, word) = identity::<f32>(self.kind, self.dtype);
            return out.fill(if self.dtype == DType::F32 { real.to_bits() } else { word });
        }
        let run = Running { r: self, sources, scalars };
        let parallel = self.n_cells * self.n_each * self.kernel.cost() > 2 * SERIAL;
        match self.walk {
            Walk::Segments => {
                let size = if parallel { (PIECE / self.n_each).max(1) } else { self.n_cells };
                each_chunk(out, size, parallel, |c, cells| run.segments(c * size, cells));
            }
            Walk::Columns { width, rows } => run.columns(width, rows, parallel, out),
            Walk::Cells if !parallel || self.n_cells >= 8 => {
                let size = if parallel { self.n_cells.div_ceil(PIECES) } else { self.n_cells };
                each_chunk(out, size, parallel, |c, cells| {
                    self.kernel.with_registers(scalars, |registers| {
                        for (i, cell) in cells.iter_mut().enumerate() {
                            *cell = run.cell(c * size + i, 0, self.n_each, registers).finish();
                        }
                    });
                });
            }
            // Few cells of many elements: pieces of each over threads, combined in order.
            Walk::Cells => {
                let size = self.n_each.div_ceil(PIECES).next_multiple_of(PIECE);
                for (i, cell) in out.iter_mut().enumerate() {
                    let mut pieces: SmallVec<[Option<Fold>; PIECES]> = smallvec![None; self.n_each.div_ceil(size)];
                    pieces.par_iter_mut().enumerate().for_each(|(p, piece)| {
                        let (from, to) = (p * size, ((p + 1) * size).min(self.n_each));
                        *piece = Some(self.kernel.with_registers(scalars, |r| run.cell(i, from, to, r)));
                    });
                    let start = Fold::new(self.kind, self.dtype);
                    *cell = pieces.into_iter().flatten().fold(start, Fold::joined).finish();
                }
            }
        }
    }
}

/// Calls `f` with chunks of cells and their numbers.
fn each_chunk(out: &mut [u32], size: usize, parallel: bool, f: impl Fn(usize, &mut [u32]) + Sync) {
    if parallel {
        out.par_chunks_mut(size).enumerate().for_each(|(c, cells)| f(c, cells));
    } else {
        out.chunks_mut(size.max(1)).enumerate().for_each(|(c, cells)| f(c, cells));
    }
}

/// One run.
struct Running<'a> {
    r: &'a Reduce,
    sources: Sources<'a>,
    scalars: &'a [u32],
}

impl Running<'_> {
    /// Adds to the positions of the loads those of the linear index `i` over `axes` (row-major).
    fn advance(&self, axes: &[usize], mut i: usize, starts: &mut Starts) {
        for &d in axes.iter().rev() {
            let size = self.r.dims[d];
            let index = i % size;
            i /= size;
            if index == 0 && self.r.kernel.readers().iter().all(|l| l.layout().axes[d].guard.is_none()) {
                continue;
            }
            for (start, l) in starts.iter_mut().zip(self.r.kernel.readers()) {
                *start = start.and_then(|s| Some(s + position(&l.layout().axes[d], index)?));
            }
        }
    }

    fn starts(&self) -> Starts {
        SmallVec::from_elem(Some(0), self.r.block.len())
    }

    /// Cells from `first` on, each a short segment of the linear index space.
    fn segments(&self, first: usize, cells: &mut [u32]) {
        let (r, starts) = (self.r, self.starts());
        let each = r.n_each;
        let mut at = first * each;
        r.kernel.with_registers(self.scalars, |registers| {
            for cells in cells.chunks_mut((BLOCK / each).max(1)) {
                let n = cells.len() * each;
                let words = r.kernel.get(self.sources, &r.block, &starts, at, n, registers);
                for (cell, segment) in cells.iter_mut().zip(words.chunks_exact(each)) {
                    *cell = Fold::short(r.kind, r.dtype, segment);
                }
                at += n;
            }
        });
    }

    /// Elements `from .. to` of cell `i`.
    fn cell(&self, i: usize, from: usize, to: usize, registers: &mut [Vec<u32>]) -> Fold {
        let r = self.r;
        let mut starts = self.starts();
        self.advance(&r.kept, i, &mut starts);
        let mut fold = Fold::new(r.kind, r.dtype);
        let mut at = from;
        while at < to {
            // What is read as it lies needs no registers, so it comes in larger blocks.
            let long = (to - at).min(16 * BLOCK);
            if let Some(words) = r.kernel.direct(self.sources, &r.block, &starts, at, long) {
                fold.add(words);
                at += long;
                continue;
            }
            let n = (to - at).min(BLOCK);
            fold.add(r.kernel.get(self.sources, &r.block, &starts, at, n, registers));
            at += n;
        }
        fold
    }

    /// Rows of `width` cells. Where there are few cells and many elements, the outer reduced indices are cut into pieces
    /// that are added in order.
    fn columns(&self, width: usize, rows: usize, parallel: bool, out: &mut [u32]) {
        let r = self.r;
        let block = width.min(BLOCK);
        let n_outer = r.n_each / rows;
        let tasks = (r.n_cells / width) * width.div_ceil(block);
        let each = r.n_each * block;
        if parallel && tasks < 8 && each > 4 * PIECE && n_outer * rows >= PIECES {
            return self.columns_in_pieces(width, rows, out);
        }
        let row = |(row, cells): (usize, &mut [u32])| {
            each_chunk(cells, block, parallel && tasks > 1, |b, cells| {
                let fold = self.rows_of_cells(row, b * block, cells.len(), rows, 0..r.n_each);
                cells.iter_mut().zip(fold).for_each(|(cell, word)| *cell = word);
            });
        };
        // A task of little work is over before another thread has woken up.
        let least = (PIECE / (each * width.div_ceil(block)).max(1)).max(1);
        if parallel {
            out.par_chunks_mut(width).with_min_len(least).enumerate().for_each(row);
        } else {
            out.chunks_mut(width).enumerate().for_each(row);
        }
    }

    fn columns_in_pieces(&self, width: usize, rows: usize, out: &mut [u32]) {
        let r = self.r;
        let block = width.min(BLOCK);
        let size = r.n_each.div_ceil(PIECES / 4).max(64);
        for (row, cells) in out.chunks_mut(width).enumerate() {
            for (b, cells) in cells.chunks_mut(block).enumerate() {
                let mut pieces: SmallVec<[Words; PIECES]> = smallvec![Words::new(); r.n_each.div_ceil(size)];
                pieces.par_iter_mut().enumerate().for_each(|(p, piece)| {
                    let range = p * size..((p + 1) * size).min(r.n_each);
                    *piece = self.rows_of_cells(row, b * block, cells.len(), rows, range);
                });
                for (i, cell) in cells.iter_mut().enumerate() {
                    let start = Fold::new(r.kind, r.dtype);
                    *cell = pieces
                        .iter()
                        .fold(start, |acc, piece| acc.joined(Fold::of(r.kind, r.dtype, piece[i])))
                        .finish();
                }
            }
        }
    }

    /// Cells `from .. from + n` of row `row`, over a range of the reduced indices. `rows` of them are in the block's own
    /// index space.
    fn rows_of_cells(&self, row: usize, from: usize, n: usize, rows: usize, range: std::ops::Range<usize>) -> Words {
        let r = self.r;
        let mut base = self.starts();
        self.advance(&r.kept, row, &mut base);
        let mut totals = super::lanes::Columns::new(r.kind, r.dtype, n);
        r.kernel.with_registers(self.scalars, |registers| {
            let mut i = range.start;
            while i < range.end {
                let (outer, inner) = (i / rows, i % rows);
                let mut starts = base.clone();
                self.advance(&r.reduced, outer, &mut starts);
                // Whole rows behind each other where the block is narrow; else one row.
                let count = (BLOCK / n).min(rows - inner).min(range.end - i).max(1);
                let at = if rows == 1 { from } else { inner * n };
                let words = r.kernel.get(self.sources, &r.block, &starts, at, count * n, registers);
                totals.add(words);
                i += count;
            }
        });
        totals.finish()
    }
}

/// One word for each cell of a block.
pub(super) type Words = SmallVec<[u32; BLOCK]>;
