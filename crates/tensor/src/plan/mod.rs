//! A plan: launches with a memory map. Built once for a graph's structure, replayed for any values.
//!
//! Every value that gets memory is contiguous, row-major, at a multiple of [`ALIGNMENT`] bytes (aliases of parts of an
//! input may lie at any multiple of 4 bytes on engines without an alignment of bindings, and pieces of an assembled value that no
//! op touches on any).

pub(crate) mod cache;
pub(crate) mod finish;
pub(crate) mod fuse;
pub(crate) mod graph;
pub(crate) mod layout; // positions of elements
pub(crate) mod memory;
pub(crate) mod order;
pub(crate) mod rows;
pub(crate) mod simplify;
pub(crate) mod together;
pub(crate) mod usage;

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::dtype::DType;
use crate::expr::Func;
use crate::op::{Op, Reduction};
use crate::shape::Spec;

pub(crate) use layout::Layout;

/// Alignment of every value in an arena, in bytes: the largest that WebGPU may ask of a binding's offset.
pub const ALIGNMENT: usize = 256;

/// Index of a value in [`Plan::values`].
pub(crate) type ValueId = usize;

/// Where a value's memory belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Root {
    /// A plan input.
    Input(usize),
    /// A plan output.
    Output(usize),
    /// An arena of intermediates, taken from the pool for a run.
    Arena(usize),
}

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub root: Root,
    /// Bytes from the start of the root.
    pub offset: usize,
}

/// A value with memory.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub spec: Spec,
    pub place: Place,
}

/// What a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An element of a value: the one at the layout's position.
    Value(ValueId),
    /// The layout's position itself, as u32 (this is `iota`).
    Position,
    /// In a [`Finish`]: what the step itself made at this index, by its number.
    Made(usize),
}

/// One term of a program, in single-assignment order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "loads are the most frequent terms, and a program has few")]
pub(crate) enum Term {
    /// A read at the current index.
    Load { source: Source, dtype: DType, layout: Layout },
    /// A host scalar: [`Run::scalars`](crate::engine::Run) at this index.
    Scalar { index: usize, dtype: DType },
    /// A function of earlier terms. `dtype` is the dtype of the last argument, `out` that of the result.
    Apply { func: Func, dtype: DType, out: DType, args: Vec<usize> },
}

impl Term {
    /// The dtype of the term's value.
    pub fn dtype(&self) -> DType {
        match self {
            Term::Load { dtype, .. } | Term::Scalar { dtype, .. } => *dtype,
            Term::Apply { out, .. } => *out,
        }
    }
}

/// An expression over an index space: what a fused group computes for each index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Program {
    pub terms: Vec<Term>,
    /// The terms that are results.
    pub results: Vec<usize>,
}

/// An element-wise group over the results of a step, computed where they are stored: for each index `i` of `dims`, row-major,
/// the step's `outs[r][i] = results[r]`, and what it made itself is [`Source::Made`].
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    pub dims: Vec<usize>,
    pub program: Program,
}

/// A fused element-wise group: `outs[r][i] = results[r]` at each index `i` of `dims`, row-major.
#[derive(Clone, Debug)]
pub(crate) struct MapStep {
    pub dims: Vec<usize>,
    pub program: Program,
    pub outs: Vec<ValueId>,
}

/// Reductions with what is fused into them: result `r` combines `results[r]`, and `outs` are the results or what `finish` makes
/// of them. The index space is `dims`; axes with `reduced` are combined, the others index the outputs, row-major. On the CPU
/// engine there is one, as it is.
#[derive(Clone, Debug)]
pub(crate) struct ReduceStep {
    pub dims: Vec<usize>,
    pub reduced: Vec<bool>,
    pub kind: Reduction,
    pub program: Program,
    pub finish: Option<Finish>,
    pub outs: Vec<ValueId>,
}

