//! Devices: which there are, which was taken and why, what it can do, and what it has done so far.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::plan::cache::Cache;
pub use crate::plan::cache::Passes;
use crate::plan::usage::PlanMemory;
use crate::profile::Profile;
pub use options::{Autotune, DeviceOptions};

mod options;

/// Which engine runs the plans of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// wgpu compute shaders.
    Gpu,
    /// Native code on the processor.
    Cpu,
    /// Checks shapes, bindings and lifetimes, computes nothing.
    Null,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Gpu => "gpu",
            EngineKind::Cpu => "cpu",
            EngineKind::Null => "null",
        })
    }
}

/// What a device can do; kernels choose their variant by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Largest storage binding, in bytes: no value may be larger.
    pub max_binding: usize,
    /// Storage buffers that one dispatch may bind.
    pub max_storage_buffers: u32,
    /// Threads of a workgroup.
    pub max_workgroup_threads: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// Workgroups along one axis of a dispatch.
    pub max_workgroups: u32,
    /// Alignment of a binding's offset, in bytes.
    pub offset_alignment: usize,
    /// Subgroup operations in shaders.
    pub subgroups: bool,
    /// f16 arithmetic in shaders.
    pub f16: bool,
    /// Shaders run on the host's processor, in subgroups of eight lanes and with words of 64 bits (lavapipe): workgroup
    /// memory is no nearer than storage, barriers are dear, and each lane reads and writes by itself.
    pub software: bool,
    /// Cooperative matrices of 16×16: halves, multiplied by a subgroup together and summed as f32.
    pub cooperative_16: bool,
    /// The same of 8×8.
    pub cooperative_8: bool,
}

impl Caps {
    /// What WebGPU guarantees everywhere.
    pub fn webgpu() -> Self {
        Caps {
            max_binding: 128 << 20,
            max_storage_buffers: 8,
            max_workgroup_threads: 256,
            max_workgroup_bytes: 16384,
            max_workgroups: 65535,
            offset_alignment: 256,
            subgroups: false,
            f16: false,
            software: false,
            cooperative_16: false,
            cooperative_8: false,
        }
    }

    /// The processor.
    pub fn cpu() -> Self {
        Caps { max_binding: isize::MAX as usize, max_storage_buffers: u32::MAX, ..Caps::webgpu() }
    }
}

/// Who a device is and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The adapter's or processor's name.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12`, `native` or `null`.
    pub backend: String,
    /// Driver and version; for the CPU engine the threads and vector width.
    pub driver: String,
    /// Whether it is a software rasterizer.
    pub software: bool,
    /// Why this one.
    pub reason: String,
    /// Whether it times the ways to launch an op and takes the fastest ([`DeviceOptions::autotune`]).
    pub autotuned: bool,
}

/// Counters of a device. All only grow, but the live bytes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub plans_built: AtomicU64,
    pub pipelines_compiled: AtomicU64,
    pub buffers_allocated: AtomicU64,
    pub bytes_live: AtomicU64,
    pub bytes_peak: AtomicU64,
    pub dispatches: AtomicU64,
    pub submissions: AtomicU64,
    pub read_backs: AtomicU64,
    pub refused_donations: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    pub(crate) fn live(&self, bytes: u64) {
        let now = self.bytes_live.fetch_add(bytes, Relaxed) + bytes;
        self.bytes_peak.fetch_max(now, Relaxed);
    }

    pub(crate) fn dead(&self, bytes: u64) {
        self.bytes_live.fetch_sub(bytes, Relaxed);
    }
}

/// What a device has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Plans built; stays still from the second identical step on.
    pub plans_built: u64,
    /// Pipelines (GPU) compiled.
    pub pipelines_compiled: u64,
    /// Buffers allocated from the system; reuse from the pool does not count.
    pub buffers_allocated: u64,
    /// Bytes of buffers that somebody holds now.
    pub bytes_live: u64,
    /// Most bytes that were live at once.
    pub bytes_peak: u64,
    /// Dispatches (GPU) or kernel calls (CPU).
    pub dispatches: u64,
    /// Submissions; on the CPU, plans run.
    pub submissions: u64,
    /// Values read back to the host.
    pub read_backs: u64,
    /// In-place updates that had to copy, because somebody else still held the old value.
    pub refused_donations: u64,
}

