//! Words that lie side by side, read and written four at a time: a fused element-wise group with four elements a thread,
//! and what a reduction needs to do the same.
//!
//! It takes groups whose innermost axis, after neighbors were merged, is a multiple of four, and whose loads run along it
//! word by word or stand still. Every other group has the general form.

use crate::dtype::DType;
use crate::error::Result;
use crate::plan::layout::Layout;
use crate::plan::{MapStep, Program, Source, Term};

use super::index::Space;
use super::{Array, Loads, Locate, THREADS, Writer, result};
use crate::engine::gpu::launch::{Dispatch, Memory, Range, Word};

/// Elements of a thread.
pub(super) const FOUR: usize = 4;

/// Workgroups that every device takes along one axis, so that none of them is idle.
const ONE_AXIS: usize = 65535;

/// Whether a load reads four words (or one for all four); `None` if it does neither.
fn is_four(layout: &Layout) -> Option<bool> {
    let (last, rest) = layout.axes.split_last()?;
    if layout.is_guarded() {
        return None;
    }
    let aligned = |n: isize| n % FOUR as isize == 0;
    match last.stride {
        0 => Some(false),
        1 if aligned(layout.offset) && rest.iter().all(|a| aligned(a.stride)) => Some(true),
        _ => None,
    }
}

/// The type of four elements.
fn four(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("vec4<f32>"),
        DType::I32 => Some("vec4<i32>"),
        DType::U32 | DType::Bool => Some("vec4<u32>"),
        DType::F16 => None,
    }
}

/// How a load is read.
struct Way {
    term: usize,
    /// Four words side by side, or one for all four elements.
    fours: bool,
    ty: &'static str,
}

/// What a thread reads of a load: `v<term>`.
pub(super) struct Read {
    array: Array,
    way: Way,
}

impl Read {
    /// Where the part of a position stands that depends on the output alone.
    pub fn base(&self) -> String {
        format!("base{}", self.way.term)
    }

    /// Writes the read at a position.
    pub fn write(&self, w: &mut Writer, at: &str) {
        let (Way { term, fours, ty }, Array { name, stored }) = (&self.way, &self.array);
        let at = if *fours { format!("({at}) / {FOUR}u") } else { at.to_owned() };
        let value = if stored == ty { format!("{name}[{at}]") } else { format!("bitcast<{ty}>({name}[{at}])") };
        w.line(format!("let v{term} = {value};"));
    }

    /// Writes the results of the four elements, `e0` to `e3`.
    pub fn elements(w: &mut Writer, reads: &[Read]) {
        for (j, part) in ["x", "y", "z", "w"].iter().enumerate() {
            let of = |Way { term, fours, .. }: &Way| {
                format!("v{term}{}", if *fours { format!(".{part}") } else { String::new() })
            };
            let arguments: Vec<String> = reads.iter().map(|r| of(&r.way)).collect();
            w.line(format!("let e{j} = element({});", arguments.join(", ")));
        }
    }
}

/// Which ranges are bound as fours: a range that is must be so everywhere.
#[derive(Default)]
struct Bound(Vec<(Range, bool)>);

impl Bound {
    /// Whether a range can be bound so.
    fn agrees(&mut self, range: Range, fours: bool) -> bool {
        match self.0.iter().find(|(r, _)| *r == range) {
            Some(&(_, before)) => before == fours,
            None => {
                self.0.push((range, fours));
                true
            }
        }
    }

    /// Binds what the loads read; `None`, and nothing is bound, if one of them does not go in fours. Offsets of the loads that
    /// come back count from the binding.
    fn reads(&mut self, w: &mut Writer, loads: &Loads, locate: Locate<'_>) -> Result<Option<(Loads, Vec<Read>)>> {
        let mut loads = loads.clone();
        let mut ways = Vec::with_capacity(loads.len());
        for (term, source, dtype, layout) in &mut loads {
            let (&mut Source::Value(id), Some(four)) = (source, four(*dtype)) else { return Ok(None) };
            let (range, shift) = locate(id)?;
            layout.offset += shift as isize;
            let Some(fours) = is_four(layout).filter(|&fours| self.agrees(range, fours)) else { return Ok(None) };
            ways.push((range, Way { term: *term, fours, ty: if fours { four } else { dtype.wgsl() } }));
        }
        let reads = ways.into_iter().map(|(range, way)| Read { array: w.bind(range, way.ty), way }).collect();
        Ok(Some((loads, reads)))
    }
}

