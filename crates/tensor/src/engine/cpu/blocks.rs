//! Fused element-wise groups: a register program over blocks that stay in the first-level cache.

use std::cell::RefCell;

use half::f16;
use rayon::prelude::*;
use smallvec::SmallVec;

use super::aligned::Aligned;
use super::halves::{narrow, of_words};
use super::joint::{self, Joint};
use super::strided::{Elements, Reader};
use crate::dtype::DType;
use crate::expr::Func;
use crate::plan::layout::Layout;
use crate::plan::{Program, Source, Term};

/// Words of a register.
pub(super) const BLOCK: usize = 1024;
/// Elements that one task computes; more tasks only where there are more elements.
const TASK: usize = 16 * BLOCK;
/// Instructions times elements below which waking another thread costs more than it gives.
pub(super) const SERIAL: usize = 96 * 1024;

/// Where a term's values are while a block is computed.
#[derive(Clone, Copy, Debug)]
enum Operand {
    /// In a register.
    Register(usize),
    /// In the memory of this load, or in its register where they do not lie side by side.
    Load(usize),
}

#[derive(Clone, Copy, Debug)]
enum What {
    One(Func, DType),
    Joint(Joint),
}

#[derive(Clone, Debug)]
struct Instruction {
    what: What,
    args: SmallVec<[Operand; 4]>,
    to: usize,
}

impl Instruction {
    /// Computes it for a block.
    fn block(&self, to: &mut [u32], args: &[&[u32]; 4]) {
        match self.what {
            What::One(func, dtype) => func.block(dtype, to, args),
            What::Joint(joint) => joint.block(to, args),
        }
    }
}

/// A read: which of the step's sources (`None`: the position itself), and a register for it.
#[derive(Clone, Debug)]
struct Load {
    source: Option<usize>,
    /// It reads halves: never as they lie in memory.
    halves: bool,
    register: usize,
}

/// A program with its registers assigned.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    loads: Vec<Load>,
    /// How each load reads.
    readers: Vec<Reader>,
    /// (register, index of the scalar).
    scalars: Vec<(usize, usize)>,
    instructions: Vec<Instruction>,
    result: Operand,
    n_registers: usize,
    cost: usize,
}

/// For each load, where the block's values start in its source; `None`: they are in its register.
type Seen = SmallVec<[Option<usize>; 16]>;

