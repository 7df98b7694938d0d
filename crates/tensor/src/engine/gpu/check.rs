//! `ACCLIMATE_CHECK=finite`: after each step a dispatch looks for the first element that is not finite, and the run waits
//! for what they found.

use acclimate_shaders::shaders::FINITE;

use crate::dtype::DType;
use crate::engine::{Buffer, Engine, checks_finite, written};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};

use super::Gpu;
use super::launch::{Dispatch, Memory, Range, Slot, Word};

/// What is checked: the step, and how many elements its value has.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<(usize, usize)>);

impl Checks {
    /// Bytes of what the dispatches write.
    pub fn bytes(&self) -> usize {
        4 * self.0.len()
    }

    /// The dispatches that check what a step wrote; none unless the environment asks for it.
    pub fn of(&mut self, number: usize, step: &Step, memory: Memory<'_>) -> Result<Vec<Dispatch>> {
        let mut dispatches = Vec::new();
        if !checks_finite() {
            return Ok(dispatches);
        }
        for &v in written(&step.action) {
            let spec = &memory.plan.values[v].spec;
            let n = spec.numel();
            if spec.dtype != DType::F32 || n == 0 {
                continue;
            }
            let (range, at) = memory.value(v)?;
            // The slots' number is not known yet; a binding may be shorter than the shader's array, not empty.
            let found = Range { slot: Slot::Check, offset: 0, bytes: 4 };
            let words = [n, at, self.0.len(), n].into_iter().map(Word::size).collect::<Result<Vec<_>>>()?;
            let mut check = Dispatch {
                source: FINITE.source.into(),
                label: format!("{} ({})", step.label, FINITE.name),
                words,
                ranges: vec![range, found],
                workgroups: n.div_ceil(256),
                by_rows: None,
            };
            // Rows that were left out hold anything.
            if let Some(live) = step.live.as_ref().filter(|l| l.scope.has_rows()) {
                super::live::attach_rows(live, 0, false, &mut check)?;
            }
            dispatches.push(check);
            self.0.push((number, n));
        }
        Ok(dispatches)
    }

    /// The bindings of all slots, now that their number is known.
    pub fn finish(&self, dispatches: &mut [Dispatch]) {
        let ranges = dispatches.iter_mut().flat_map(|d| &mut d.ranges);
        ranges.filter(|r| r.slot == Slot::Check).for_each(|r| r.bytes = self.bytes() as u64);
    }

    /// Fails at the first step that made something that is not finite.
    pub fn verdict(&self, gpu: &Gpu, plan: &Plan, found: &Buffer) -> Result<()> {
        let bytes = gpu.read(found, self.bytes())?.wait()?.swap_remove(0);
        let words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        match self.0.iter().zip(words).find(|(_, word)| *word != 0) {
            None => Ok(()),
            Some((&(step, n), word)) => {
                let step = &plan.steps[step];
                let index = n.saturating_sub(word as usize);
                Err(Error::NotFinite { node: step.label.clone(), index, at: step.at.to_string() })
            }
        }
    }
}
