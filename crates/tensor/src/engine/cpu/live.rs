//! Steps that do their work for the first rows only.

use super::memory::{Roots, StepMemory};
use super::reduce::Reduce;
use super::{Ready, loads, run_op};
use crate::error::{Error, Result};
use crate::plan::rows::{op_specs, shortened};
use crate::plan::{Action, Plan, ReduceStep, Scope, Step};

/// How many rows a step does; `None`: all.
pub(super) fn rows(plan: &Plan, step: &Step, roots: &mut Roots<'_, '_>) -> Result<Option<usize>> {
    let Some(live) = &step.live else { return Ok(None) };
    let memory = StepMemory::new(plan, &[live.count], &[], roots)?;
    let count = memory.read(0).and_then(|words| words.first().copied());
    let count = count.ok_or_else(|| Error::internal("cpu", "a count of rows without a value"))?;
    Ok(usize::try_from(count).ok().filter(|&rows| rows < live.of))
}

/// Runs a step for its first `rows` rows.
pub(super) fn run_step(
    plan: &Plan,
    step: &Step,
    rows: usize,
    ready: &Ready,
    scalars: &[u32],
    roots: &mut Roots<'_, '_>,
) -> Result<()> {
    let Some(live) = &step.live else { return Err(Error::internal("cpu", "a step without live rows")) };
    match (&step.action, ready) {
        (Action::Map(m), Ready::Map(k)) => {
            let reads = loads(&m.program.terms);
            let mut memory = StepMemory::new(plan, &reads, &m.outs, roots)?;
            let sources: smallvec::SmallVec<[Option<&[u32]>; 8]> = (0..reads.len()).map(|i| memory.read(i)).collect();
            let n: usize = shortened(&m.dims, live.of, rows).iter().product();
            k.map(&sources, scalars, &mut memory.write(0)?[..n]);
            Ok(())
        }
        (Action::Reduce(r), Ready::Reduce(_)) => {
            let reads = loads(&r.program.terms);
            let mut memory = StepMemory::new(plan, &reads, &[r.out], roots)?;
            let sources: smallvec::SmallVec<[Option<&[u32]>; 8]> = (0..reads.len()).map(|i| memory.read(i)).collect();
            let all = plan.values[r.out].spec.numel();
            let n = if matches!(live.scope, Scope::Reduced) { all } else { all / live.of * rows };
            let dtype = plan.values[r.out].spec.dtype;
            let fewer = ReduceStep { dims: shortened(&r.dims, live.of, rows), ..r.clone() };
            Reduce::new(&fewer, dtype).run(&sources, scalars, &mut memory.write(0)?[..n]);
            Ok(())
        }
        (Action::Op(o), _) => {
            let (ins, outs) = op_specs(&o.in_specs, &o.out_specs, &live.scope, rows);
            run_op(plan, o, &ins, &outs, roots)
        }
        _ => Err(Error::internal("cpu", "a copy with live rows")),
    }
}
