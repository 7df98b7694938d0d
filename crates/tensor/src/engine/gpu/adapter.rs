//! Which adapters there are, and opening one.

use std::sync::{Arc, OnceLock};

use crate::device::{Caps, Counters, Device, DeviceInfo, EngineKind};
use crate::engine::{GpuOptions, no_device};
use crate::error::{Error, Result};

use super::Gpu;

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
pub(in crate::engine) fn open(name: &str, reason: &str, options: GpuOptions) -> Result<Device> {
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
        let wanted = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        (adapter.features() & wanted, adapter.limits())
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
    // Restricted, a software adapter takes the ways of any other GPU.
    let software = is_software(&info);
    let caps = Caps { software: software && !options.restricted, ..caps(&info, features, &limits) };
    let counters = Arc::new(Counters::default());
    let engine = Box::new(Gpu::new(device, queue, &info.name, caps.clone(), &limits, options, counters.clone()));
    let info = DeviceInfo {
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        name: info.name,
        software,
        reason: reason.to_owned(),
    };
    Ok(Device::from_parts(EngineKind::Gpu, info, caps, engine, counters))
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
        software: false,
    }
}
