//! A fused element-wise group: one thread an element, or four where words lie side by side.

use crate::error::{Error, Result};
use crate::plan::layout::{Layout, collapse};
use crate::plan::{MapStep, Term};

use super::index::Space;
use super::{THREADS, Writer, loads, quads, result};
use crate::engine::gpu::launch::{Dispatch, Memory, Word};

/// The dispatch of a group; `None` if it has no elements.
pub(in crate::engine::gpu) fn map(step: &MapStep, memory: Memory<'_>, label: &str) -> Result<Option<Dispatch>> {
    let n: usize = step.dims.iter().product();
    if n == 0 {
        return Ok(None);
    }
    let program = &step.program;
    let mut loads = loads(program);
    let mut layouts: Vec<&mut Layout> = loads.iter_mut().map(|(.., l)| l).collect();
    let (dims, _) = collapse(&step.dims, &vec![false; step.dims.len()], &mut layouts);

    if let Some(dispatch) = quads::map(step, memory, label, &mut loads.clone(), &dims)? {
        return Ok(Some(dispatch));
    }

    let mut w = Writer::default();
    let count = w.param("n", "u32", Word::size(n)?);
    w.line("let i = (wid.y * nwg.x + wid.x) * 256u + thread;");
    w.line(format!("if (i >= {count}) {{ return; }}"));

    let mut arrays = Vec::with_capacity(loads.len());
    for (_, source, dtype, layout) in &mut loads {
        arrays.push(w.source(*source, *dtype, layout, &|id| memory.value(id))?);
    }
    let space = Space { linear: "i", axes: dims.iter().copied().enumerate().collect() };
    let walking: Vec<(usize, &Layout)> = loads.iter().map(|(t, _, _, l)| (*t, l)).collect();
    let positions = w.positions(&space, &walking)?;
    // All loads come before the first store: an output may lie where an input was.
    for (((term, _, dtype, layout), array), position) in loads.iter().zip(&arrays).zip(&positions) {
        let offset = w.param(format!("offset{term}"), "u32", Word::signed(layout.offset));
        let at = if position.addends.is_empty() { offset } else { format!("{offset} + {}", position.sum()) };
        w.load(*term, array.as_ref(), *dtype, &at, &position.inside());
    }
    for (index, term) in program.terms.iter().enumerate() {
        if !matches!(term, Term::Load { .. }) {
            w.compute(program, index)?;
        }
    }
    for (r, &out) in step.outs.iter().enumerate() {
        let (term, dtype) = result(program, r)?;
        let (range, shift) = memory.value(out)?;
        let elements = memory.plan.values[out].spec.numel();
        if elements != n {
            return Err(Error::internal("codegen", format!("value {out} has {elements} elements, the group {n}")));
        }
        let array = w.bind(range, dtype.wgsl());
        let offset = w.param(format!("out{r}"), "u32", Word::size(shift)?);
        let store = Writer::store(&array, &format!("{offset} + i"), &format!("t{term}"), dtype.wgsl());
        w.line(store);
    }
    let (source, words, ranges) = w.finish("A fused element-wise group: one thread an element.", "");
    let label = label.to_owned();
    Ok(Some(Dispatch { source: source.into(), label, words, ranges, workgroups: n.div_ceil(THREADS), by_rows: None }))
}
