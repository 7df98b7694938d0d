//! Fused element-wise groups: a register program over blocks that stay in the first-level cache.

use std::cell::RefCell;

use rayon::prelude::*;
use smallvec::SmallVec;

use crate::dtype::DType;
use crate::expr::Func;
use crate::plan::layout::Layout;
use crate::plan::{Program, Source, Term};

/// Words of a register.
pub(super) const BLOCK: usize = 512;
/// Elements that one task computes; more tasks only where there are more elements.
const TASK: usize = 32 * BLOCK;

/// Where a term's values are while a block is computed.
#[derive(Clone, Copy, Debug)]
enum Operand {
    /// In a register.
    Register(usize),
    /// In the memory of this load, at the block's own position.
    Direct(usize),
}

#[derive(Clone, Debug)]
struct Instruction {
    func: Func,
    dtype: DType,
    args: SmallVec<[Operand; 4]>,
    to: usize,
}

/// A read: which of the step's sources (`None`: the position itself), how, and into which register.
#[derive(Clone, Debug)]
struct Load {
    source: Option<usize>,
    layout: Layout,
    contiguous: bool,
    register: usize,
}

/// A program with its registers assigned.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    loads: Vec<Load>,
    /// (register, index of the scalar).
    scalars: Vec<(usize, usize)>,
    instructions: Vec<Instruction>,
    result: Operand,
    n_registers: usize,
}

