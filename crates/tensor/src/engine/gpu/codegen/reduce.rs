//! A reduction with its fused prologue.
//!
//! A workgroup of 256 threads serves 256 / lanes outputs: the lanes of an output walk over its elements in turn, then
//! their results are combined by a tree. Where the innermost axis is reduced, the lanes of an output are neighbors;
//! where it is kept, the outputs are, so that neighbors in a workgroup read neighbors in memory either way. Long
//! reductions of few outputs are cut into chunks, whose results a second dispatch combines.
//!
//! Where shaders run on the host's processor ([`Caps::software`]) an output of neighbors has the eight lanes of a subgroup,
//! which needs no barrier, and one of outputs side by side has one lane.
//!
//! Where the device has subgroup operations and a workgroup has one output, subgroups combine their lanes first and the
//! first thread their parts, in place of the tree. Which lanes are in which subgroup does not matter, nor how many.
//!
//! Order is fixed by the sizes and the device alone: the same inputs give the same bits. A lane folds blocks of 16 and
//! then the blocks, so that a sum of n terms has at most 16 + n / (16·lanes·chunks) + log₂ lanes roundings in a row (and
//! those of the second dispatch), each within eps · Σ|x|: for 10⁶ terms about 40, where a serial sum has 10⁶. With
//! subgroups of s lanes log₂ lanes becomes s + lanes / s at most, because a driver may add a subgroup's lanes one by one.
//! Where elements lie side by side a lane takes four at a time and adds them in pairs first, which makes it no deeper.
//! Maximum and minimum are NaN if any element is.
//!
//! Several results (reductions over the same elements that were put together) are made side by side, each as it would be alone.
//! What was fused into the results is computed by the thread that stores them.

use crate::core_op::{combine, identity};
use crate::device::Caps;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::Reduction;
use crate::plan::layout::{Layout, collapse};
use crate::plan::{Finish, Program, ReduceStep, Source, Term};

use super::index::{Position, Space};
use super::quads::{self, FOUR, MANY};
use super::{Locate, THREADS, Writer, loads, result};
use crate::engine::gpu::launch::{Dispatch, Memory, Range, Word};

/// Lanes of an output on a device that runs shaders on the host's processor: one subgroup, which needs no barrier.
pub(super) const SUBGROUP: usize = 8;
/// Terms that a lane folds in a row.
const BLOCK: usize = 16;
/// Terms of a lane beyond which a reduction may be cut into chunks.
const LONG: usize = 64;
/// With so many workgroups the device is busy without chunks.
const BUSY: usize = 1024;
/// Most chunks of an output.
const MAX_CHUNKS: usize = 1 << 16;

/// Bytes of scratch slot 0 that a reduction needs.
pub(in crate::engine::gpu) type Scratch = usize;

/// How the work is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// Threads of an output: a power of four, or a subgroup.
    pub lanes: usize,
    /// Whether the lanes of an output are neighbors, rather than the outputs.
    pub lanes_inner: bool,
    /// Elements of a chunk, and chunks.
    pub chunk: usize,
    pub n_chunks: usize,
}

fn divide(n_out: usize, n_red: usize, innermost_reduced: bool, software: bool) -> Division {
    let lanes = match (innermost_reduced, n_red) {
        (true, 9..) if software => SUBGROUP,
        (false, _) if software && n_out >= 2 * SUBGROUP => 1,
        (true, ..=8) | (false, ..=64) => 1,
        (true, ..=256) | (false, _) => 16,
        // Fewer lanes mean fewer barriers for each output, if there are outputs enough.
        (true, ..=4096) if n_out >= BUSY => 64,
        (true, _) => THREADS,
    };
    let workgroups = n_out.div_ceil(THREADS / lanes);
    let mut division = Division { lanes, lanes_inner: innermost_reduced, chunk: n_red, n_chunks: 1 };
    let long = lanes * if software { 4 * LONG } else { LONG };
    if n_red > long && (software || workgroups < BUSY) {
        division.chunk = long.max(n_red.div_ceil(MAX_CHUNKS));
        division.n_chunks = n_red.div_ceil(division.chunk);
    }
    division
}

