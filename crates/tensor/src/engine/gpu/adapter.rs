//! Which adapters there are, and opening one.

use std::sync::{Arc, OnceLock};

use crate::device::{Caps, Counters, Device, DeviceInfo, DeviceOptions, EngineKind};
use crate::engine::no_device;
use crate::error::{Error, Result};

use super::autotune::{self, Autotuner};
use super::{Gpu, selftest};

/// What the ways for software adapters need of them, beside subgroups of eight lanes.
const EIGHT_LANES: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64);

/// What cooperative matrices of halves need of an adapter, beside a size that it lists.
const COOPERATIVE: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SUBGROUP).union(wgpu::Features::SHADER_F16);

/// Bindings that one group is allowed at most: more never pay.
const MAX_STORAGE_BUFFERS: u32 = 32;

/// The drivers are loaded once.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut desc = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        desc.backends = wgpu::Backends::PRIMARY;
        // It would add a dispatch before each indirect one.
        desc.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
        wgpu::Instance::new(desc)
    })
}

fn adapters() -> Vec<wgpu::Adapter> {
    pollster::block_on(instance().enumerate_adapters(wgpu::Backends::PRIMARY))
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu
}

/// Names of the adapters, with their backends; software ones are marked.
pub(in crate::engine) fn names() -> Vec<String> {
    let name = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        let mark = if is_software(&info) { ", software" } else { "" };
        format!("{} ({:?}{mark})", info.name, info.backend)
    };
    adapters().iter().map(name).collect()
}

/// How much an adapter is preferred: less is better.
fn rank(info: &wgpu::AdapterInfo) -> u8 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// Opens `gpu` (the best hardware adapter), `software` (a software adapter), or the best adapter with this in its name.
pub(in crate::engine) fn open(name: &str, reason: &str, options: DeviceOptions) -> Result<Device> {
    let wanted = name.to_lowercase();
    let fits = |info: &wgpu::AdapterInfo| match wanted.as_str() {
        "gpu" => !is_software(info),
        "software" => is_software(info),
        part => !part.is_empty() && info.name.to_lowercase().contains(part),
    };
    let found = adapters().into_iter().map(|a| (a.get_info(), a)).filter(|(info, _)| fits(info));
    let Some((info, adapter)) = found.min_by_key(|(info, _)| rank(info)) else { return Err(no_device(name)) };
    let sizes = sizes(&adapter);
    let (mut features, limits) = if options.restricted {
        (wgpu::Features::empty(), wgpu::Limits::default())
    } else {
        let software = if is_software(&info) { EIGHT_LANES } else { wgpu::Features::empty() };
        let wanted = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        let cooperative = if sizes == [false; 2] { wgpu::Features::empty() } else { COOPERATIVE };
        (adapter.features() & (wanted | software | cooperative), adapter.limits())
    };
    let request = |features: wgpu::Features| {
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("acclimate"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: experimental(features),
            // The pool above keeps what the driver would.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        }))
    };
    let mut handles = request(features);
    if let (Err(error), true) = (&handles, features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)) {
        log::warn!("cooperative matrices are off on {}: {error}", info.name);
        features.remove(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        handles = request(features);
    }
    let (device, queue) =
        handles.map_err(|e| Error::Driver { what: format!("opening {}", info.name), reason: e.to_string() })?;
    let software = is_software(&info);
    let caps = caps(&info, features, &limits, sizes);
    let info = DeviceInfo {
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        name: info.name,
        software,
        reason: reason.to_owned(),
        autotuned: options.autotune.is_some(),
    };
    let opened = Opened { device, queue, limits, info };
    // Engines that are thrown away afterwards: the device's counters begin at zero.
    let probe = |caps| opened.engine(caps, &DeviceOptions::default(), None);
    let caps = selftest::sound(caps, &opened.info, options.corrupt_self_test.as_deref(), probe);
    let tuner = options.autotune.as_ref().map(|asked| {
        let DeviceInfo { name, backend, driver, .. } = &opened.info;
        let adapter = format!("{}; {name}; {backend}; {driver}", env!("CARGO_PKG_VERSION"));
        let (own, caps) = (opened.clone(), caps.clone());
        let probe = move || own.engine(caps.clone(), &DeviceOptions::default(), None);
        Autotuner::new(Box::new(probe), adapter, asked.file.clone().or_else(autotune::default_file))
    });
    Ok(opened.engine(caps, &options, tuner))
}

/// A device of the driver, on which engines run.
#[derive(Clone)]
struct Opened {
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: wgpu::Limits,
    info: DeviceInfo,
}

impl Opened {
    fn engine(&self, caps: Caps, options: &DeviceOptions, tuner: Option<Autotuner>) -> Device {
        let counters = Arc::new(Counters::default());
        let (device, queue) = (self.device.clone(), self.queue.clone());
        let engine = Gpu::new(device, queue, &self.info.name, caps.clone(), &self.limits, options, counters.clone());
        Device::from_parts(EngineKind::Gpu, self.info.clone(), caps, Box::new(engine.tuned(tuner)), counters)
    }
}

/// Whether the adapter multiplies matrices of halves, 16×16 and 8×8, into sums of f32. A size that it does not list gives
/// zeros without a word.
fn sizes(adapter: &wgpu::Adapter) -> [bool; 2] {
    let listed = adapter.cooperative_matrix_properties();
    [16, 8].map(|side| {
        let halves = |p: &wgpu::CooperativeMatrixProperties| {
            [p.m_size, p.n_size, p.k_size] == [side; 3]
                && (p.ab_type, p.cr_type) == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
        };
        listed.iter().any(halves)
    })
}

/// Leave for the one experimental feature that may be among `features`.
fn experimental(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if !features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: wgpu does not vouch for shaders with cooperative matrices, and only ours have them (`shaders/matmul`): they load
    // and store within arrays of workgroup memory, in sizes that the adapter lists, with all threads of a workgroup along.
    // The self-test tries them before anything else may.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

fn caps(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits, sizes: [bool; 2]) -> Caps {
    // On Metal wgpu itself needs one buffer, for the sizes of arrays; WebGPU's eight leave room for it.
    let reserved = u32::from(info.backend == wgpu::Backend::Metal && limits.max_storage_buffers_per_shader_stage > 8);
    let binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    Caps {
        max_binding: usize::try_from(binding).unwrap_or(usize::MAX),
        max_storage_buffers: limits
            .max_storage_buffers_per_shader_stage
            .saturating_sub(reserved)
            .min(MAX_STORAGE_BUFFERS),
        max_workgroup_threads: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        offset_alignment: limits.min_storage_buffer_offset_alignment as usize,
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        f16: features.contains(wgpu::Features::SHADER_F16),
        // Another one, or one that is restricted, takes the ways of any other GPU.
        software: is_software(info)
            && features.contains(EIGHT_LANES)
            && [info.subgroup_min_size, info.subgroup_max_size] == [8, 8],
        cooperative_16: features.contains(COOPERATIVE) && sizes[0],
        cooperative_8: features.contains(COOPERATIVE) && sizes[1],
    }
}
