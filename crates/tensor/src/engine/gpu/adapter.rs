//! Which adapters there are, and opening one.

use std::sync::{Arc, OnceLock};

use crate::device::{Caps, Counters, Device, DeviceInfo, DeviceOptions, EngineKind};
use crate::engine::no_device;
use crate::error::{Error, Result};

use super::autotune::{self, Autotuner};
use super::{Gpu, selftest};

/// What the ways for software adapters need of them, beside subgroups of eight lanes.
const EIGHT_LANES: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64);

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
    let (features, limits) = if options.restricted {
        (wgpu::Features::empty(), wgpu::Limits::default())
    } else {
        let software = if is_software(&info) { EIGHT_LANES } else { wgpu::Features::empty() };
        let wanted = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        (adapter.features() & (wanted | software), adapter.limits())
    };
    let request = adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("acclimate"),
        required_features: features,
        required_limits: limits.clone(),
        experimental_features: wgpu::ExperimentalFeatures::disabled(),
        // The pool above keeps what the driver would.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        trace: wgpu::Trace::Off,
    });
    let (device, queue) = pollster::block_on(request)
        .map_err(|e| Error::Driver { what: format!("opening {}", info.name), reason: e.to_string() })?;
    let software = is_software(&info);
    let caps = caps(&info, features, &limits);
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

fn caps(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits) -> Caps {
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
    }
}
