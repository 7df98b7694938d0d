//! How much memory a plan takes, and how little any layout could.

use crate::plan::{Plan, Root, memory};

/// Bytes of one plan while it runs, inputs and outputs included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanMemory {
    /// Launches of the plan.
    pub launches: usize,
    /// What it takes.
    pub peak: u64,
    /// The most bytes of values that are needed at the same time: no layout takes less.
    pub lower_bound: u64,
}

impl Plan {
    /// See [`PlanMemory`].
    pub fn usage(&self) -> PlanMemory {
        let bytes = |specs: &mut dyn Iterator<Item = usize>| specs.map(|b| b as u64).sum::<u64>();
        let inputs = bytes(&mut self.inputs.iter().map(|s| s.bytes()));
        let own = self.outputs.iter().zip(&self.donated).filter(|(_, d)| d.is_none());
        let outputs = bytes(&mut own.map(|(s, _)| s.bytes()));
        let arenas = bytes(&mut self.arenas.iter().copied());
        // First and last step that touch each value; an output stays to the end.
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.values.len()];
        for (s, step) in self.steps.iter().enumerate() {
            let (reads, writes) = memory::touched(&step.action);
            for v in reads.into_iter().chain(writes) {
                let life = lives[v].get_or_insert((s, s));
                life.1 = match self.values[v].place.root {
                    Root::Output(_) => self.steps.len(),
                    _ => s,
                };
            }
        }
        let mut most = 0;
        for s in 0..self.steps.len() {
            let mut ranges: Vec<(Root, usize, usize)> = Vec::new();
            for (value, life) in self.values.iter().zip(&lives) {
                let (root, start) = (value.place.root, value.place.offset);
                let counts = match root {
                    Root::Input(_) => false,
                    Root::Output(j) => self.donated[j].is_none(),
                    Root::Arena(_) => true,
                };
                if counts && life.is_some_and(|(first, last)| first <= s && s <= last) {
                    ranges.push((root, start, start + value.spec.bytes()));
                }
            }
            most = most.max(covered(ranges));
        }
        PlanMemory { launches: self.steps.len(), peak: inputs + outputs + arenas, lower_bound: inputs + most }
    }
}

/// Bytes that ranges cover together.
fn covered(mut ranges: Vec<(Root, usize, usize)>) -> u64 {
    let key = |root: Root| match root {
        Root::Input(i) => (0, i),
        Root::Output(i) => (1, i),
        Root::Arena(i) => (2, i),
    };
    ranges.sort_by_key(|r| (key(r.0), r.1));
    let (mut total, mut last) = (0, None);
    for (root, start, end) in ranges {
        let from = match last {
            Some((same, reached)) if same == root => start.max(reached),
            _ => start,
        };
        total += end.saturating_sub(from) as u64;
        last = Some((root, end.max(from)));
    }
    total
}
