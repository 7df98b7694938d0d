//! Copying and clearing words, as dispatches: so a plan needs only one compute pass.

use crate::error::Result;
use crate::plan::ValueId;

use super::{THREADS, Writer};
use crate::engine::gpu::launch::{Dispatch, Memory, Word};

fn finish(w: Writer, comment: &str, n: usize, label: &str) -> Dispatch {
    let (source, words, ranges) = w.finish(comment, "");
    Dispatch {
        source: source.into(),
        label: label.to_owned(),
        words,
        ranges,
        workgroups: n.div_ceil(THREADS),
        by_rows: None,
    }
}

fn begin(n: usize) -> Result<Writer> {
    let mut w = Writer::default();
    let count = w.param("n", "u32", Word::size(n)?);
    w.line("let i = (wid.y * nwg.x + wid.x) * 256u + thread;");
    w.line(format!("if (i >= {count}) {{ return; }}"));
    Ok(w)
}

/// Copies the words of `from` into those of `to`, `offset` bytes into it.
pub(in crate::engine::gpu) fn copy(
    from: ValueId,
    to: ValueId,
    offset: usize,
    memory: Memory<'_>,
    label: &str,
) -> Result<Option<Dispatch>> {
    let n = memory.plan.values.get(from).map_or(0, |v| v.spec.bytes() / 4);
    let ((source, first), (target, skip)) = (memory.value(from)?, memory.value(to)?);
    if n == 0 {
        return Ok(None);
    }
    let mut w = begin(n)?;
    let (source, target) = (w.bind(source, "u32"), w.bind(target, "u32"));
    let read = w.param("first_read", "u32", Word::size(first)?);
    let write = w.param("first_write", "u32", Word::size(skip + offset / 4)?);
    w.line(format!("{}[{write} + i] = {}[{read} + i];", target.name, source.name));
    Ok(Some(finish(w, "Copies words.", n, label)))
}

/// Fills `bytes` bytes of `to` with zeros, from `offset` on.
pub(in crate::engine::gpu) fn zero(
    to: ValueId,
    offset: usize,
    bytes: usize,
    memory: Memory<'_>,
    label: &str,
) -> Result<Option<Dispatch>> {
    let (target, skip) = memory.value(to)?;
    let n = bytes / 4;
    if n == 0 {
        return Ok(None);
    }
    let mut w = begin(n)?;
    let target = w.bind(target, "u32");
    let write = w.param("first_write", "u32", Word::size(skip + offset / 4)?);
    w.line(format!("{}[{write} + i] = 0u;", target.name));
    Ok(Some(finish(w, "Clears words.", n, label)))
}
