//! Buffers of the CPU engine, their pool, and the slices that one step reads and writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use smallvec::SmallVec;

use super::aligned::Aligned;
use crate::device::Counters;
use crate::error::{Error, Result};
use crate::plan::{Plan, Root, ValueId};

/// Most idle bytes a pool keeps.
const MAX_IDLE: usize = 1 << 30;

/// Buffers that nobody holds, by their number of words.
pub(super) struct Pool {
    idle: Mutex<(HashMap<usize, Vec<Aligned>>, usize)>,
    counters: Arc<Counters>,
}

impl Pool {
    pub fn new(counters: Arc<Counters>) -> Self {
        Pool { idle: Mutex::default(), counters }
    }

    /// A buffer of at least `bytes`, with any content.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<CpuBuffer> {
        let n = size_class(bytes.div_ceil(4).max(1));
        let reused = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let found = idle.0.get_mut(&n).and_then(Vec::pop);
            if found.is_some() {
                idle.1 -= n * 4;
            }
            found
        };
        let data = match reused {
            Some(data) => data,
            None => {
                let data = Aligned::zeros(n).ok_or_else(|| Error::OutOfMemory {
                    device: "CPU".into(),
                    needed: bytes as u64,
                    what: "a buffer".into(),
                })?;
                Counters::add(&self.counters.buffers_allocated, 1);
                data
            }
        };
        self.counters.live(n as u64 * 4);
        Ok(CpuBuffer { data: RwLock::new(data), pool: self.clone() })
    }
}

/// Sizes are rounded up to an eighth of their power of two, so that buffers of similar size are reused.
fn size_class(n: usize) -> usize {
    if n <= 64 { 64 } else { n.next_multiple_of((n.next_power_of_two() / 16).max(16)) }
}

/// Words that go back to their pool.
pub(super) struct CpuBuffer {
    data: RwLock<Aligned>,
    pool: Arc<Pool>,
}

impl CpuBuffer {
    pub fn read(&self) -> RwLockReadGuard<'_, Aligned> {
        self.data.read().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn write(&self) -> RwLockWriteGuard<'_, Aligned> {
        self.data.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for CpuBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CpuBuffer")
    }
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        let data = std::mem::take(self.data.get_mut().unwrap_or_else(PoisonError::into_inner));
        let n = data.len();
        self.pool.counters.dead(n as u64 * 4);
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.1 + n * 4 <= MAX_IDLE {
            idle.1 += n * 4;
            idle.0.entry(n).or_default().push(data);
        }
    }
}

/// The memory of a run.
pub(super) struct Roots<'a, 'b> {
    pub inputs: &'a [Option<RwLockReadGuard<'b, Aligned>>],
    pub outputs: &'a mut [RwLockWriteGuard<'b, Aligned>],
    pub arenas: &'a mut [RwLockWriteGuard<'b, Aligned>],
}

/// The slices of one step: what it writes, and what lies around that to be read.
pub(super) struct StepMemory<'s> {
    reads: SmallVec<[Option<&'s [u32]>; 16]>,
    writes: SmallVec<[Option<&'s mut [u32]>; 4]>,
}

/// A range of words in a root.
type Range = (Root, usize, usize);

fn range(plan: &Plan, v: ValueId) -> Range {
    let value = &plan.values[v];
    let start = value.place.offset / 4;
    (value.place.root, start, start + value.spec.bytes() / 4)
}

impl<'s> StepMemory<'s> {
    /// Slices for the values `ins` and `outs`. An input at the place of an output (in place) reads as `None`.
    pub fn new(plan: &Plan, ins: &[ValueId], outs: &[ValueId], roots: &'s mut Roots<'_, '_>) -> Result<Self> {
        let wanted: SmallVec<[Range; 4]> = outs.iter().map(|&v| range(plan, v)).collect();
        let mut order: SmallVec<[usize; 4]> = (0..wanted.len()).collect();
        order.sort_by_key(|&o| wanted[o].1);
        let mut writes: SmallVec<[Option<&'s mut [u32]>; 4]> = wanted.iter().map(|_| None).collect();
        let mut gaps: SmallVec<[(Root, usize, &'s [u32]); 32]> = SmallVec::new();
        let overlap = || Error::internal("cpu", "values of one step overlap");
        let outputs = roots.outputs.iter_mut().enumerate().map(|(j, g)| (Root::Output(j), &mut ***g));
        let arenas = roots.arenas.iter_mut().enumerate().map(|(k, g)| (Root::Arena(k), &mut ***g));
        for (root, words) in outputs.chain(arenas) {
            let mut rest: &'s mut [u32] = words;
            let mut at = 0;
            for &o in order.iter().filter(|&&o| wanted[o].0 == root) {
                let (_, start, end) = wanted[o];
                let skip = start.checked_sub(at).ok_or_else(overlap)?;
                if end - at > rest.len() {
                    return Err(overlap());
                }
                let (gap, tail) = rest.split_at_mut(skip);
                let (mine, tail) = tail.split_at_mut(end - start);
                gaps.push((root, at, gap));
                writes[o] = Some(mine);
                (rest, at) = (tail, end);
            }
            gaps.push((root, at, rest));
        }
        for (i, guard) in roots.inputs.iter().enumerate() {
            if let Some(guard) = guard {
                gaps.push((Root::Input(i), 0, guard));
            }
        }
        let mut reads = SmallVec::with_capacity(ins.len());
        for &v in ins {
            let (root, start, end) = range(plan, v);
            if wanted.contains(&(root, start, end)) && end > start {
                reads.push(None);
                continue;
            }
            let gap = gaps.iter().find(|g| g.0 == root && g.1 <= start && end <= g.1 + g.2.len());
            let &(_, from, words) = gap.ok_or_else(overlap)?;
            reads.push(Some(&words[start - from..end - from]));
        }
        Ok(StepMemory { reads, writes })
    }

    /// Input `i`; `None` if it is at the place of an output.
    pub fn read(&self, i: usize) -> Option<&'s [u32]> {
        self.reads[i]
    }

    /// Output `o`.
    pub fn write(&mut self, o: usize) -> Result<&mut [u32]> {
        self.writes[o].as_deref_mut().ok_or_else(|| Error::internal("cpu", "an output without memory"))
    }

    /// All outputs at once.
    pub fn writes(&mut self) -> impl Iterator<Item = &mut [u32]> {
        self.writes.iter_mut().map(|w| w.as_deref_mut().unwrap_or_default())
    }
}
