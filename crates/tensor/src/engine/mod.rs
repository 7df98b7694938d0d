//! Engines: they run plans. An engine knows launches and memory, not ops.

pub mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub(crate) mod null;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::device::{Device, DeviceOptions};
use crate::error::{Error, Result};
use crate::plan::{Action, Plan, ValueId};

/// Memory of an engine; goes back to its pool when the last handle is dropped. `None` is never seen by engines of
/// another kind: devices do not share buffers.
pub(crate) type Buffer = Arc<dyn RawBuffer>;

/// What engines know of each other's buffers: nothing but the size.
pub(crate) trait RawBuffer: Any + Debug + Send + Sync {
    /// Usable bytes.
    fn bytes(&self) -> usize;
    /// To the engine's own type.
    fn as_any(&self) -> &dyn Any;
}

/// One run of a plan.
pub(crate) struct Run<'a> {
    /// Buffers of the plan's inputs. A donated input is the same buffer as its output.
    pub inputs: &'a [Buffer],
    /// Buffers of the plan's outputs, allocated by the caller (or donated).
    pub outputs: &'a [Buffer],
    /// Values of the host scalars, as bits.
    pub scalars: &'a [u32],
    /// Outputs to read back, and how many bytes of each.
    pub read: &'a [(usize, usize)],
}

/// Results on their way to the host.
pub(crate) trait Readback: Send {
    /// Blocks until they are there.
    fn wait(self: Box<Self>) -> Result<Vec<Vec<u8>>>;
    /// Blocks until the first result is there, and shows it, where it is if that is the host's memory.
    fn show(self: Box<Self>, f: &mut dyn FnMut(&[u8])) -> Result<()> {
        f(&self.wait()?.swap_remove(0));
        Ok(())
    }
    /// Asks without blocking; `None`: not yet.
    fn poll(&mut self) -> Option<Result<Vec<Vec<u8>>>>;
}

/// Results that are there already.
pub(crate) struct Here(pub Option<Vec<Vec<u8>>>);

impl Readback for Here {
    fn wait(self: Box<Self>) -> Result<Vec<Vec<u8>>> {
        Ok(self.0.unwrap_or_default())
    }
    fn poll(&mut self) -> Option<Result<Vec<Vec<u8>>>> {
        Some(Ok(self.0.take().unwrap_or_default()))
    }
}

/// What an engine makes of a plan once (pipelines, register programs), reused by each run.
pub(crate) type Prepared = Box<dyn Any + Send + Sync>;

/// Runs plans.
pub(crate) trait Engine: Send + Sync {
    /// A buffer of at least `bytes`, with any content.
    fn alloc(&self, bytes: usize) -> Result<Buffer>;
    /// A buffer with this content.
    fn upload(&self, bytes: &[u8]) -> Result<Buffer>;
    /// The first `bytes` of a buffer.
    fn read(&self, buffer: &Buffer, bytes: usize) -> Result<Box<dyn Readback>>;
    /// Shows the first `bytes` of a buffer, where they are if its memory is the host's.
    fn look(&self, buffer: &Buffer, bytes: usize, f: &mut dyn FnMut(&[u8])) -> Result<()> {
        f(&self.read(buffer, bytes)?.wait()?.swap_remove(0));
        Ok(())
    }
    /// What later runs of the plan need.
    fn prepare(&self, plan: &Plan) -> Result<Prepared>;
    /// Runs a plan: one submission.
    fn run(&self, plan: &Plan, prepared: &Prepared, run: Run<'_>) -> Result<Box<dyn Readback>>;
    /// Begins to note launches (`true`), or stops and gives those that were noted; `None`: this engine cannot.
    fn profile(&self, on: bool) -> Option<Vec<crate::profile::Launched>> {
        let _ = on;
        None
    }
    /// See [`Device::destroy`].
    fn destroy(&self) {}
}

/// Whether `ACCLIMATE_CHECK=finite` asks for a check of every step.
pub(crate) fn checks_finite() -> bool {
    static CHECK: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *CHECK.get_or_init(|| std::env::var("ACCLIMATE_CHECK").is_ok_and(|v| v == "finite"))
}

/// The values that a step computes.
pub(crate) fn written(action: &Action) -> &[ValueId] {
    match action {
        Action::Map(m) => &m.outs,
        Action::Reduce(r) => &r.outs,
        Action::Op(o) => &o.outs,
        Action::Copy { .. } | Action::Zero { .. } => &[],
    }
}

/// Opens an adapter: `gpu` for the best hardware one, `software` for a software one, else part of a name.
#[cfg(feature = "gpu")]
pub(crate) fn open_gpu(name: &str, reason: &str, options: DeviceOptions) -> Result<Device> {
    gpu::open(name, reason, options)
}

/// Without the feature `gpu` there is none.
#[cfg(not(feature = "gpu"))]
pub(crate) fn open_gpu(name: &str, _: &str, _: DeviceOptions) -> Result<Device> {
    Err(Error::NoDevice {
        name: name.into(),
        present: format!("{} (built without the feature `gpu`)", present().join(", ")),
    })
}

/// No adapter of this name.
#[cfg(feature = "gpu")]
pub(crate) fn no_device(name: &str) -> Error {
    Error::NoDevice { name: name.into(), present: present().join(", ") }
}

/// Names of what is present.
pub(crate) fn present() -> Vec<String> {
    #[cfg(feature = "gpu")]
    let mut names = gpu::names();
    #[cfg(not(feature = "gpu"))]
    let mut names = Vec::new();
    names.extend(["cpu".to_owned(), "null".to_owned()]);
    names
}
