//! A fused element-wise group: one thread an element, or four where words lie side by side.

use crate::device::Caps;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plan::MapStep;
use crate::plan::layout::{Layout, collapse};

use super::index::Space;
use super::{THREADS, Writer, functions, loads, quads, result};
use crate::engine::gpu::launch::{Dispatch, Memory, Word};

/// The dispatch of a group; `None` if it has no elements.
pub(in crate::engine::gpu) fn map(
    step: &MapStep,
    memory: Memory<'_>,
    label: &str,
    caps: &Caps,
) -> Result<Option<Dispatch>> {
    let n: usize = step.dims.iter().product();
    if n == 0 {
        return Ok(None);
    }
    let program = &step.program;
    let mut loads = loads(program);
    let mut layouts: Vec<&mut Layout> = loads.iter_mut().map(|(.., l)| l).collect();
    let (dims, _) = collapse(&step.dims, &vec![false; step.dims.len()], &mut layouts);

    if let Some(dispatch) = quads::map(step, memory, label, (&loads, &dims), caps)? {
        return Ok(Some(dispatch));
    }

    // Halves are written two at a time: a thread has a word.
    let halves = step.outs.iter().any(|&out| memory.plan.values[out].spec.dtype == DType::F16);
    let threads = if halves { n.div_ceil(2) } else { n };
    let mut w = Writer::default();
    let count = w.param("n", "u32", Word::size(n)?);
    if !halves {
        w.line("let i = (wid.y * nwg.x + wid.x) * 256u + thread;");
        w.line(format!("if (i >= {count}) {{ return; }}"));
    }

    // All loads come before the first store: an output may lie where an input was.
    let space = Space { linear: "i", axes: dims.iter().copied().enumerate().collect() };
    w.read(&mut loads, &space, &|id| memory.value(id))?;
    w.compute_all(program)?;
    let mut value = String::new();
    if halves {
        let [_] = step.outs[..] else { return Err(Error::internal("codegen", "halves beside another result")) };
        let (term, _) = result(program, 0)?;
        w.line(format!("return t{term};"));
        value = format!("fn value(i: u32) -> f32 {{\n{}}}\n\n", std::mem::take(&mut w.body));
        functions::declare_halves(&mut w.functions);
        w.line("let word = (wid.y * nwg.x + wid.x) * 256u + thread;");
        w.line("let i = 2u * word;");
        w.line(format!("if (i >= {count}) {{ return; }}"));
        w.line("var both = to_half(value(i));");
        w.line(format!("if (i + 1u < {count}) {{ both |= to_half(value(i + 1u)) << 16u; }}"));
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
        let (at, value) = if halves { ("word", "both".to_owned()) } else { ("i", format!("t{term}")) };
        let store = Writer::store(&array, &format!("{offset} + {at}"), &value, dtype.wgsl());
        w.line(store);
    }
    let comment = match halves {
        true => "A fused element-wise group: one thread for two halves.",
        false => "A fused element-wise group: one thread an element.",
    };
    let (source, words, ranges) = w.finish(comment, &value);
    let label = label.to_owned();
    Ok(Some(Dispatch {
        source: source.into(),
        label,
        words,
        ranges,
        workgroups: threads.div_ceil(THREADS),
        by_rows: None,
    }))
}
