//! The CPU engine: the same plans in native code. It needs no driver, and on a machine without a GPU it is the product.
//!
//! Element-wise groups run in cache-sized blocks, products through the crate `gemm`, rows and blocks over threads by
//! `rayon`. Work is cut by shape alone, so answers do not depend on the number of threads.

pub mod aligned;
mod blocks;
pub mod halves;
mod joint;
mod lanes;
mod live;
mod memory;
pub mod product;
mod reduce;
pub mod simd;
mod strided;
pub mod tile;
pub mod transpose;

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use smallvec::SmallVec;

use crate::device::{Counters, DeviceInfo};
use crate::dtype::DType;
use crate::engine::{Buffer, Engine, Here, Prepared, Readback, Run, checks_finite, written};
use crate::error::{Error, Result};
use crate::op::{Call, In, Out};
use crate::plan::rows::{op_specs, shortened};
use crate::plan::{Action, OpStep, Plan, ReduceStep, Source, Step, Term};
use crate::profile::{Launched, Notes};
use crate::shape::Spec;

use aligned::Aligned;
use blocks::Kernel;
use live::Rows;
use memory::{CpuBuffer, Pool, Roots, StepMemory};
use reduce::Reduce;

/// Name, threads and vector width.
pub(crate) fn info(reason: &str) -> DeviceInfo {
    DeviceInfo {
        name: "CPU".into(),
        backend: "native".into(),
        driver: format!("{} threads, {}", rayon::current_num_threads(), simd::Path::now()),
        software: false,
        reason: reason.into(),
        autotuned: false,
    }
}

/// The engine.
pub(crate) struct Cpu {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    lost: AtomicBool,
    notes: Notes,
}

impl Cpu {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        let pool = Arc::new(Pool::new(counters.clone()));
        Cpu { pool, counters, lost: AtomicBool::new(false), notes: Notes::default() }
    }

    fn alive(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error::DeviceLost { device: "CPU".into(), reason: "destroyed".into() });
        }
        Ok(())
    }
}

fn cpu_buffer(b: &Buffer) -> Result<&CpuBuffer> {
    b.as_any().downcast_ref().ok_or_else(|| Error::internal("cpu", "a buffer of another engine"))
}

/// What `prepare` makes of a step.
enum Ready {
    Map(Kernel),
    Reduce(Reduce),
    Other,
}

/// What `prepare` makes of a plan.
struct Work {
    /// One for each step.
    kernels: Vec<Ready>,
    /// Whether the plan is worth the way to the threads.
    threads: bool,
}

/// Numbers and operations of a plan from which its work is done where the threads are. (A way to a sleeping thread and
/// back takes some ten microseconds: as long as this work.)
const WORTH_THREADS: u64 = 1 << 17;