thread_local! {
    /// Registers of this thread, reused from block to block.
    static REGISTERS: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

impl Kernel {
    pub fn new(program: &Program) -> Self {
        let n = program.terms.len();
        let mut last = vec![0; n];
        for (t, term) in program.terms.iter().enumerate() {
            if let Term::Apply { args, .. } = term {
                args.iter().for_each(|&a| last[a] = t);
            }
        }
        program.results.iter().for_each(|&r| last[r] = usize::MAX);
        let mut k = Kernel {
            loads: Vec::new(),
            scalars: Vec::new(),
            instructions: Vec::new(),
            result: Operand::Register(0),
            n_registers: 0,
        };
        let mut free: Vec<usize> = Vec::new();
        let mut place: Vec<Operand> = Vec::with_capacity(n);
        let mut n_sources = 0;
        for (t, term) in program.terms.iter().enumerate() {
            let operand = match term {
                Term::Load { source, layout, .. } => {
                    let source = matches!(source, Source::Value(_)).then(|| {
                        n_sources += 1;
                        n_sources - 1
                    });
                    // Loads keep their registers: they are filled before the first instruction.
                    let contiguous = source.is_some() && layout.is_contiguous();
                    let register = k.n_registers;
                    k.n_registers += 1;
                    k.loads.push(Load { source, layout: layout.clone(), contiguous, register });
                    if contiguous { Operand::Direct(k.loads.len() - 1) } else { Operand::Register(register) }
                }
                Term::Scalar { index, .. } => {
                    k.scalars.push((k.n_registers, *index));
                    k.n_registers += 1;
                    Operand::Register(k.n_registers - 1)
                }
                Term::Apply { func, dtype, args, .. } => {
                    let operands: SmallVec<[Operand; 4]> = args.iter().map(|&a| place[a]).collect();
                    let to = free.pop().unwrap_or_else(|| {
                        k.n_registers += 1;
                        k.n_registers - 1
                    });
                    let mut dead: SmallVec<[usize; 4]> = SmallVec::new();
                    for &a in args {
                        if let (Operand::Register(r), true, Term::Apply { .. }) =
                            (place[a], last[a] == t, &program.terms[a])
                            && !dead.contains(&r)
                        {
                            dead.push(r);
                        }
                    }
                    free.extend(dead);
                    k.instructions.push(Instruction { func: *func, dtype: *dtype, args: operands, to });
                    Operand::Register(to)
                }
            };
            place.push(operand);
        }
        k.result = program.results.first().map_or(Operand::Register(0), |&r| place[r]);
        k
    }

    /// Fills `out`, the whole index space.
    pub fn map(&self, sources: &[Option<&[u32]>], scalars: &[u32], out: &mut [u32]) {
        let task = |(i, chunk): (usize, &mut [u32])| self.span(sources, scalars, i * TASK, chunk);
        if out.len() > TASK {
            out.par_chunks_mut(TASK).enumerate().for_each(task);
        } else {
            task((0, out));
        }
    }

    /// Fills `out`, the part of the index space from `start` on.
    fn span(&self, sources: &[Option<&[u32]>], scalars: &[u32], start: usize, out: &mut [u32]) {
        self.with_registers(scalars, |registers| {
            for (b, block) in out.chunks_mut(BLOCK).enumerate() {
                let at = start + b * BLOCK;
                let n = block.len();
                for load in &self.loads {
                    self.fill_at(load, sources, registers, at, n, block);
                }
                let last = self.instructions.len().wrapping_sub(1);
                for (i, ins) in self.instructions.iter().enumerate() {
                    let to_out = i == last && matches!(self.result, Operand::Register(r) if r == ins.to);
                    if to_out {
                        self.execute(ins, sources, registers, at, block);
                    } else {
                        let mut to = std::mem::take(&mut registers[ins.to]);
                        self.execute(ins, sources, registers, at, &mut to[..n]);
                        registers[ins.to] = to;
                    }
                    if to_out {
                        break;
                    }
                }
                let computed =
                    matches!((self.result, self.instructions.last()), (Operand::Register(r), Some(i)) if i.to == r);
                if !computed {
                    let result = self.operand(self.result, sources, registers, at, n);
                    block.copy_from_slice(result);
                }
            }
        });
    }

    /// Evaluates a run of `n` (at most [`BLOCK`]) indices whose loads start at `positions` and step by `steps`.
    pub fn run<'r>(
        &self,
        sources: &[Option<&[u32]>],
        registers: &'r mut [Vec<u32>],
        runs: &[RunLoad],
        n: usize,
    ) -> &'r [u32] {
        for (load, run) in self.loads.iter().zip(runs) {
            fill_run(&mut registers[load.register][..n], load.source.and_then(|s| sources[s]), run);
        }
        for ins in &self.instructions {
            let mut to = std::mem::take(&mut registers[ins.to]);
            let mut args: [&[u32]; 4] = [&[]; 4];
            for (slot, &a) in args.iter_mut().zip(&ins.args) {
                *slot = &registers[self.register_of(a)][..n];
            }
            ins.func.block(ins.dtype, &mut to[..n], &args);
            registers[ins.to] = to;
        }
        &registers[self.register_of(self.result)][..n]
    }

    fn register_of(&self, o: Operand) -> usize {
        match o {
            Operand::Register(r) => r,
            Operand::Direct(l) => self.loads[l].register,
        }
    }

    /// Layouts of the loads, in order.
    pub fn layouts(&self) -> impl Iterator<Item = &Layout> {
        self.loads.iter().map(|l| &l.layout)
    }

    /// Registers of this thread, with the scalars filled in.
    pub fn with_registers<T>(&self, scalars: &[u32], f: impl FnOnce(&mut [Vec<u32>]) -> T) -> T {
        // A nested use (rayon may steal work while a task waits) takes fresh registers.
        let mut registers =
            REGISTERS.with(|r| r.try_borrow_mut().map(|mut r| std::mem::take(&mut *r)).unwrap_or_default());
        while registers.len() < self.n_registers.max(1) {
            registers.push(vec![0; BLOCK]);
        }
        for &(r, index) in &self.scalars {
            registers[r].fill(scalars.get(index).copied().unwrap_or(0));
        }
        let result = f(&mut registers);
        REGISTERS.with(|r| {
            if let Ok(mut r) = r.try_borrow_mut() {
                *r = registers;
            }
        });
        result
    }

    fn fill_at(
        &self,
        load: &Load,
        sources: &[Option<&[u32]>],
        registers: &mut [Vec<u32>],
        at: usize,
        n: usize,
        out: &[u32],
    ) {
        let r = load.register;
        match load.source {
            // An update in place reads what the block holds.
            Some(s) if sources[s].is_none() => registers[r][..n].copy_from_slice(&out[..n]),
            Some(_) if load.contiguous => {}
            source => fill_strided(&mut registers[r][..n], source.and_then(|s| sources[s]), &load.layout, at),
        }
    }

    fn operand<'x>(
        &self,
        o: Operand,
        sources: &'x [Option<&[u32]>],
        registers: &'x [Vec<u32>],
        at: usize,
        n: usize,
    ) -> &'x [u32] {
        match o {
            Operand::Register(r) => &registers[r][..n],
            Operand::Direct(l) => {
                let load = &self.loads[l];
                let start = load.layout.offset.unsigned_abs() + at;
                match load.source.and_then(|s| sources[s]) {
                    Some(source) => &source[start..start + n],
                    None => &registers[load.register][..n],
                }
            }
        }
    }

    fn execute(
        &self,
        ins: &Instruction,
        sources: &[Option<&[u32]>],
        registers: &[Vec<u32>],
        at: usize,
        to: &mut [u32],
    ) {
        let mut args: [&[u32]; 4] = [&[]; 4];
        for (slot, &a) in args.iter_mut().zip(&ins.args) {
            *slot = self.operand(a, sources, registers, at, to.len());
        }
        ins.func.block(ins.dtype, to, &args);
    }
}