/// The dispatches of a reduction (none if it has no output) and the scratch they use.
pub(in crate::engine::gpu) fn reduce(
    step: &ReduceStep,
    memory: Memory<'_>,
    label: &str,
    caps: &Caps,
) -> Result<(Vec<Dispatch>, Scratch)> {
    let size = |reduced: bool| -> usize {
        step.dims.iter().zip(&step.reduced).filter(|(_, r)| **r == reduced).map(|(n, _)| n).product()
    };
    let (n_out, n_red) = (size(false), size(true));
    if n_out == 0 {
        return Ok((Vec::new(), 0));
    }
    let mut outs = Vec::with_capacity(step.outs.len());
    for &out in &step.outs {
        let elements = memory.plan.values[out].spec.numel();
        if elements != n_out {
            return Err(Error::internal("codegen", format!("value {out} has {elements} elements, not {n_out}")));
        }
        outs.push(memory.value(out)?);
    }
    let innermost = step.dims.iter().zip(&step.reduced).rev().find(|(n, _)| **n != 1).is_none_or(|(_, r)| *r);
    let kind = step.kind;
    let eight = caps.software && caps.subgroups && kind != Reduction::Prod;
    let division = divide(n_out, n_red, innermost, eight);
    let (program, finish) = (&step.program, None);
    let group = Group { dims: &step.dims, reduced: &step.reduced, kind, program, finish, label, caps };
    let locate = |id| memory.value(id);
    let after = step.finish.as_ref().map(|finish| (finish, &locate as Locate<'_>));
    if division.n_chunks == 1 {
        let group = Group { finish: after, ..group };
        return Ok((vec![group.write(n_out, n_red, division, &outs, &locate)?], 0));
    }
    // The chunks' results lie as [results, n_out, n_chunks].
    let n_results = step.program.results.len();
    let each = n_out * division.n_chunks;
    let bytes = DType::F32.bytes(n_results * each);
    let partial = Range::scratch(0, bytes);
    let parts: Vec<(Range, usize)> = (0..n_results).map(|r| (partial, r * each)).collect();
    let first = group.write(n_out, n_red, division, &parts, &locate)?;
    // Another dispatch combines them: value r is that of result r.
    let dims = [n_out, division.n_chunks];
    let whole = Division { chunk: dims[1], n_chunks: 1, ..divide(n_out, dims[1], true, eight) };
    let load = |r| {
        let (_, dtype) = result(&step.program, r)?;
        Ok(Term::Load { source: Source::Value(r), dtype, layout: Layout::contiguous(&dims) })
    };
    let terms = (0..n_results).map(load).collect::<Result<Vec<_>>>()?;
    let program = &Program { terms, results: (0..n_results).collect() };
    let rest = Group { dims: &dims, reduced: &[false, true], kind, program, finish: after, label, caps };
    let rest = rest.write(n_out, dims[1], whole, &outs, &|r| Ok(parts[r]))?;
    Ok((vec![first, rest], bytes))
}

/// A reduction being written.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    dims: &'a [usize],
    reduced: &'a [bool],
    pub kind: Reduction,
    pub program: &'a Program,
    /// What is fused into the results, and where its values are.
    pub finish: Option<(&'a Finish, Locate<'a>)>,
    label: &'a str,
    pub caps: &'a Caps,
}

impl Group<'_> {
    fn write(
        &self,
        n_out: usize,
        n_red: usize,
        by: Division,
        outs: &[(Range, usize)],
        locate: Locate<'_>,
    ) -> Result<Dispatch> {
        let mut loads = loads(self.program);
        let mut layouts: Vec<&mut Layout> = loads.iter_mut().map(|(.., l)| l).collect();
        let (dims, reduced) = collapse(self.dims, self.reduced, &mut layouts);
        let n_results = self.program.results.len();
        let results = (0..n_results).map(|r| result(self.program, r)).collect::<Result<Vec<_>>>()?;
        // All of one dtype.
        let dtype = results.first().map_or(DType::F32, |r| r.1);
        let subgroups = by.lanes == SUBGROUP;
        let mut w = Writer { pairs: self.caps.software, subgroups, ..Writer::default() };
        w.param("n_out", "u32", Word::size(n_out)?);
        w.param("n_red", "u32", Word::size(n_red)?);
        w.param("chunk", "u32", Word::size(by.chunk)?);
        w.param("n_chunks", "u32", Word::size(by.n_chunks)?);
        let (real, word) = identity::<f32>(self.kind, dtype);
        let start = if dtype == DType::F32 { real.to_bits() } else { word };
        w.param("identity", dtype.wgsl(), Word::Fixed(start));
        let f = w.function(combine(self.kind), dtype, &[dtype, dtype], dtype);
        let along = by.lanes_inner && reduced.last() == Some(&true);
        // As many fours in a row as lie in one run of the innermost axis.
        let run = |n: usize| dims.last().is_some_and(|last| last % n == 0) && by.chunk.is_multiple_of(n);
        let many = if self.caps.software && run(FOUR * MANY) { MANY } else { 1 };
        let fours = match along && run(FOUR) {
            true => quads::reads(&mut w, &mut loads, &self.by_words(outs)?, locate)?,
            false => None,
        };
        let mut declarations = match &fours {
            Some(_) => quads::function(&mut w, self.program, &loads)?,
            None => String::new(),
        };
        self.find_output(&mut w, by);

        let mut arrays = Vec::with_capacity(loads.len());
        for (_, source, dtype, layout) in loads.iter_mut().filter(|_| fours.is_none()) {
            arrays.push(w.source(*source, *dtype, layout, locate)?);
        }
        let axes = |flag: bool| (0..dims.len()).filter(|&d| reduced[d] == flag).map(|d| (d, dims[d])).collect();
        let walking: Vec<(usize, &Layout)> = loads.iter().map(|(t, _, _, l)| (*t, l)).collect();
        // What depends on the output alone is found once.
        let outer = w.positions(&Space { linear: "o", axes: axes(false) }, &walking)?;
        for ((term, layout), position) in walking.iter().zip(&outer) {
            let mut addends = vec![w.param(format!("offset{term}"), "u32", Word::signed(layout.offset))];
            addends.extend(position.addends.iter().cloned());
            w.line(format!("let base{term} = {};", addends.join(" + ")));
            if !position.conditions.is_empty() {
                w.line(format!("let inside{term} = {};", position.inside()));
            }
        }
        let lanes = by.lanes;
        let each = if fours.is_some() { FOUR * many } else { 1 };
        (0..n_results).for_each(|r| w.line(format!("var total{r} = p.identity;")));
        w.line(format!("var r = first + lane * {each}u;"));
        w.open("while (r < end) {");
        (0..n_results).for_each(|r| w.line(format!("var block{r} = p.identity;")));
        w.open(format!("for (var k = 0u; k < {}u && r < end; k++) {{", BLOCK / many));
        let inner = w.positions(&Space { linear: "r", axes: axes(true) }, &walking)?;
        let reads = fours.iter().flatten().zip(&inner).map(|(read, inner)| {
            let addends: Vec<String> = [read.base()].into_iter().chain(inner.addends.iter().cloned()).collect();
            (read, addends.join(" + "))
        });
        let run = quads::Read::run(&mut w, reads, if fours.is_some() { many } else { 1 });
        for (((&(term, _, dtype, _), array), outer), inner) in loads.iter().zip(&arrays).zip(&outer).zip(&inner) {
            let mut at = Position { addends: vec![format!("base{term}")], conditions: Vec::new() };
            if !outer.conditions.is_empty() {
                at.conditions.push(format!("inside{term}"));
            }
            at.addends.extend(inner.addends.iter().cloned());
            at.conditions.extend(inner.conditions.iter().cloned());
            w.load(term, array.as_ref(), dtype, &at.sum(), &at.inside());
        }
        match &fours {
            Some(reads) => {
                quads::Read::elements(&mut w, reads);
                // The last four may be cut where rows are left out.
                for i in 0..n_results {
                    let part = |j: usize| format!("select(p.identity, e{j}.r{i}, r{} + {j}u < end)", run.shift);
                    let low = format!("{f}({}, {})", if many > 1 { part(0) } else { format!("e0.r{i}") }, part(1));
                    w.line(format!("block{i} = {f}(block{i}, {f}({low}, {f}({}, {})));", part(2), part(3)));
                }
                (0..run.depth).for_each(|_| w.close());
            }
            None => {
                w.compute_all(self.program)?;
                for (i, (term, _)) in results.iter().enumerate() {
                    w.line(format!("block{i} = {f}(block{i}, t{term});"));
                }
            }
        }
        w.line(format!("r += {}u;", lanes * each));
        w.close();
        (0..n_results).for_each(|r| w.line(format!("total{r} = {f}(total{r}, block{r});")));
        w.close();
        declarations.push_str(&self.store(&mut w, by, dtype, outs, &f)?);
        let comment = match (lanes, by.lanes_inner) {
            (1, _) => "A fused reduction: one thread an output.".to_owned(),
            (_, true) => format!("A fused reduction: {lanes} neighboring threads an output."),
            (_, false) => {
                format!("A fused reduction: {lanes} threads an output, {} outputs side by side.", THREADS / lanes)
            }
        };
        let (source, words, ranges) = w.finish(&comment, &declarations);
        let workgroups = (n_out * by.n_chunks).div_ceil(THREADS / lanes);
        Ok(Dispatch { source: source.into(), label: self.label.to_owned(), words, ranges, workgroups, by_rows: None })
    }

    /// Writes which output and which part of its elements a thread has.
    fn find_output(&self, w: &mut Writer, by: Division) {
        let (lanes, outputs) = (by.lanes, THREADS / by.lanes);
        w.line("let group = wid.y * nwg.x + wid.x;");
        let (lane, local) = match (lanes, by.lanes_inner) {
            (1, _) => ("0u".to_owned(), " + thread".to_owned()),
            (SUBGROUP, _) => ("in_subgroup".to_owned(), " + subgroup".to_owned()),
            (THREADS, _) => ("thread".to_owned(), String::new()),
            (_, true) => (format!("thread % {lanes}u"), format!(" + thread / {lanes}u")),
            (_, false) => (format!("thread / {outputs}u"), format!(" + thread % {outputs}u")),
        };
        w.line(format!("let lane = {lane};"));
        w.line(format!("let part = group * {outputs}u{local};"));
        w.line("let chunk = part / p.n_out;");
        w.line("let o = part - chunk * p.n_out;");
        w.line("let live = chunk < p.n_chunks;");
        w.line("let first = chunk * p.chunk;");
        // Threads beyond the last output read nothing but stay for the barriers.
        w.line("let end = select(first, min(first + p.chunk, p.n_red), live);");
    }

    /// The ranges that are bound word by word: those of the stores, and what is read for them.
    fn by_words(&self, outs: &[(Range, usize)]) -> Result<Vec<Range>> {
        let mut ranges: Vec<Range> = outs.iter().map(|out| out.0).collect();
        if let Some((finish, locate)) = self.finish {
            for (_, source, ..) in loads(&finish.program) {
                let Source::Value(id) = source else { continue };
                ranges.push(locate(id)?.0);
            }
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_every_element_has_one_chunk_and_lane() {
        for (innermost, software) in [(true, false), (false, false), (true, true), (false, true)] {
            for n_out in [1, 3, 1000, 100_000] {
                for n_red in [0, 1, 8, 9, 64, 65, 256, 257, 1000, 16384, 16385, 1 << 20, 1 << 28] {
                    let d = divide(n_out, n_red, innermost, software);
                    assert!(d.chunk * d.n_chunks >= n_red && (d.n_chunks == 1 || d.chunk * (d.n_chunks - 1) < n_red));
                    assert!(
                        [1, SUBGROUP, 16, 64, 256].contains(&d.lanes) && d.n_chunks <= MAX_CHUNKS,
                        "lanes are powers of four, or a subgroup"
                    );
                }
            }
        }
        assert_eq!(divide(1, 1 << 20, true, false).n_chunks, 64);
    }
}