impl Engine for Cpu {
    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        self.alive()?;
        Ok(Arc::new(self.pool.take(bytes)?))
    }

    fn upload(&self, bytes: &[u8]) -> Result<Buffer> {
        self.alive()?;
        let buffer = self.pool.take(bytes.len())?;
        bytemuck::cast_slice_mut::<u32, u8>(&mut buffer.write())[..bytes.len()].copy_from_slice(bytes);
        Ok(Arc::new(buffer))
    }

    fn read(&self, buffer: &Buffer, bytes: usize) -> Result<Box<dyn Readback>> {
        self.alive()?;
        let data = cpu_buffer(buffer)?.read();
        Ok(Box::new(Here(Some(vec![bytemuck::cast_slice::<u32, u8>(&data)[..bytes].to_vec()]))))
    }

    fn look(&self, buffer: &Buffer, bytes: usize, f: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.alive()?;
        f(&bytemuck::cast_slice::<u32, u8>(&cpu_buffer(buffer)?.read())[..bytes]);
        Ok(())
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let kernels = plan
            .steps
            .iter()
            .map(|s| match &s.action {
                Action::Map(m) => Ready::Map(Kernel::new(&m.program)),
                Action::Reduce(r) => Ready::Reduce(Reduce::new(r, plan.values[r.outs[0]].spec.dtype)),
                _ => Ready::Other,
            })
            .collect();
        let work: u64 = plan.steps.iter().map(|s| plan.cost(s)).map(|(bytes, flop)| bytes / 4 + flop).sum();
        Ok(Box::new(Work { kernels, threads: work > WORTH_THREADS }))
    }

    fn run(&self, plan: &Plan, prepared: &Prepared, run: Run<'_>) -> Result<Box<dyn Readback>> {
        self.alive()?;
        let work: &Work =
            prepared.downcast_ref().ok_or_else(|| Error::internal("cpu", "prepared by another engine"))?;
        let read = if work.threads {
            // From inside, a step that is cut wakes the other threads at most; from outside, it would wait to be woken
            // as well, step after step.
            rayon::scope(|_| self.run_steps(plan, &work.kernels, run))
        } else {
            self.run_steps(plan, &work.kernels, run)
        };
        Ok(Box::new(Here(Some(read?))))
    }

    fn profile(&self, on: bool) -> Option<Vec<Launched>> {
        Some(self.notes.switch(on))
    }

    fn destroy(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

impl Cpu {
    /// All steps, and the outputs to read.
    fn run_steps(&self, plan: &Plan, kernels: &[Ready], run: Run<'_>) -> Result<Vec<Vec<u8>>> {
        let arenas = plan.arenas.iter().map(|&bytes| self.pool.take(bytes)).collect::<Result<Vec<_>>>()?;
        // Donated inputs are written through their outputs, and read there.
        let mut inputs: Vec<Option<RwLockReadGuard<'_, Aligned>>> = Vec::with_capacity(run.inputs.len());
        for (i, b) in run.inputs.iter().enumerate() {
            let donated = plan.donated.contains(&Some(i));
            inputs.push(if donated { None } else { Some(cpu_buffer(b)?.read()) });
        }
        let mut outputs: Vec<RwLockWriteGuard<'_, Aligned>> =
            run.outputs.iter().map(|b| cpu_buffer(b).map(CpuBuffer::write)).collect::<Result<_>>()?;
        let mut scratch: Vec<RwLockWriteGuard<'_, Aligned>> = arenas.iter().map(CpuBuffer::write).collect();
        for (step, kernel) in plan.steps.iter().zip(kernels) {
            let began = self.notes.are_on().then(Instant::now);
            let mut roots = Roots { inputs: &inputs, outputs: &mut outputs, arenas: &mut scratch };
            let rows = live::rows(plan, step, &mut roots)?;
            run_step(plan, &step.action, rows, kernel, run.scalars, &mut roots)?;
            if let Some(began) = began {
                self.notes.add(plan, step, &step.label, began, began.elapsed(), 1);
            }
            if checks_finite() {
                finite(plan, step, rows, &mut roots)?;
            }
        }
        Counters::add(&self.counters.dispatches, plan.steps.len() as u64);
        Counters::add(&self.counters.submissions, 1);
        let read = run.read.iter().map(|&(j, bytes)| bytemuck::cast_slice::<u32, u8>(&outputs[j])[..bytes].to_vec());
        Ok(read.collect())
    }
}

/// Fails at the first f32 that is not finite in what a step wrote.
fn finite(plan: &Plan, step: &Step, rows: Option<Rows<'_>>, roots: &mut Roots<'_, '_>) -> Result<()> {
    for &v in written(&step.action).iter().filter(|&&v| plan.values[v].spec.dtype == DType::F32) {
        let mut memory = StepMemory::new(plan, &[], &[v], roots)?;
        let data: &[f32] = bytemuck::cast_slice(memory.write(0)?);
        // Rows that were left out hold anything.
        let all = plan.values[v].spec.numel();
        let n = rows.map_or(all, |rows| rows.share_of(all));
        if let Some(index) = data[..n].iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite { node: step.label.clone(), index, at: step.at.to_string() });
        }
    }
    Ok(())
}

/// The values that a program reads.
fn loads(terms: &[Term]) -> SmallVec<[usize; 16]> {
    let value = |t: &Term| match t {
        Term::Load { source: Source::Value(v), .. } => Some(*v),
        _ => None,
    };
    terms.iter().filter_map(value).collect()
}

