//! Where the element of an index lies: strides and an offset, and a guard where zeros surround the data.

use smallvec::SmallVec;

use crate::op::View;
use crate::shape::Shape;

/// A guard on one axis: index `i` reads element `(i − low) / step` if that is whole and within `len`, else zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Guard {
    pub low: usize,
    pub step: usize,
    pub len: usize,
}

/// One axis of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Axis {
    pub size: usize,
    /// Elements between neighbors; with a guard, between neighbors of the data.
    pub stride: isize,
    pub guard: Option<Guard>,
}

/// The position of the element of each index of an index space: `offset + Σ index·stride`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    pub offset: isize,
    pub axes: SmallVec<[Axis; 6]>,
}

impl Layout {
    /// Row-major.
    pub fn contiguous(shape: &[usize]) -> Self {
        let strides = Shape::raw(shape.iter().copied()).strides();
        let axes = shape.iter().zip(strides).map(|(&size, stride)| Axis { size, stride, guard: None }).collect();
        Layout { offset: 0, axes }
    }

    /// Whether any axis has a guard.
    pub fn is_guarded(&self) -> bool {
        self.axes.iter().any(|a| a.guard.is_some())
    }

    /// Whether positions are 0, 1, 2, .. plus the offset.
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1isize;
        for axis in self.axes.iter().rev() {
            if axis.size != 1 && (axis.stride != step || axis.guard.is_some()) {
                return false;
            }
            step *= axis.size.max(1) as isize;
        }
        true
    }

    /// The layout after a view; `None` where strides cannot express it (a reshape across broken rows, or a guard).
    pub fn view(&self, view: &View) -> Option<Self> {
        if self.is_guarded() {
            return None;
        }
        Some(match view {
            View::Permute(order) => Layout { offset: self.offset, axes: order.iter().map(|&d| self.axes[d]).collect() },
            View::Expand(shape) => {
                let axes = self
                    .axes
                    .iter()
                    .zip(shape.iter())
                    .map(|(a, &size)| if a.size == size { *a } else { Axis { size, stride: 0, guard: None } });
                Layout { offset: self.offset, axes: axes.collect() }
            }
            View::Slice { start, step, len } => {
                let mut offset = self.offset;
                let axes = self.axes.iter().enumerate().map(|(d, a)| {
                    offset += start[d] as isize * a.stride;
                    Axis { size: len[d], stride: a.stride * step[d], guard: None }
                });
                let axes = axes.collect();
                Layout { offset, axes }
            }
            View::Reshape(shape) => self.reshape(shape)?,
        })
    }

    /// Row-major reshape without moving data, if the strides allow it.
    fn reshape(&self, shape: &Shape) -> Option<Self> {
        if shape.numel() == 0 {
            return Some(Layout { offset: self.offset, ..Layout::contiguous(shape) });
        }
        let old: SmallVec<[Axis; 6]> = self.axes.iter().copied().filter(|a| a.size != 1).collect();
        let mut axes: SmallVec<[Axis; 6]> = shape.iter().map(|&size| Axis { size, stride: 0, guard: None }).collect();
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            // The smallest runs of old and new axes with the same number of elements.
            let (i0, j0) = (i, j);
            let (mut n_old, mut n_new) = (old[i].size, 1);
            i += 1;
            while n_new != n_old {
                if n_new < n_old {
                    n_new *= axes.get(j)?.size;
                    j += 1;
                } else {
                    n_old *= old.get(i)?.size;
                    i += 1;
                }
            }
            // The old run must be one row.
            for k in i0 + 1..i {
                if old[k - 1].stride != old[k].stride * old[k].size as isize {
                    return None;
                }
            }
            let mut stride = old[i - 1].stride;
            for axis in axes[j0..j].iter_mut().rev() {
                axis.stride = stride;
                stride *= axis.size as isize;
            }
        }
        Some(Layout { offset: self.offset, axes })
    }
}

/// Merges neighboring axes of an index space where every layout allows it, and drops axes of size 1. `flags` (such as
/// "reduced") must agree for axes to merge. Returns the new sizes and flags; the layouts follow.
pub(crate) fn collapse(dims: &[usize], flags: &[bool], layouts: &mut [&mut Layout]) -> (Vec<usize>, Vec<bool>) {
    let keep: Vec<usize> = (0..dims.len()).filter(|&d| dims[d] != 1).collect();
    // An axis of size 1 contributes nothing, unless its guard says that its only element is outside.
    let drop_ok = |l: &Layout| (0..dims.len()).all(|d| dims[d] != 1 || l.axes[d].guard.is_none());
    if !layouts.iter().all(|l| drop_ok(l)) {
        return (dims.to_vec(), flags.to_vec());
    }
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for &d in &keep {
        let joins = runs.last().and_then(|r| r.last()).is_some_and(|&p| {
            flags[p] == flags[d]
                && layouts.iter().all(|l| {
                    let (a, b) = (&l.axes[p], &l.axes[d]);
                    a.guard.is_none() && b.guard.is_none() && a.stride == b.stride * b.size as isize
                })
        });
        match runs.last_mut() {
            Some(run) if joins => run.push(d),
            _ => runs.push(vec![d]),
        }
    }
    for l in layouts.iter_mut() {
        l.axes = runs
            .iter()
            .map(|run| {
                let last = l.axes[run[run.len() - 1]];
                Axis { size: run.iter().map(|&d| dims[d]).product(), ..last }
            })
            .collect();
    }
    (runs.iter().map(|r| r.iter().map(|&d| dims[d]).product()).collect(), runs.iter().map(|r| flags[r[0]]).collect())
}
