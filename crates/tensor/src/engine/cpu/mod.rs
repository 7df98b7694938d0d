//! The CPU engine: the same plans in native code. It needs no driver, and on a machine without a GPU it is the product.
//!
//! Element-wise groups run in cache-sized blocks, products through the crate `gemm`, rows and blocks over threads by
//! `rayon`. Work is cut by shape alone, so answers do not depend on the number of threads.

mod blocks;
mod lanes;
mod live;
mod memory;
pub mod product;
mod reduce;
pub mod simd;
mod strided;
pub mod tile;

use std::any::Any;
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

use crate::device::{Counters, DeviceInfo};
use crate::dtype::DType;
use crate::engine::{Buffer, Engine, Here, Prepared, Readback, Run, checks_finite, written};
use crate::error::{Error, Result};
use crate::op::{Call, In, Out};
use crate::plan::{Action, OpStep, Plan, Source, Term};
use crate::shape::Spec;

use blocks::Kernel;
use memory::{CpuBuffer, Pool, Roots, StepMemory};
use reduce::Reduce;

/// Name, threads and vector width.
pub(crate) fn info(reason: &str) -> DeviceInfo {
    DeviceInfo {
        name: "CPU".into(),
        backend: "native".into(),
        driver: format!("{} threads, {}", rayon::current_num_threads(), product::vector_path()),
        software: false,
        reason: reason.into(),
    }
}

/// The engine.
pub(crate) struct Cpu {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    lost: std::sync::atomic::AtomicBool,
}

impl Cpu {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Cpu { pool: Arc::new(Pool::new(counters.clone())), counters, lost: std::sync::atomic::AtomicBool::new(false) }
    }

    fn alive(&self) -> Result<()> {
        if self.lost.load(std::sync::atomic::Ordering::Relaxed) {
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

/// One for each step.
type Kernels = Vec<Ready>;

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
        let kernels: Kernels = plan
            .steps
            .iter()
            .map(|s| match &s.action {
                Action::Map(m) => Ready::Map(Kernel::new(&m.program)),
                Action::Reduce(r) => Ready::Reduce(Reduce::new(r, plan.values[r.out].spec.dtype)),
                _ => Ready::Other,
            })
            .collect();
        Ok(Box::new(kernels))
    }

    fn run(&self, plan: &Plan, prepared: &Prepared, run: Run<'_>) -> Result<Box<dyn Readback>> {
        self.alive()?;
        let kernels: &Kernels =
            prepared.downcast_ref().ok_or_else(|| Error::internal("cpu", "prepared by another engine"))?;
        let arenas = plan.arenas.iter().map(|&bytes| self.pool.take(bytes)).collect::<Result<Vec<_>>>()?;
        // Donated inputs are written through their outputs, and read there.
        let mut inputs: Vec<Option<RwLockReadGuard<'_, Vec<u32>>>> = Vec::with_capacity(run.inputs.len());
        for (i, b) in run.inputs.iter().enumerate() {
            let donated = plan.donated.contains(&Some(i));
            inputs.push(if donated { None } else { Some(cpu_buffer(b)?.read()) });
        }
        let mut outputs: Vec<RwLockWriteGuard<'_, Vec<u32>>> =
            run.outputs.iter().map(|b| cpu_buffer(b).map(CpuBuffer::write)).collect::<Result<_>>()?;
        let mut scratch: Vec<RwLockWriteGuard<'_, Vec<u32>>> = arenas.iter().map(CpuBuffer::write).collect();
        for (step, kernel) in plan.steps.iter().zip(kernels) {
            let mut roots = Roots { inputs: &inputs, outputs: &mut outputs, arenas: &mut scratch };
            match live::rows(plan, step, &mut roots)? {
                Some(rows) => live::run_step(plan, step, rows, kernel, run.scalars, &mut roots)?,
                None => run_step(plan, &step.action, kernel, run.scalars, &mut roots)?,
            }
            if checks_finite() {
                finite(plan, step, &mut roots)?;
            }
        }
        Counters::add(&self.counters.dispatches, plan.steps.len() as u64);
        Counters::add(&self.counters.submissions, 1);
        let read = run.read.iter().map(|&(j, bytes)| bytemuck::cast_slice::<u32, u8>(&outputs[j])[..bytes].to_vec());
        Ok(Box::new(Here(Some(read.collect()))))
    }

    fn destroy(&self) {
        self.lost.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Fails at the first f32 that is not finite in what a step wrote.
fn finite(plan: &Plan, step: &crate::plan::Step, roots: &mut Roots<'_, '_>) -> Result<()> {
    let rows = live::rows(plan, step, roots)?;
    for &v in written(&step.action).iter().filter(|&&v| plan.values[v].spec.dtype == DType::F32) {
        let mut memory = StepMemory::new(plan, &[], &[v], roots)?;
        let data: &[f32] = bytemuck::cast_slice(memory.write(0)?);
        // Rows that were left out hold anything.
        let all = plan.values[v].spec.numel();
        let n = match (&step.live, rows) {
            (Some(live), Some(rows)) if live.scope.has_rows() => all / live.of * rows,
            _ => all,
        };
        if let Some(index) = data[..n].iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite { node: step.label.clone(), index, at: step.at.to_string() });
        }
    }
    Ok(())
}

/// The values that a program reads.
fn loads(terms: &[Term]) -> smallvec::SmallVec<[usize; 8]> {
    let value = |t: &Term| match t {
        Term::Load { source: Source::Value(v), .. } => Some(*v),
        _ => None,
    };
    terms.iter().filter_map(value).collect()
}

fn run_step(plan: &Plan, action: &Action, ready: &Ready, scalars: &[u32], roots: &mut Roots<'_, '_>) -> Result<()> {
    match (action, ready) {
        (Action::Map(m), Ready::Map(k)) => {
            let reads = loads(&m.program.terms);
            let mut memory = StepMemory::new(plan, &reads, &m.outs, roots)?;
            let sources: smallvec::SmallVec<[Option<&[u32]>; 8]> = (0..reads.len()).map(|i| memory.read(i)).collect();
            let n = m.dims.iter().product();
            k.map(&sources, scalars, &mut memory.write(0)?[..n]);
            Ok(())
        }
        (Action::Reduce(r), Ready::Reduce(k)) => {
            let reads = loads(&r.program.terms);
            let mut memory = StepMemory::new(plan, &reads, &[r.out], roots)?;
            let sources: smallvec::SmallVec<[Option<&[u32]>; 8]> = (0..reads.len()).map(|i| memory.read(i)).collect();
            let n = plan.values[r.out].spec.numel();
            k.run(&sources, scalars, &mut memory.write(0)?[..n]);
            Ok(())
        }
        (Action::Op(o), _) => run_op(plan, o, &o.in_specs, &o.out_specs, roots),
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
    let mut ins = Vec::with_capacity(o.ins.len());
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
    let mut outs = Vec::with_capacity(o.outs.len());
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