pub(crate) struct Inner {
    pub(crate) kind: EngineKind,
    pub(crate) info: DeviceInfo,
    pub(crate) caps: Caps,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) plans: Cache,
    pub(crate) passes: Passes,
}

/// Where tensors live and plans run. Cheap to clone; clones are the same device.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Inner>);

impl Device {
    /// The best device: the one that `ACCLIMATE_DEVICE` asks for, else the best hardware adapter, else the native CPU
    /// engine. A software adapter is never taken unless asked for.
    pub fn auto() -> Result<Self> {
        match std::env::var("ACCLIMATE_DEVICE") {
            Ok(name) if !name.is_empty() && name != "auto" => {
                Device::named_because(&name, "ACCLIMATE_DEVICE asked for it")
            }
            _ => Ok(Device::best()),
        }
    }

    /// By name: `auto`, `gpu` (the best hardware adapter), `cpu`, `software` (a software adapter), `null`, or part of an
    /// adapter's name. Fails with the list of what is present.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "auto" | "" => Device::auto(),
            _ => Device::named_because(name, "asked for by name"),
        }
    }

    fn named_because(name: &str, reason: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Device::best()),
            "cpu" => Ok(Device::cpu_because(reason)),
            "null" => Ok(Device::null()),
            _ => engine::open_gpu(name, reason, DeviceOptions::from_env()),
        }
    }

    fn best() -> Self {
        match engine::open_gpu("gpu", "the best hardware adapter", DeviceOptions::from_env()) {
            Ok(device) => device,
            Err(error) => {
                log::warn!("falling back to the native CPU engine: {error}");
                Device::cpu_because("no hardware GPU adapter is present")
            }
        }
    }

    /// The native CPU engine.
    pub fn cpu() -> Self {
        Device::cpu_because("asked for")
    }

    fn cpu_because(reason: &str) -> Self {
        let counters = Arc::new(Counters::default());
        let info = engine::cpu::info(reason);
        let engine = Box::new(engine::cpu::Cpu::new(counters.clone()));
        Device::from_parts(EngineKind::Cpu, info, Caps::cpu(), engine, counters)
    }

    /// The engine that checks and computes nothing; values read as zeros.
    pub fn null() -> Self {
        let counters = Arc::new(Counters::default());
        let info = DeviceInfo {
            name: "null".into(),
            backend: "null".into(),
            driver: "none".into(),
            software: false,
            reason: "asked for".into(),
            autotuned: false,
        };
        let engine = Box::new(engine::null::Null::new(counters.clone()));
        Device::from_parts(EngineKind::Null, info, Caps::webgpu(), engine, counters)
    }

    /// A GPU opened in a special way; names are those of [`Device::named`].
    pub fn open(name: &str, options: DeviceOptions) -> Result<Self> {
        engine::open_gpu(name, "opened with options of its own", options)
    }

    /// A GPU device with WebGPU's default limits and no optional features, for conformance.
    pub fn gpu_restricted(name: &str) -> Result<Self> {
        engine::open_gpu(name, "restricted to WebGPU's defaults", DeviceOptions::restricted())
    }

    /// A GPU device that refuses allocations beyond `bytes` live bytes, to test out-of-memory handling.
    pub fn gpu_with_memory_limit(name: &str, bytes: u64) -> Result<Self> {
        engine::open_gpu(name, "with a memory limit", DeviceOptions::default().memory_limit(bytes))
    }

    pub(crate) fn from_parts(
        kind: EngineKind,
        info: DeviceInfo,
        caps: Caps,
        engine: Box<dyn Engine>,
        counters: Arc<Counters>,
    ) -> Self {
        Device(Arc::new(Inner {
            kind,
            info,
            caps,
            engine,
            counters,
            plans: Cache::default(),
            passes: Passes::from_env(),
        }))
    }

    /// The device with only these passes of the planner, to bisect a wrong answer. Fails once somebody else holds it, a
    /// tensor for example.
    pub fn with_passes(mut self, passes: Passes) -> Result<Self> {
        let Some(inner) = Arc::get_mut(&mut self.0) else {
            return Err(Error::argument("with_passes", "device", "one that nobody else holds", "a device in use"));
        };
        inner.passes = passes;
        Ok(self)
    }

    /// Names of the adapters that are present, software ones marked, and the engines that are always there.
    pub fn present() -> Vec<String> {
        engine::present()
    }

    /// Which engine.
    pub fn kind(&self) -> EngineKind {
        self.0.kind
    }

    /// Name, backend, driver, reason.
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// What it can do.
    pub fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// What it has done.
    pub fn stats(&self) -> Stats {
        let c = &self.0.counters;
        Stats {
            plans_built: c.plans_built.load(Relaxed),
            pipelines_compiled: c.pipelines_compiled.load(Relaxed),
            buffers_allocated: c.buffers_allocated.load(Relaxed),
            bytes_live: c.bytes_live.load(Relaxed),
            bytes_peak: c.bytes_peak.load(Relaxed),
            dispatches: c.dispatches.load(Relaxed),
            submissions: c.submissions.load(Relaxed),
            read_backs: c.read_backs.load(Relaxed),
            refused_donations: c.refused_donations.load(Relaxed),
        }
    }

    /// Counts [`Stats::bytes_peak`] from what is live now, to measure one piece of work.
    pub fn forget_peak(&self) {
        let c = &self.0.counters;
        c.bytes_peak.store(c.bytes_live.load(Relaxed), Relaxed);
    }

    /// The memory of each plan that is kept, in no order.
    pub fn plan_memory(&self) -> Vec<PlanMemory> {
        self.0.plans.usage()
    }

    /// Runs `f` and tells where the time of its launches went, by the clock on the CPU engine and by the device's own
    /// timestamps on a GPU, where each launch waits for the one before it and each run for its end. Fails on engines that
    /// cannot tell: the null engine, and GPUs without timestamps. What other threads run meanwhile is in it too.
    /// [`Profile::against`] adds a column of the share of measured peaks.
    ///
    /// ```
    /// use acclimate_tensor::{Device, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = Tensor::ones(&device, &[1000])?;
    /// let (sum, profile) = device.profile(|| x.exp()?.sum(&[])?.item())?;
    /// assert!(sum > 2718.0);
    /// println!("{profile}"); // a table: time, share, GB/s, GFLOP/s of each launch
    /// # Ok::<(), acclimate_tensor::Error>(())
    /// ```
    pub fn profile<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<(R, Profile)> {
        let found = || format!("the {} engine", self.0.kind);
        let unable = || {
            Error::argument(
                "profile",
                "device",
                "an engine that times launches: the CPU's, or a GPU with timestamps",
                found(),
            )
        };
        self.0.engine.profile(true).ok_or_else(unable)?;
        let start = std::time::Instant::now();
        let result = f();
        let wall = start.elapsed();
        let launches = self.0.engine.profile(false).ok_or_else(unable)?;
        Ok((result?, Profile { launches, wall, peaks: None }))
    }

    /// Whether two handles are the same device.
    pub fn same(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Destroys the device, to test what happens when one is lost: every later run fails with [`Error::DeviceLost`].
    pub fn destroy(&self) {
        self.0.engine.destroy();
    }

    pub(crate) fn require_same(&self, op: &'static str, other: &Device) -> Result<()> {
        if self.same(other) {
            return Ok(());
        }
        Err(Error::Devices { op, left: self.0.info.name.clone(), right: other.0.info.name.clone() })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (i, c) = (&self.0.info, &self.0.caps);
        write!(f, "{} engine: {} ({}, {})", self.0.kind, i.name, i.backend, i.driver)?;
        if self.0.kind == EngineKind::Gpu {
            let has = |yes: bool, what: &str| format!("{}{what}", if yes { "" } else { "no " });
            let (subgroups, f16) = (has(c.subgroups, "subgroups"), has(c.f16, "f16"));
            write!(f, "; bindings up to {} MiB, {subgroups}, {f16}", c.max_binding >> 20)?;
            f.write_str(match (c.cooperative_16, c.cooperative_8) {
                (true, _) => ", cooperative matrices of 16×16",
                (false, true) => ", cooperative matrices of 8×8",
                (false, false) => "",
            })?;
            // Receipts keep this line: other choices, other last bits.
            f.write_str(if i.autotuned { ", autotuned" } else { "" })?;
        }
        write!(f, "; chosen because: {}", i.reason)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.0.info.name)
    }
}
