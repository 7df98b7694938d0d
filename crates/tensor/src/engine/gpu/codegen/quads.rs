//! Words that lie side by side, read and written four at a time: a fused element-wise group with four elements a thread,
//! and what a reduction needs to do the same.
//!
//! It takes groups whose innermost axis, after neighbors were merged, is a multiple of four, and whose loads run along it
//! word by word or stand still. Every other group has the general form.

use crate::device::Caps;
use crate::dtype::DType;
use crate::error::Result;
use crate::plan::layout::Layout;
use crate::plan::{MapStep, Program, Source};

use super::index::Space;
use super::{Array, Loads, Locate, THREADS, Writer, result, results};
use crate::engine::gpu::launch::{Dispatch, Memory, Range, Word};

/// Elements of a thread.
pub(super) const FOUR: usize = 4;

/// Fours of a thread on a device that runs shaders on the host's processor, where each thread costs much.
pub(super) const MANY: usize = 4;

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

    /// Opens a loop over so many fours that lie side by side (none for one), and writes the reads of each; `reads` come with
    /// the position of the first. What stands still is read once.
    pub fn run<'a>(w: &mut Writer, reads: impl Iterator<Item = (&'a Read, String)>, fours: usize) -> Run {
        let (still, moving): (Vec<_>, Vec<_>) = reads.partition(|(read, _)| fours > 1 && !read.way.fours);
        still.iter().for_each(|(read, at)| read.write(w, at));
        let run = match fours {
            1 => Run { depth: 0, shift: "" },
            _ => Run { depth: 1, shift: " + run" },
        };
        if run.depth > 0 {
            w.open(format!("for (var run = 0u; run < {}u; run += {FOUR}u) {{", FOUR * fours));
        }
        moving.iter().for_each(|(read, at)| read.write(w, &format!("{at}{}", run.shift)));
        run
    }

    /// Writes the read at a position.
    fn write(&self, w: &mut Writer, at: &str) {
        let Way { term, fours, ty } = &self.way;
        let at = if *fours { format!("({at}) / {FOUR}u") } else { at.to_owned() };
        w.line(format!("let v{term} = {};", Writer::element(&self.array, &at, ty)));
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

/// Fours that lie side by side, inside a loop over them if there is more than one.
pub(super) struct Run {
    /// Blocks that were opened.
    pub depth: usize,
    /// What a position adds.
    pub shift: &'static str,
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

/// Binds what the loads of a group read, if `by_words` are bound word by word; `None`, and nothing changed, if they do not go in
/// fours.
pub(super) fn reads(
    w: &mut Writer,
    loads: &mut Loads,
    by_words: &[Range],
    locate: Locate<'_>,
) -> Result<Option<Vec<Read>>> {
    let Some((bound, reads)) = Bound(by_words.iter().map(|&range| (range, false)).collect()).reads(w, loads, locate)?
    else {
        return Ok(None);
    };
    *loads = bound;
    Ok(Some(reads))
}

/// The dispatch of a group; `None` if it has to have the general form. `dims` are the merged axes, `loads` its own.
pub(super) fn map(
    step: &MapStep,
    memory: Memory<'_>,
    label: &str,
    (loads, dims): (&Loads, &[usize]),
    caps: &Caps,
) -> Result<Option<Dispatch>> {
    let n: usize = step.dims.iter().product();
    if dims.last().is_none_or(|last| last % FOUR != 0) {
        return Ok(None);
    }
    let mut w = Writer { pairs: caps.software, ..Writer::default() };
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
    let fours = if caps.software { MANY } else { 1 };
    let each = FOUR * THREADS * fours;
    // Where a thread's elements lie in one run of the innermost axis, it finds their place once.
    let in_a_run = dims.last().is_some_and(|last| last % (FOUR * fours) == 0);
    let first = format!("((wid.y * nwg.x + wid.x) * 256u + thread) * {}u", FOUR * fours);
    match in_a_run {
        true => w.line(format!("let i = {first};")),
        false => {
            w.open(format!("for (var k = 0u; k < {fours}u; k++) {{"));
            w.line(format!("let i = {first} + k * {FOUR}u;"));
        }
    }
    let guarded = !n.is_multiple_of(each) || n / each > ONE_AXIS;
    if guarded {
        w.open(format!("if (i < {count}) {{"));
    }
    let space = Space { linear: "i", axes: dims.iter().copied().enumerate().collect() };
    let walking: Vec<(usize, &Layout)> = loads.iter().map(|(term, .., layout)| (*term, layout)).collect();
    let positions = w.positions(&space, &walking)?;
    let at: Vec<String> = loads
        .iter()
        .zip(positions)
        .map(|((term, .., layout), position)| {
            let mut addends = vec![w.param(format!("offset{term}"), "u32", Word::signed(layout.offset))];
            addends.extend(position.addends);
            addends.join(" + ")
        })
        .collect();
    let run = Read::run(&mut w, reads.iter().zip(at), if in_a_run { fours } else { 1 });
    Read::elements(&mut w, &reads);
    for (r, (ty, array, offset)) in writes.iter().enumerate() {
        let value = format!("{ty}(e0.r{r}, e1.r{r}, e2.r{r}, e3.r{r})");
        let store = Writer::store(array, &format!("({offset} + i{}) / {FOUR}u", run.shift), &value, ty);
        w.line(store);
    }
    (0..run.depth + usize::from(guarded) + usize::from(!in_a_run)).for_each(|_| w.close());
    let comment = format!("A fused element-wise group: {} elements a thread.", FOUR * fours);
    let (source, words, ranges) = w.finish(&comment, &element);
    let (label, workgroups) = (label.to_owned(), n.div_ceil(each));
    Ok(Some(Dispatch { source: source.into(), label, words, ranges, workgroups, by_rows: None }))
}

/// The function `element` of one element, from what it reads to its results.
pub(super) fn function(w: &mut Writer, program: &Program, loads: &Loads) -> Result<String> {
    let main = std::mem::take(&mut w.body);
    w.compute_all(program)?;
    let body = std::mem::replace(&mut w.body, main);
    let (declared, value) = results("Results", program)?;
    let parameters: Vec<String> =
        loads.iter().map(|(term, _, dtype, _)| format!("t{term}: {}", dtype.wgsl())).collect();
    let parameters = parameters.join(", ");
    Ok(format!("{declared}fn element({parameters}) -> Results {{\n{body}    return {value};\n}}\n\n"))
}