/// Runs a step, or its first `rows`.
fn run_step(
    plan: &Plan,
    action: &Action,
    rows: Option<Rows<'_>>,
    ready: &Ready,
    scalars: &[u32],
    roots: &mut Roots<'_, '_>,
) -> Result<()> {
    let share = |all| rows.map_or(all, |rows| rows.share_of(all));
    match (action, ready) {
        (Action::Map(m), Ready::Map(k)) => {
            let reads = loads(&m.program.terms);
            let mut memory = StepMemory::new(plan, &reads, &m.outs, roots)?;
            let sources: SmallVec<[Option<&[u32]>; 16]> = (0..reads.len()).map(|i| memory.read(i)).collect();
            let n = share(m.dims.iter().product());
            match plan.values[m.outs[0]].spec.dtype {
                DType::F16 => k.map_to_halves(&sources, scalars, n, memory.write(0)?),
                _ => k.map(&sources, scalars, &mut memory.write(0)?[..n]),
            }
            Ok(())
        }
        (Action::Reduce(r), Ready::Reduce(k)) => {
            let (&[to], None) = (&r.outs[..], &r.finish) else {
                return Err(Error::internal("cpu", "a reduction with several results, or with a group after it"));
            };
            let reads = loads(&r.program.terms);
            let mut memory = StepMemory::new(plan, &reads, &[to], roots)?;
            let sources: SmallVec<[Option<&[u32]>; 16]> = (0..reads.len()).map(|i| memory.read(i)).collect();
            let n = share(plan.values[to].spec.numel());
            let out = &mut memory.write(0)?[..n];
            match rows {
                None => k.run(&sources, scalars, out),
                Some(Rows { live, count }) => {
                    let fewer = ReduceStep { dims: shortened(&r.dims, live.of, count), ..r.clone() };
                    Reduce::new(&fewer, plan.values[to].spec.dtype).run(&sources, scalars, out);
                }
            }
            Ok(())
        }
        (Action::Op(OpStep { finish: Some(_), .. }), _) => Err(Error::internal("cpu", "an op with a group after it")),
        (Action::Op(o), _) => match rows {
            None => run_op(plan, o, &o.in_specs, &o.out_specs, roots),
            Some(Rows { live, count }) => {
                let (ins, outs) = op_specs(&o.in_specs, &o.out_specs, &live.scope, count);
                run_op(plan, o, &ins, &outs, roots)
            }
        },
        (Action::Copy { from, to, offset }, _) => {
            let bytes = plan.values[*from].spec.bytes();
            let mut memory = StepMemory::new(plan, &[*from], &[*to], roots)?;
            if let Some(source) = memory.read(0) {
                memory.write(0)?[offset / 4..(offset + bytes) / 4].copy_from_slice(&source[..bytes / 4]);
            }
            Ok(())
        }
        (Action::Zero { to, offset, bytes }, _) => {
            let mut memory = StepMemory::new(plan, &[], &[*to], roots)?;
            memory.write(0)?[offset / 4..(offset + bytes) / 4].fill(0);
            Ok(())
        }
        _ => Err(Error::internal("cpu", "a fused step without a kernel")),
    }
}

fn run_op(plan: &Plan, o: &OpStep, in_specs: &[Spec], out_specs: &[Spec], roots: &mut Roots<'_, '_>) -> Result<()> {
    let mut memory = StepMemory::new(plan, &o.ins, &o.outs, roots)?;
    let in_place = o.op.in_place();
    let mut ins = SmallVec::new();
    for (i, spec) in in_specs.iter().enumerate() {
        if let Some(&(_, out)) = in_place.iter().find(|p| p.0 == i) {
            ins.push(In::InPlace(out));
            continue;
        }
        let words = memory.read(i).ok_or_else(|| Error::internal(o.op.name(), "an input overlaps an output"))?;
        ins.push(match spec.dtype {
            DType::F32 => In::Real(&bytemuck::cast_slice(words)[..spec.numel()]),
            DType::F16 => In::Half(&bytemuck::cast_slice(words)[..spec.numel()]),
            _ => In::Word(&words[..spec.numel()]),
        });
    }
    let mut outs = SmallVec::new();
    for (words, spec) in memory.writes().zip(out_specs) {
        outs.push(match spec.dtype {
            DType::F32 => Out::Real(&mut bytemuck::cast_slice_mut(words)[..spec.numel()]),
            DType::F16 => Out::Half(&mut bytemuck::cast_slice_mut(words)[..spec.numel()]),
            _ => Out::Word(&mut words[..spec.numel()]),
        });
    }
    o.op.cpu(&mut Call { ins, outs, in_specs, out_specs });
    Ok(())
}

/// To the engine's own buffer type.
impl crate::engine::RawBuffer for CpuBuffer {
    fn bytes(&self) -> usize {
        self.read().len() * 4
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
