//! Compute pipelines by their text, and one bind group layout for each number of storage bindings.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use crate::device::Counters;
use crate::error::Result;

use super::health::{Health, lock};

/// A pipeline and the layout of what it binds.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

#[derive(Clone, Debug)]
struct Layouts {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// All pipelines of a device.
#[derive(Debug)]
pub(super) struct Pipelines {
    device: wgpu::Device,
    health: Arc<Health>,
    counters: Arc<Counters>,
    layouts: Mutex<HashMap<usize, Layouts>>,
    pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
}

impl Pipelines {
    pub fn new(device: &wgpu::Device, health: &Arc<Health>, counters: &Arc<Counters>) -> Self {
        Pipelines {
            device: device.clone(),
            health: health.clone(),
            counters: counters.clone(),
            layouts: Mutex::default(),
            pipelines: Mutex::default(),
        }
    }

    /// Whether the shader is compiled already.
    pub fn has(&self, source: &str) -> bool {
        lock(&self.pipelines).contains_key(source)
    }

    /// The pipeline of a shader with `n_storage` storage bindings, compiled if it is new.
    pub fn get(&self, source: &str, n_storage: usize, label: &str) -> Result<Arc<Pipeline>> {
        if let Some(found) = lock(&self.pipelines).get(source) {
            return Ok(found.clone());
        }
        // Without the lock: several threads may compile at once, and two may compile the same.
        let made = Arc::new(self.compile(source, n_storage, label)?);
        Ok(lock(&self.pipelines).entry(source.to_owned()).or_insert(made).clone())
    }

    fn compile(&self, source: &str, n_storage: usize, label: &str) -> Result<Pipeline> {
        let layouts = self.layouts(n_storage)?;
        let raw = self.health.catch(&self.device, label, 0, || {
            let desc =
                wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(source.into()) };
            let checks =
                wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
            // SAFETY: what is left out is a counter in every loop, against loops that never end. Ours end: each walks over
            // a size from the plan, which fits into a binding, in steps of at least one. Bounds stay checked.
            let module = unsafe { self.device.create_shader_module_trusted(desc, checks) };
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(label),
                layout: Some(&layouts.pipeline),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Kernels write workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            })
        })?;
        Counters::add(&self.counters.pipelines_compiled, 1);
        Ok(Pipeline { raw, layout: layouts.group })
    }

    fn layouts(&self, n_storage: usize) -> Result<Layouts> {
        if let Some(found) = lock(&self.layouts).get(&n_storage) {
            return Ok(found.clone());
        }
        let entry = |i: usize| wgpu::BindGroupLayoutEntry {
            binding: u32::try_from(i).unwrap_or(u32::MAX),
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                // Everything read-write: values share buffers, and a dispatch may not bind one buffer in two ways.
                ty: match i {
                    0 => wgpu::BufferBindingType::Uniform,
                    _ => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = (0..=n_storage).map(entry).collect();
        let what = format!("a layout of {n_storage} storage bindings");
        let made = self.health.catch(&self.device, &what, 0, || {
            let group = self
                .device
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
            let pipeline = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            Layouts { group, pipeline }
        })?;
        Ok(lock(&self.layouts).entry(n_storage).or_insert(made).clone())
    }
}

/// Writes a generated shader into the folder that `ACCLIMATE_DUMP_WGSL` names, by the hash of its text.
pub(super) fn dump(source: &str) {
    let Some(folder) = std::env::var_os("ACCLIMATE_DUMP_WGSL").filter(|f| !f.is_empty()) else { return };
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let folder = std::path::Path::new(&folder);
    let path = folder.join(format!("{:016x}.wgsl", hasher.finish()));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, source));
    if let Err(error) = written {
        log::warn!("cannot write {}: {error}", path.display());
    }
}
