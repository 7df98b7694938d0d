//! How a GPU is opened.

use std::path::PathBuf;

/// How to open a GPU; see [`crate::Device::open`]. By default: all that the adapter can do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "read by the wgpu engine"))]
pub struct DeviceOptions {
    pub(crate) restricted: bool,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) corrupt_self_test: Option<String>,
    pub(crate) autotune: Option<Autotune>,
    pub(crate) way: usize,
}

/// Whether an op that can be launched in more than one way is launched in the one that was fastest when it was needed first.
///
/// Timing takes up to two seconds for each op and shapes. The choice is remembered by op, shapes, adapter and driver, in a
/// file too. Another choice means sums in another order, and so other last bits.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "read by the wgpu engine"))]
pub struct Autotune {
    pub(crate) file: Option<PathBuf>,
}

impl Autotune {
    /// With this file of choices, in place of `acclimate/choices` in the user's folder for caches.
    #[must_use]
    pub fn in_file(file: impl Into<PathBuf>) -> Self {
        Autotune { file: Some(file.into()) }
    }
}

impl DeviceOptions {
    /// WebGPU's default limits and no optional features: the slow twin of every fast path, for conformance.
    #[must_use]
    pub fn restricted() -> Self {
        DeviceOptions { restricted: true, ..Default::default() }
    }

    /// Refuses allocations beyond `bytes` live bytes, to test out-of-memory handling.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// What the environment asks for: autotuning if `ACCLIMATE_AUTOTUNE` is `on`.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("ACCLIMATE_AUTOTUNE").unwrap_or_default().as_str() {
            "on" => DeviceOptions::default().autotune(Autotune::default()),
            "" | "off" => DeviceOptions::default(),
            other => {
                log::warn!("ACCLIMATE_AUTOTUNE={other}: it is on or off");
                DeviceOptions::default()
            }
        }
    }

    /// Chooses between ways to launch an op by timing them.
    #[must_use]
    pub fn autotune(mut self, autotune: Autotune) -> Self {
        self.autotune = Some(autotune);
        self
    }

    /// Launches each op in another way than its own, where it has one: the `way`th of them, or the last. To test them all;
    /// `0` is the op's own.
    #[must_use]
    pub fn way(mut self, way: usize) -> Self {
        self.way = way;
        self
    }

    /// Spoils what the start-up self-test expects of a path, to test what happens when a driver gets it wrong. The names
    /// are those of the warnings: `subgroup reductions`.
    #[must_use]
    pub fn corrupt_self_test(mut self, path: &str) -> Self {
        self.corrupt_self_test = Some(path.to_owned());
        self
    }
}
