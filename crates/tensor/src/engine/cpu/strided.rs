//! Reading the elements of an index space by strides and guards, in runs along the innermost axis.

use half::f16;
use smallvec::SmallVec;

use super::halves::widen;

use crate::plan::layout::{Axis, Guard, Layout};

/// How the elements of neighboring indices lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All side by side.
    Contiguous,
    /// All the same one.
    One,
    /// Side by side along the innermost axis.
    Rows,
    /// Anyhow.
    Any,
    /// Some of them are not there, and read as zeros.
    Guarded,
}

/// A layout, looked at once.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    layout: Layout,
    kind: Kind,
}

impl Reader {
    pub fn new(layout: Layout) -> Self {
        let kind = if layout.is_guarded() {
            Kind::Guarded
        } else if layout.is_contiguous() {
            Kind::Contiguous
        } else if layout.axes.iter().all(|a| a.stride == 0 || a.size == 1) {
            Kind::One
        } else if layout.axes.last().is_some_and(|a| a.stride == 1) {
            Kind::Rows
        } else {
            Kind::Any
        };
        Reader { layout, kind }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where the elements of `n` linear indices from `at` on begin, if they lie side by side; `start` is added.
    pub fn side_by_side(&self, start: isize, at: usize, n: usize) -> Option<usize> {
        let begin = self.layout.offset + start;
        match self.kind {
            Kind::Contiguous => Some(begin.unsigned_abs() + at),
            Kind::Rows => {
                let (row, from) = self.row(start, at)?;
                (from + n <= self.layout.axes.last()?.size).then(|| (row + from as isize).unsigned_abs())
            }
            _ => None,
        }
    }

    /// Where the row of the innermost axis begins that holds linear index `at`, and which of the row that is; `None` with
    /// guards or without axes.
    fn row(&self, start: isize, at: usize) -> Option<(isize, usize)> {
        let (last, outer) = self.layout.axes.split_last().filter(|_| self.kind != Kind::Guarded)?;
        let (mut begin, mut rest) = (self.layout.offset + start, at / last.size);
        for (d, a) in outer.iter().enumerate().rev() {
            // What is left for the outermost axis is its index.
            let index = if d == 0 { rest } else { rest % a.size };
            begin += index as isize * a.stride;
            rest = if d == 0 { 0 } else { rest / a.size };
        }
        Some((begin, at % last.size))
    }

    /// Fills `to` with the elements of the linear indices from `at` on; `start` is added to each position.
    pub fn fill(&self, to: &mut [u32], source: Elements<'_>, start: isize, at: usize) {
        let axes = &self.layout.axes;
        let begin = self.layout.offset + start;
        let (Some(inner), false) = (axes.last(), self.kind == Kind::One) else { return to.fill(source.at(begin)) };
        // Mostly a block lies within one row.
        if let Some((row, from)) = self.row(start, at).filter(|&(_, from)| from + to.len() <= inner.size) {
            return fill_run(to, source, Some(row), inner, from);
        }
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, axes.len());
        let mut rest = at;
        for d in (0..axes.len()).rev() {
            index[d] = rest % axes[d].size.max(1);
            rest /= axes[d].size.max(1);
        }
        let last = axes.len() - 1;
        let mut done = 0;
        while done < to.len() {
            let n = (inner.size - index[last]).min(to.len() - done);
            let mut row = Some(begin);
            for (a, &i) in axes.iter().zip(&index).take(last) {
                row = row.and_then(|s| Some(s + position(a, i)?));
            }
            fill_run(&mut to[done..done + n], source, row, inner, index[last]);
            done += n;
            index[last] += n;
            for d in (1..=last).rev() {
                if index[d] < axes[d].size {
                    break;
                }
                index[d] = 0;
                index[d - 1] += 1;
            }
        }
    }
}

/// The elements of indices `from ..` of the innermost axis; the row begins at `row`, or lies outside a guard.
#[inline]
fn fill_run(to: &mut [u32], source: Elements<'_>, row: Option<isize>, axis: &Axis, from: usize) {
    let Some(row) = row else { return to.fill(0) };
    if let Some(guard) = axis.guard {
        if (guard.step, axis.stride) == (1, 1) {
            return fill_padded(to, source, row, guard, from);
        }
        for (i, t) in to.iter_mut().enumerate() {
            let at = (from + i).checked_sub(guard.low).filter(|d| d % guard.step == 0 && d / guard.step < guard.len);
            *t = at.map_or(0, |d| source.at(row + (d / guard.step) as isize * axis.stride));
        }
        return;
    }
    let start = row + from as isize * axis.stride;
    match (axis.stride, source) {
        (0, _) => to.fill(source.at(start)),
        (1, _) => source.copy(start, to),
        (step, Elements::Words(s)) if step > 0 => {
            let s = s[start.unsigned_abs()..].iter().step_by(step.unsigned_abs());
            to.iter_mut().zip(s).for_each(|(t, &w)| *t = w);
        }
        (step, _) => to.iter_mut().enumerate().for_each(|(i, t)| *t = source.at(start + i as isize * step)),
    }
}

/// A run of neighbors between zeros.
fn fill_padded(to: &mut [u32], source: Elements<'_>, row: isize, guard: Guard, from: usize) {
    let before = guard.low.saturating_sub(from).min(to.len());
    let skipped = from.saturating_sub(guard.low).min(guard.len);
    let inside = (guard.len - skipped).min(to.len() - before);
    let (zeros, rest) = to.split_at_mut(before);
    let (data, after) = rest.split_at_mut(inside);
    zeros.fill(0);
    source.copy(row + skipped as isize, data);
    after.fill(0);
}

/// What a load reads, as words of the program.
#[derive(Clone, Copy)]
pub(super) enum Elements<'a> {
    /// The position itself.
    Position,
    /// Words.
    Words(&'a [u32]),
    /// Halves, read as f32.
    Halves(&'a [f16]),
}

impl Elements<'_> {
    fn at(self, at: isize) -> u32 {
        match self {
            Elements::Position => at as u32,
            Elements::Words(s) => s[at.unsigned_abs()],
            Elements::Halves(s) => s[at.unsigned_abs()].to_f32().to_bits(),
        }
    }

    /// Neighbors from `start` on.
    fn copy(self, start: isize, to: &mut [u32]) {
        let range = start.unsigned_abs()..start.unsigned_abs() + to.len();
        match self {
            Elements::Position => to.iter_mut().zip(start..).for_each(|(to, at)| *to = at as u32),
            _ if to.is_empty() => {}
            Elements::Words(s) => to.copy_from_slice(&s[range]),
            Elements::Halves(s) => widen(&s[range], bytemuck::cast_slice_mut(to)),
        }
    }
}

/// What index `i` of an axis adds to the position; `None` outside its guard.
#[inline]
pub(super) fn position(axis: &Axis, i: usize) -> Option<isize> {
    match axis.guard {
        None => Some(i as isize * axis.stride),
        Some(g) => {
            let d = i.checked_sub(g.low).filter(|d| d % g.step == 0 && d / g.step < g.len)?;
            Some((d / g.step) as isize * axis.stride)
        }
    }
}