/// An op of its own kernel. For each `(i, o)` of `op.in_place()`, `ins[i]` and `outs[o]` are at the same place. With a `finish`
/// (never on the CPU engine) its only output is what that makes of the op's.
#[derive(Clone, Debug)]
pub(crate) struct OpStep {
    pub op: Arc<dyn Op>,
    pub ins: Vec<ValueId>,
    pub finish: Option<Finish>,
    pub outs: Vec<ValueId>,
    pub in_specs: Vec<Spec>,
    pub out_specs: Vec<Spec>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A fused group.
    Map(MapStep),
    /// A fused reduction.
    Reduce(ReduceStep),
    /// An op.
    Op(OpStep),
    /// Copies the bytes of `from` to those of `to`, `offset` bytes into it.
    Copy { from: ValueId, to: ValueId, offset: usize },
    /// Fills a range of bytes (offset, length) of a value with zeros.
    Zero { to: ValueId, offset: usize, bytes: usize },
}

/// A step that does its work for the first rows only: as many as `count` (one u32) says when the plan runs, at most `of`.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub count: ValueId,
    pub of: usize,
    pub scope: Scope,
}

/// What a row is.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Of what a group or reduction writes: an equal part of the first axis of its index space that is not 1.
    Space,
    /// Of what a reduction combines: as above.
    Reduced,
    /// Of an op: along these axes of these inputs, and along this axis of every output (`None`: outputs have no rows).
    Op { inputs: SmallVec<[(usize, usize); 2]>, output: Option<usize> },
}

impl Scope {
    /// Whether what the step writes has rows, so that some of it is left out.
    pub fn has_rows(&self) -> bool {
        !matches!(self, Scope::Reduced | Scope::Op { output: None, .. })
    }
}

/// One step and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub action: Action,
    /// It leaves out rows.
    pub live: Option<Live>,
    /// Names of the ops in it, for labels and errors.
    pub label: String,
    /// Where the user recorded it.
    pub at: &'static std::panic::Location<'static>,
}

/// A plan.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Specs of the inputs (the graph's leaves), in the order of the graph.
    pub inputs: Vec<Spec>,
    /// Number of host scalars.
    pub n_scalars: usize,
    pub values: Vec<Value>,
    pub steps: Vec<Step>,
    /// Specs of the outputs.
    pub outputs: Vec<Spec>,
    /// For each output, the input whose buffer it takes over. Nothing refers to that input's root: its values are at
    /// the output's.
    pub donated: Vec<Option<usize>>,
    /// Bytes of each arena; none is above the device's largest binding.
    pub arenas: Vec<usize>,
    /// Donations that the caller offered, the graph could have used, and the last reader prevented.
    pub copies: u64,
}

impl Plan {
    /// Bytes that a step reads and writes, each value once, and its multiplications and additions.
    pub fn cost(&self, step: &Step) -> (u64, u64) {
        let (reads, writes) = memory::touched(&step.action);
        let bytes = reads.iter().chain(&writes).map(|&v| self.values[v].spec.bytes() as u64).sum();
        let of = |dims: &[usize], program: &Program| {
            let cost = |t: &Term| if let Term::Apply { func, .. } = t { u64::from(func.cost()) } else { 0 };
            dims.iter().product::<usize>() as u64 * program.terms.iter().map(cost).sum::<u64>()
        };
        let after = |finish: &Option<Finish>| finish.as_ref().map_or(0, |f| of(&f.dims, &f.program));
        let flop = match &step.action {
            Action::Map(m) => of(&m.dims, &m.program),
            Action::Reduce(r) => {
                let combined = r.program.results.len() * r.dims.iter().product::<usize>();
                of(&r.dims, &r.program) + combined as u64 + after(&r.finish)
            }
            Action::Op(o) => o.op.flop(&o.in_specs, &o.out_specs) + after(&o.finish),
            Action::Copy { .. } | Action::Zero { .. } => 0,
        };
        (bytes, flop)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            let rows = if step.live.is_some() { " (live rows)" } else { "" };
            writeln!(f, "{i:4}  {}{rows}", step.label)?;
        }
        write!(f, "arenas: {:?} bytes", self.arenas)
    }
}
