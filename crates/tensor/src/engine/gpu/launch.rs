//! A dispatch before its pipeline exists: shader text, parameter words, and which memory it binds.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::plan::{Plan, Root, ValueId};

use super::live::ByRows;

/// Memory of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// A buffer of the plan.
    Root(Root),
    /// Scratch memory, shared by all steps: steps run one after the other.
    Scratch(usize),
    /// What checks of a run find.
    Check,
}

/// A part of a slot, in bytes. The offset keeps the device's alignment of bindings; the length is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub slot: Slot,
    pub offset: u64,
    pub bytes: u64,
}

impl Range {
    /// The first bytes of a scratch slot.
    pub fn scratch(index: usize, bytes: usize) -> Self {
        Range { slot: Slot::Scratch(index), offset: 0, bytes: bytes.max(4) as u64 }
    }
}

/// A word of `Params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Known when the plan is prepared.
    Fixed(u32),
    /// A host scalar of the run.
    Scalar(usize),
}

impl Word {
    /// A size; sizes of what fits into a binding fit into a word.
    pub fn size(n: usize) -> Result<Self> {
        u32::try_from(n).map(Word::Fixed).map_err(|_| Error::Limit {
            what: "an index space".into(),
            needed: n as u64,
            limit: u64::from(u32::MAX),
        })
    }

    /// A stride or offset; negative ones wrap, and so does the arithmetic in the shader.
    pub fn signed(n: isize) -> Self {
        Word::Fixed(n as u32)
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    pub source: Cow<'static, str>,
    pub label: String,
    pub words: Vec<Word>,
    /// Storage bindings 1, 2, ..
    pub ranges: Vec<Range>,
    pub workgroups: usize,
    /// What it is for fewer rows, if it may leave out some.
    pub by_rows: Option<ByRows>,
}

/// Where the values of a plan are bound.
#[derive(Clone, Copy)]
pub(super) struct Memory<'a> {
    pub plan: &'a Plan,
    /// Alignment of a binding's offset, in bytes.
    pub alignment: usize,
}

impl Memory<'_> {
    /// The range to bind for a value, and how many words into it the value begins.
    pub fn value(&self, id: ValueId) -> Result<(Range, usize)> {
        let value = self.plan.values.get(id).ok_or_else(|| Error::internal("launch", format!("no value {id}")))?;
        let (place, bytes) = (value.place, value.spec.bytes());
        let slot = Slot::Root(place.root);
        if bytes == 0 {
            return Ok((Range { slot, offset: 0, bytes: 4 }, 0));
        }
        if place.offset % 4 != 0 {
            return Err(Error::internal("launch", format!("value {id} lies at byte {}, not at a word", place.offset)));
        }
        let shift = place.offset % self.alignment;
        Ok((Range { slot, offset: (place.offset - shift) as u64, bytes: (bytes + shift) as u64 }, shift / 4))
    }

    /// The range of a value that must begin at a binding's offset.
    pub fn aligned(&self, id: ValueId) -> Result<Range> {
        match self.value(id)? {
            (range, 0) => Ok(range),
            (_, shift) => Err(Error::internal("launch", format!("value {id} begins {shift} words into a binding"))),
        }
    }
}

/// Workgroups along x and y: more than `max` are folded, with as few idle ones as possible.
pub(super) fn fold(workgroups: usize, max: u32, what: &str) -> Result<(u32, u32)> {
    let max = max.max(1) as usize;
    let y = workgroups.div_ceil(max);
    if y > max {
        let limit = (max * max) as u64;
        return Err(Error::Limit { what: format!("the workgroups of {what}"), needed: workgroups as u64, limit });
    }
    let x = workgroups.div_ceil(y.max(1));
    Ok((u32::try_from(x).unwrap_or(u32::MAX), u32::try_from(y).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_workgroups_fold_into_two_axes() {
        assert_eq!(fold(65535, 65535, "x").unwrap(), (65535, 1));
        let (x, y) = fold(65536, 65535, "x").unwrap();
        assert_eq!((x, y), (32768, 2));
        let (x, y) = fold(1 << 24, 65535, "x").unwrap();
        assert!(
            x <= 65535 && x as usize * y as usize >= 1 << 24 && (x as usize) * (y as usize) - (1 << 24) < y as usize
        );
        assert!(fold(65535 * 65535 + 1, 65535, "x").is_err());
    }
}
