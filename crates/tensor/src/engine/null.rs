//! The null engine: placeholder until the checks land.
use std::sync::Arc;
use crate::device::Counters;
use crate::engine::{Buffer, Engine, Here, Prepared, RawBuffer, Readback, Run};
use crate::error::Result;
use crate::plan::Plan;
pub(crate) struct Null { counters: Arc<Counters> }
impl Null { pub(crate) fn new(counters: Arc<Counters>) -> Self { Null { counters } } }
#[derive(Debug)]
struct Size(usize);
impl RawBuffer for Size { fn bytes(&self) -> usize { self.0 } fn as_any(&self) -> &dyn std::any::Any { self } }
impl Engine for Null {
    fn alloc(&self, bytes: usize) -> Result<Buffer> { Ok(Arc::new(Size(bytes))) }
    fn upload(&self, bytes: &[u8]) -> Result<Buffer> { Ok(Arc::new(Size(bytes.len()))) }
    fn read(&self, _: &Buffer, bytes: usize) -> Result<Box<dyn Readback>> { Ok(Box::new(Here(Some(vec![vec![0; bytes]])))) }
    fn prepare(&self, _: &Plan) -> Result<Prepared> { Ok(Box::new(())) }
    fn run(&self, _: &Plan, _: &Prepared, run: Run<'_>) -> Result<Box<dyn Readback>> {
        Counters::add(&self.counters.submissions, 1);
        Ok(Box::new(Here(Some(run.read.iter().map(|r| vec![0; r.1]).collect()))))
    }
}
