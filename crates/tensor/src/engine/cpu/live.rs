//! Steps that do their work for the first rows only.

use super::memory::{Roots, StepMemory};
use crate::error::{Error, Result};
use crate::plan::{Live, Plan, Step};

/// The rows that a step does.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub live: &'a Live,
    pub count: usize,
}

impl Rows<'_> {
    /// So many of `all` elements of what the step writes.
    pub fn share_of(self, all: usize) -> usize {
        if self.live.scope.has_rows() { all / self.live.of * self.count } else { all }
    }
}

/// How many rows a step does; `None`: all.
pub(super) fn rows<'a>(plan: &Plan, step: &'a Step, roots: &mut Roots<'_, '_>) -> Result<Option<Rows<'a>>> {
    let Some(live) = &step.live else { return Ok(None) };
    let memory = StepMemory::new(plan, &[live.count], &[], roots)?;
    let count = memory.read(0).and_then(|words| words.first().copied());
    let count = count.ok_or_else(|| Error::internal("cpu", "a count of rows without a value"))?;
    let fewer = usize::try_from(count).ok().filter(|&rows| rows < live.of);
    Ok(fewer.map(|count| Rows { live, count }))
}
