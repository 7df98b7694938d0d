//! The null engine: checks plans and computes nothing. Values read as zeros.
//!
//! When a plan is prepared it follows who wrote which bytes: every step must find its inputs as they were made, in
//! memory that lies inside its buffer, and the launches of ops must fit their shaders.

mod content;

use std::any::Any;
use std::sync::Arc;

use crate::device::Counters;
use crate::engine::{Buffer, Engine, Here, Prepared, RawBuffer, Readback, Run};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Checks and computes nothing.
pub(crate) struct Null {
    counters: Arc<Counters>,
}

impl Null {
    /// An engine that counts what it is asked to do.
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Null { counters }
    }
}

/// A buffer without memory.
#[derive(Debug)]
struct Size {
    bytes: usize,
    counters: Arc<Counters>,
}

impl RawBuffer for Size {
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Size {
    fn drop(&mut self) {
        self.counters.dead(self.bytes as u64);
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::internal("null engine", what)
}

impl Engine for Null {
    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        self.counters.live(bytes as u64);
        Counters::add(&self.counters.buffers_allocated, 1);
        Ok(Arc::new(Size { bytes, counters: self.counters.clone() }))
    }

    fn upload(&self, bytes: &[u8]) -> Result<Buffer> {
        self.alloc(bytes.len())
    }

    fn read(&self, buffer: &Buffer, bytes: usize) -> Result<Box<dyn Readback>> {
        if bytes > buffer.bytes() {
            return Err(wrong(format!("{bytes} bytes read of a buffer of {}", buffer.bytes())));
        }
        Ok(Box::new(Here(Some(vec![vec![0; bytes]]))))
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        content::check_plan(plan)?;
        Ok(Box::new(()))
    }

    fn run(&self, plan: &Plan, _: &Prepared, run: Run<'_>) -> Result<Box<dyn Readback>> {
        check_run(plan, &run)?;
        Counters::add(&self.counters.submissions, 1);
        Counters::add(&self.counters.dispatches, plan.steps.len() as u64);
        Ok(Box::new(Here(Some(run.read.iter().map(|&(_, bytes)| vec![0; bytes]).collect()))))
    }
}

/// Numbers and sizes of buffers.
fn check_run(plan: &Plan, run: &Run<'_>) -> Result<()> {
    for (what, specs, buffers) in [("input", &plan.inputs, run.inputs), ("output", &plan.outputs, run.outputs)] {
        if specs.len() != buffers.len() {
            return Err(wrong(format!("{} {what}s for a plan of {}", buffers.len(), specs.len())));
        }
        let small = specs.iter().zip(buffers).position(|(s, b)| b.bytes() < s.bytes());
        if let Some(i) = small {
            return Err(wrong(format!("{what} {i}, {}, in a buffer of {} bytes", specs[i], buffers[i].bytes())));
        }
    }
    for (j, donated) in plan.donated.iter().enumerate() {
        let same = |i: usize| run.inputs.get(i).zip(run.outputs.get(j)).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        if donated.is_some_and(|i| !same(i)) {
            return Err(wrong(format!("output {j} is not the buffer of the input that it takes over")));
        }
    }
    if run.scalars.len() < plan.n_scalars {
        return Err(wrong(format!("{} scalars for a plan of {}", run.scalars.len(), plan.n_scalars)));
    }
    let missing = run.read.iter().find(|&&(j, bytes)| plan.outputs.get(j).is_none_or(|s| s.bytes() < bytes));
    missing.map_or(Ok(()), |(j, bytes)| Err(wrong(format!("{bytes} bytes read of output {j}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_wrong_buffers_are_refused() {
        let mut plan = content::tests::chain(0, 256, false);
        plan.donated = vec![Some(0)];
        let engine = Null::new(Arc::default());
        let (input, output) = (engine.alloc(256).unwrap(), engine.alloc(256).unwrap());
        let run =
            |inputs: &[Buffer], outputs: &[Buffer]| check_run(&plan, &Run { inputs, outputs, scalars: &[], read: &[] });
        assert!(run(std::slice::from_ref(&input), &[output]).is_err());
        assert!(run(std::slice::from_ref(&input), std::slice::from_ref(&input)).is_ok());
        assert!(run(std::slice::from_ref(&input), &[engine.alloc(16).unwrap()]).is_err());
        assert!(run(&[], &[input]).is_err());
    }
}