/// Binds what the loads of a group with another result read; `None`, and nothing changed, if they do not go in fours.
pub(super) fn reads(w: &mut Writer, loads: &mut Loads, out: Range, locate: Locate<'_>) -> Result<Option<Vec<Read>>> {
    let Some((bound, reads)) = Bound(vec![(out, false)]).reads(w, loads, locate)? else { return Ok(None) };
    *loads = bound;
    Ok(Some(reads))
}

/// The dispatch of a group; `None` if it has to have the general form. `dims` are the merged axes, `loads` its own.
pub(super) fn map(
    step: &MapStep,
    memory: Memory<'_>,
    label: &str,
    loads: &Loads,
    dims: &[usize],
) -> Result<Option<Dispatch>> {
    let n: usize = step.dims.iter().product();
    if dims.last().is_none_or(|last| last % FOUR != 0) {
        return Ok(None);
    }
    let mut w = Writer::default();
    let count = w.param("n", "u32", Word::size(n)?);

    let mut bound = Bound::default();
    let Some((loads, reads)) = bound.reads(&mut w, loads, &|id| memory.value(id))? else { return Ok(None) };
    let mut writes = Vec::with_capacity(step.outs.len());
    for (r, &out) in step.outs.iter().enumerate() {
        let (_, dtype) = result(&step.program, r)?;
        let (range, shift) = memory.value(out)?;
        let Some(ty) = four(dtype).filter(|_| shift % FOUR == 0 && memory.plan.values[out].spec.numel() == n) else {
            return Ok(None);
        };
        if !bound.agrees(range, true) {
            return Ok(None);
        }
        writes.push((ty, w.bind(range, ty), w.param(format!("out{r}"), "u32", Word::size(shift)?)));
    }

    let element = function(&mut w, &step.program, &loads)?;
    w.line(format!("let i = ((wid.y * nwg.x + wid.x) * 256u + thread) * {FOUR}u;"));
    let each = FOUR * THREADS;
    if !n.is_multiple_of(each) || n / each > ONE_AXIS {
        w.line(format!("if (i >= {count}) {{ return; }}"));
    }
    let space = Space { linear: "i", axes: dims.iter().copied().enumerate().collect() };
    let walking: Vec<(usize, &Layout)> = loads.iter().map(|(term, .., layout)| (*term, layout)).collect();
    let positions = w.positions(&space, &walking)?;
    for ((read, (.., layout)), position) in reads.iter().zip(loads.iter()).zip(&positions) {
        let mut at = w.param(format!("offset{}", read.way.term), "u32", Word::signed(layout.offset));
        if !position.addends.is_empty() {
            at = format!("{at} + {}", position.sum());
        }
        read.write(&mut w, &at);
    }
    Read::elements(&mut w, &reads);
    for (r, (ty, array, offset)) in writes.iter().enumerate() {
        let value = format!("{ty}(e0.r{r}, e1.r{r}, e2.r{r}, e3.r{r})");
        let store = Writer::store(array, &format!("({offset} + i) / {FOUR}u"), &value, ty);
        w.line(store);
    }
    let (source, words, ranges) = w.finish("A fused element-wise group: four elements a thread.", &element);
    let (label, workgroups) = (label.to_owned(), n.div_ceil(FOUR * THREADS));
    Ok(Some(Dispatch { source: source.into(), label, words, ranges, workgroups, by_rows: None }))
}

/// The function `element` of one element, from what it reads to its results.
pub(super) fn function(w: &mut Writer, program: &Program, loads: &Loads) -> Result<String> {
    let main = std::mem::take(&mut w.body);
    for (index, term) in program.terms.iter().enumerate() {
        if !matches!(term, Term::Load { .. }) {
            w.compute(program, index)?;
        }
    }
    let body = std::mem::replace(&mut w.body, main);
    let (mut fields, mut values) = (Vec::new(), Vec::new());
    for r in 0..program.results.len() {
        let (term, dtype) = result(program, r)?;
        fields.push(format!("r{r}: {}", dtype.wgsl()));
        values.push(format!("t{term}"));
    }
    let parameters: Vec<String> =
        loads.iter().map(|(term, _, dtype, _)| format!("t{term}: {}", dtype.wgsl())).collect();
    Ok(format!(
        "struct Results {{ {} }}\n\nfn element({}) -> Results {{\n{body}    return Results({});\n}}\n\n",
        fields.join(", "),
        parameters.join(", "),
        values.join(", ")
    ))
}