/// What a step reads; `None` is what it updates in place.
pub(super) type Sources<'a> = &'a [Option<&'a [u32]>];

thread_local! {
    /// Registers of this thread, reused from block to block.
    static REGISTERS: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

impl Kernel {
    pub fn new(program: &Program) -> Self {
        let n = program.terms.len();
        let (joint, within) = joint::find(program);
        // The arguments of what is computed at a term; none where it is computed with its reader.
        let args_of = |t: usize| -> &[usize] {
            match (&joint[t], &program.terms[t]) {
                (Some(found), _) => &found.args,
                (None, Term::Apply { args, .. }) if !within[t] => args,
                _ => &[],
            }
        };
        let mut last = vec![0; n];
        for t in 0..n {
            args_of(t).iter().for_each(|&a| last[a] = t);
        }
        for &r in &program.results {
            last[r] = usize::MAX;
            args_of(r).iter().for_each(|&a| last[a] = usize::MAX);
        }
        let mut k = Kernel {
            loads: Vec::new(),
            readers: Vec::new(),
            scalars: Vec::new(),
            instructions: Vec::new(),
            result: Operand::Register(0),
            n_registers: 0,
            cost: 1,
        };
        let mut free: Vec<usize> = Vec::new();
        let mut place: Vec<Operand> = Vec::with_capacity(n);
        let mut n_sources = 0;
        for (t, term) in program.terms.iter().enumerate() {
            k.cost += match term {
                Term::Load { .. } => 1,
                Term::Scalar { .. } => 0,
                Term::Apply { func, .. } => func.cost() as usize,
            };
            let operand = match term {
                Term::Load { source, dtype, layout } => {
                    let source = matches!(source, Source::Value(_)).then(|| {
                        n_sources += 1;
                        n_sources - 1
                    });
                    // Loads keep their registers: they are filled before the first instruction.
                    k.loads.push(Load { source, halves: *dtype == DType::F16, register: k.n_registers });
                    k.readers.push(Reader::new(layout.clone()));
                    k.n_registers += 1;
                    Operand::Load(k.loads.len() - 1)
                }
                Term::Scalar { index, .. } => {
                    k.scalars.push((k.n_registers, *index));
                    k.n_registers += 1;
                    Operand::Register(k.n_registers - 1)
                }
                // Halves are floats once they are read.
                Term::Apply { func: Func::ToF32, dtype: DType::F16, args, .. }
                    if matches!(program.terms[args[0]], Term::Load { .. }) =>
                {
                    place[args[0]]
                }
                // The store rounds.
                Term::Apply { func: Func::ToF16, args, .. } if program.results == [t] => place[args[0]],
                // Nobody asks where it is.
                Term::Apply { .. } if within[t] => Operand::Register(usize::MAX),
                Term::Apply { func, dtype, .. } => {
                    let args = args_of(t);
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
                    let what = joint[t].as_ref().map_or(What::One(*func, *dtype), |found| What::Joint(found.joint));
                    k.instructions.push(Instruction { what, args: operands, to });
                    Operand::Register(to)
                }
            };
            place.push(operand);
        }
        k.result = program.results.first().map_or(Operand::Register(0), |&r| place[r]);
        k
    }

    /// How the loads read, in order.
    pub fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// Rough cost of an element.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Fills `out`, the whole index space.
    pub fn map(&self, sources: Sources<'_>, scalars: &[u32], out: &mut [u32]) {
        let task = |(i, chunk): (usize, &mut [u32])| self.span(sources, scalars, i * TASK, chunk);
        if out.len() > TASK && out.len() * self.cost() > 2 * SERIAL {
            out.par_chunks_mut(TASK).enumerate().for_each(task);
        } else {
            task((0, out));
        }
    }

    /// The same for a result of `n` halves, two to a word.
    pub fn map_to_halves(&self, sources: Sources<'_>, scalars: &[u32], n: usize, out: &mut [u32]) {
        let starts: SmallVec<[Option<isize>; 16]> = SmallVec::from_elem(Some(0), self.loads.len());
        let task = |(i, chunk): (usize, &mut [f16])| {
            self.with_registers(scalars, |registers| {
                for (b, block) in chunk.chunks_mut(BLOCK).enumerate() {
                    let at = i * TASK + b * BLOCK;
                    let count = block.len().min(n - at);
                    let words = self.get(sources, &self.readers, &starts, at, count, registers);
                    narrow(bytemuck::cast_slice(words), block);
                    // Behind an odd number the word is filled up.
                    block[count..].fill(f16::ZERO);
                }
            });
        };
        let out: &mut [f16] = &mut bytemuck::cast_slice_mut(out)[..n.next_multiple_of(2)];
        if n > TASK && n * self.cost() > 2 * SERIAL {
            out.par_chunks_mut(TASK).enumerate().for_each(task);
        } else {
            task((0, out));
        }
    }

    /// Fills `out`, the part of the index space from `start` on.
    fn span(&self, sources: Sources<'_>, scalars: &[u32], start: usize, out: &mut [u32]) {
        let starts: SmallVec<[Option<isize>; 16]> = SmallVec::from_elem(Some(0), self.loads.len());
        self.with_registers(scalars, |registers| {
            for (b, block) in out.chunks_mut(BLOCK).enumerate() {
                let (at, n) = (start + b * BLOCK, block.len());
                let seen = self.load(sources, &self.readers, &starts, at, n, registers, block);
                let to_out = match (self.result, self.instructions.last()) {
                    (Operand::Register(r), Some(last)) => r == last.to,
                    _ => false,
                };
                let inner = self.instructions.len() - usize::from(to_out);
                self.execute(&self.instructions[..inner], sources, &seen, n, registers);
                if to_out {
                    let last = &self.instructions[inner];
                    let args = self.args(last, sources, &seen, n, registers);
                    last.block(block, &args);
                } else {
                    block.copy_from_slice(self.operand(self.result, sources, &seen, n, registers));
                }
            }
        });
    }

    /// The results at `n` (at most [`BLOCK`]) indices from `at` on, of the index space of `readers`; `starts` is added
    /// to each load's position, `None` reads zeros.
    #[allow(clippy::too_many_arguments)] // where, how many, of what
    pub fn get<'r>(
        &self,
        sources: &'r [Option<&'r [u32]>],
        readers: &[Reader],
        starts: &[Option<isize>],
        at: usize,
        n: usize,
        registers: &'r mut [Aligned],
    ) -> &'r [u32] {
        let seen = self.load(sources, readers, starts, at, n, registers, &[]);
        self.execute(&self.instructions, sources, &seen, n, registers);
        self.operand(self.result, sources, &seen, n, registers)
    }

    /// The same where the result is a load whose `n` (any number of) values lie side by side.
    pub fn direct<'s>(
        &self,
        sources: &[Option<&'s [u32]>],
        readers: &[Reader],
        starts: &[Option<isize>],
        at: usize,
        n: usize,
    ) -> Option<&'s [u32]> {
        let Operand::Load(l) = self.result else { return None };
        if self.loads[l].halves {
            return None;
        }
        let source = sources[self.loads[l].source?]?;
        let start = readers[l].side_by_side(starts[l]?, at, n)?;
        source.get(start..start + n)
    }

    /// Registers of this thread, with the scalars filled in.
    pub fn with_registers<T>(&self, scalars: &[u32], f: impl FnOnce(&mut [Aligned]) -> T) -> T {
        // A nested use (rayon may steal work while a task waits) takes fresh registers.
        let mut registers =
            REGISTERS.with(|r| r.try_borrow_mut().map(|mut r| std::mem::take(&mut *r)).unwrap_or_default());
        while registers.len() < self.n_registers.max(1) {
            let mut register = Aligned::default();
            register.grow(BLOCK);
            registers.push(register);
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

    /// Fills the registers of loads whose values do not lie side by side.
    #[allow(clippy::too_many_arguments)] // as `get`, and what the block holds, for updates in place
    fn load(
        &self,
        sources: Sources<'_>,
        readers: &[Reader],
        starts: &[Option<isize>],
        at: usize,
        n: usize,
        registers: &mut [Aligned],
        out: &[u32],
    ) -> Seen {
        let mut seen = Seen::new();
        for ((load, reader), &start) in self.loads.iter().zip(readers).zip(starts) {
            let to = &mut registers[load.register][..n];
            let source = load.source.map(|s| sources[s]);
            seen.push(match (source, start) {
                // An update in place reads what the block holds.
                (Some(None), _) => {
                    to.copy_from_slice(&out[..n]);
                    None
                }
                (_, None) => {
                    to.fill(0);
                    None
                }
                (source, Some(start)) => {
                    let source = match source.flatten() {
                        None => Elements::Position,
                        Some(words) if load.halves => Elements::Halves(of_words(words)),
                        Some(words) => Elements::Words(words),
                    };
                    let found = match source {
                        Elements::Words(_) => reader.side_by_side(start, at, n),
                        _ => None,
                    };
                    if found.is_none() {
                        reader.fill(to, source, start, at);
                    }
                    found
                }
            });
        }
        seen
    }

    fn execute(
        &self,
        instructions: &[Instruction],
        sources: Sources<'_>,
        seen: &Seen,
        n: usize,
        registers: &mut [Aligned],
    ) {
        for ins in instructions {
            let mut to = std::mem::take(&mut registers[ins.to]);
            let args = self.args(ins, sources, seen, n, registers);
            ins.block(&mut to[..n], &args);
            registers[ins.to] = to;
        }
    }

    fn args<'x>(
        &self,
        ins: &Instruction,
        sources: Sources<'x>,
        seen: &Seen,
        n: usize,
        registers: &'x [Aligned],
    ) -> [&'x [u32]; 4] {
        let mut args: [&[u32]; 4] = [&[]; 4];
        for (slot, &a) in args.iter_mut().zip(&ins.args) {
            *slot = self.operand(a, sources, seen, n, registers);
        }
        args
    }

    fn operand<'x>(
        &self,
        o: Operand,
        sources: Sources<'x>,
        seen: &Seen,
        n: usize,
        registers: &'x [Aligned],
    ) -> &'x [u32] {
        match o {
            Operand::Register(r) => &registers[r][..n],
            Operand::Load(l) => match (seen[l], self.loads[l].source.and_then(|s| sources[s])) {
                (Some(start), Some(source)) => &source[start..start + n],
                _ => &registers[self.loads[l].register][..n],
            },
        }
    }
}

impl Reader {
    /// The reader over some axes of an index space alone.
    pub fn over(&self, axes: &[usize]) -> Reader {
        let l = self.layout();
        Reader::new(Layout { offset: l.offset, axes: axes.iter().map(|&d| l.axes[d]).collect() })
    }
}