/// Where a run of a load starts, how far its neighbors are apart; `None`: it lies outside a guard and reads zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunLoad {
    pub start: Option<isize>,
    pub step: isize,
    /// The guard of the axis that the run follows, with the index at which the run starts.
    pub guard: Option<(crate::plan::layout::Guard, usize)>,
}

fn fill_run(to: &mut [u32], source: Option<&[u32]>, run: &RunLoad) {
    let Some(start) = run.start else { return to.fill(0) };
    if let Some((guard, from)) = run.guard {
        for (i, t) in to.iter_mut().enumerate() {
            let at = (from + i).checked_sub(guard.low).filter(|d| d % guard.step == 0 && d / guard.step < guard.len);
            *t = at.map_or(0, |d| read(source, start + (d / guard.step) as isize * run.step));
        }
        return;
    }
    match (run.step, source) {
        (0, _) => to.fill(read(source, start)),
        (1, Some(s)) => to.copy_from_slice(&s[start.unsigned_abs()..start.unsigned_abs() + to.len()]),
        (step, _) => to.iter_mut().enumerate().for_each(|(i, t)| *t = read(source, start + i as isize * step)),
    }
}

/// The word at a position; the position itself where there is no source.
fn read(source: Option<&[u32]>, at: isize) -> u32 {
    match source {
        Some(s) => s[at.unsigned_abs()],
        None => at as u32,
    }
}

/// Fills `to` with the elements of the linear indices from `at` on.
fn fill_strided(to: &mut [u32], source: Option<&[u32]>, layout: &Layout, at: usize) {
    let axes = &layout.axes;
    let Some(inner) = axes.last() else { return to.fill(read(source, layout.offset)) };
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
        let mut start = Some(layout.offset);
        for (a, &i) in axes.iter().zip(&index).take(last) {
            start = start.and_then(|s| Some(s + position(a, i)?));
        }
        let run = match inner.guard {
            Some(g) => RunLoad { start, step: inner.stride, guard: Some((g, index[last])) },
            None => RunLoad {
                start: start.map(|s| s + index[last] as isize * inner.stride),
                step: inner.stride,
                guard: None,
            },
        };
        fill_run(&mut to[done..done + n], source, &run);
        done += n;
        index[last] += n;
        for d in (0..=last).rev() {
            if index[d] < axes[d].size || d == 0 {
                break;
            }
            index[d] = 0;
            index[d - 1] += 1;
        }
    }
}

/// What index `i` of an axis adds to the position; `None` outside its guard.
pub(super) fn position(axis: &crate::plan::layout::Axis, i: usize) -> Option<isize> {
    match axis.guard {
        None => Some(i as isize * axis.stride),
        Some(g) => {
            let d = i.checked_sub(g.low).filter(|d| d % g.step == 0 && d / g.step < g.len)?;
            Some((d / g.step) as isize * axis.stride)
        }
    }
}
