//! As much of Vulkan as it takes to compile a shader and to ask what came of it.

use std::ffi::CStr;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use ash::vk::{self, PipelineExecutableStatisticFormatKHR as Format};

/// Storage bindings that a shader may have.
const BINDINGS: u32 = 16;

/// A device that compiles.
pub struct Driver {
    _entry: ash::Entry,
    device: ash::Device,
    statistics: ash::khr::pipeline_executable_properties::Device,
    name: String,
    /// Words in WGSL of which the device knows nothing: a driver that is handed such a shader may crash.
    unknown: Vec<&'static str>,
}

impl Driver {
    /// The first device, with everything that it can do.
    pub fn open() -> Result<Self> {
        // SAFETY: the loader is the system's Vulkan, which the program is made to call; every structure below outlives the call
        // that it is handed to, chains hold what the extensions that are asked for define, and what is created here lives as
        // long as the process.
        unsafe {
            let entry = ash::Entry::load().context("no Vulkan loader")?;
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance = entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None)?;
            let devices = instance.enumerate_physical_devices()?;
            let physical = *devices.first().context("no Vulkan device")?;
            let properties = instance.get_physical_device_properties(physical);
            let extensions = instance.enumerate_device_extension_properties(physical)?;
            let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
            let executable = ash::khr::pipeline_executable_properties::NAME;
            ensure!(has(executable), "the driver says nothing of what it compiles");
            let cooperative = has(ash::khr::cooperative_matrix::NAME);

            let mut eleven = vk::PhysicalDeviceVulkan11Features::default();
            let mut twelve = vk::PhysicalDeviceVulkan12Features::default();
            let mut thirteen = vk::PhysicalDeviceVulkan13Features::default();
            let mut says = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut eleven)
                .push_next(&mut twelve)
                .push_next(&mut thirteen)
                .push_next(&mut says);
            let mut names = vec![executable.as_ptr()];
            if cooperative {
                features = features.push_next(&mut matrices);
                names.push(ash::khr::cooperative_matrix::NAME.as_ptr());
            }
            instance.get_physical_device_features2(physical, &mut features);
            let has_int64 = features.features.shader_int64 == vk::TRUE;
            let queue = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queue)
                .enabled_extension_names(&names)
                .push_next(&mut features);
            let device = instance.create_device(physical, &info, None)?;
            let statistics = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            let name = CStr::from_ptr(properties.device_name.as_ptr()).to_string_lossy().trim().to_owned();
            let words = [("wgpu_cooperative_matrix", cooperative), ("u64", has_int64)];
            let unknown = words.into_iter().filter(|(_, there)| !there).map(|(word, _)| word).collect();
            Ok(Driver { _entry: entry, device, statistics, name, unknown })
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a shader asks for and the device does not have, if there is something.
    pub fn lacks(&self, wgsl: &str) -> Option<&'static str> {
        self.unknown.iter().copied().find(|word| wgsl.contains(word))
    }

    /// Compiles a compute shader; what the driver says of it, in a line, and with `text` all it can show.
    pub fn compile(&self, spirv: &[u32], text: bool) -> Result<String> {
        let binding = |i: u32| {
            let kind = if i == 0 { vk::DescriptorType::UNIFORM_BUFFER } else { vk::DescriptorType::STORAGE_BUFFER };
            let binding = vk::DescriptorSetLayoutBinding::default().binding(i).descriptor_type(kind);
            binding.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: Vec<_> = (0..=BINDINGS).map(binding).collect();
        let mut flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR;
        if text {
            flags |= vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        }
        // SAFETY: naga wrote the module for the entry point `main`, its bindings are among those of the layout, and all that is
        // made here is destroyed before the device.
        unsafe {
            let device = &self.device;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(spirv), None)?;
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let set = device.create_descriptor_set_layout(&set, None)?;
            let sets = [set];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&layout, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags)];
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &info, None);
            let said = made.map_err(|(_, error)| error.into()).and_then(|pipelines| {
                let said = self.says(pipelines[0], text);
                device.destroy_pipeline(pipelines[0], None);
                said
            });
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(set, None);
            device.destroy_shader_module(module, None);
            said
        }
    }

    /// What the driver says of a pipeline.
    ///
    /// # Safety
    /// The pipeline is this device's, and was made with the flags for it.
    unsafe fn says(&self, pipeline: vk::Pipeline, text: bool) -> Result<String> {
        let mut line = String::new();
        // SAFETY: as above; the union is read as its format says, and the driver ends its texts with a zero inside the room that
        // it asked for.
        unsafe {
            let parts = self.statistics.get_pipeline_executable_properties(&vk::PipelineInfoKHR::default().pipeline(pipeline))?;
            for (part, index) in parts.iter().zip(0..) {
                let part_of = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(index);
                write!(line, "threads of a subgroup {}", part.subgroup_size)?;
                for fact in self.statistics.get_pipeline_executable_statistics(&part_of)? {
                    let value = match fact.format {
                        Format::UINT64 => fact.value.u64.to_string(),
                        Format::INT64 => fact.value.i64.to_string(),
                        Format::FLOAT64 => fact.value.f64.to_string(),
                        _ => fact.value.b32.to_string(),
                    };
                    write!(line, ", {} {value}", CStr::from_ptr(fact.name.as_ptr()).to_string_lossy())?;
                }
                if text {
                    self.texts(&part_of, &mut line)?;
                }
            }
        }
        Ok(line)
    }

    /// The compiler's texts of a part, each after a line with its name.
    ///
    /// # Safety
    /// As for [`Driver::says`].
    unsafe fn texts(&self, part: &vk::PipelineExecutableInfoKHR<'_>, line: &mut String) -> Result<()> {
        let get = self.statistics.fp().get_pipeline_executable_internal_representations_khr;
        let device = self.device.handle();
        let mut n = 0;
        // SAFETY: asked three times, as Vulkan has it: how many, how long each, and then into room of that length.
        unsafe {
            get(device, part, &mut n, std::ptr::null_mut()).result()?;
            let mut texts = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); n as usize];
            get(device, part, &mut n, texts.as_mut_ptr()).result()?;
            let mut rooms: Vec<Vec<u8>> = texts.iter().map(|t| vec![0; t.data_size]).collect();
            for (text, room) in texts.iter_mut().zip(&mut rooms) {
                text.p_data = room.as_mut_ptr().cast();
            }
            get(device, part, &mut n, texts.as_mut_ptr()).result()?;
            for (text, room) in texts.iter().zip(&rooms) {
                let name = CStr::from_ptr(text.name.as_ptr()).to_string_lossy();
                write!(line, "\n---- {name}\n{}", String::from_utf8_lossy(room).trim_end_matches('\0'))?;
            }
        }
        Ok(())
    }
}
