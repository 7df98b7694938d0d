//! How long launches take, by timestamps that the device itself writes. While somebody looks, each launch is a pass of its
//! own, because the beginnings and ends of passes are what every backend can time.

use std::time::{Duration, Instant};

use crate::engine::Readback;
use crate::error::{Error, Result};
use crate::plan::Plan;

use super::Gpu;
use super::prepare::Ready;
use super::readback::Pending;

/// The timestamps of one run: two for each launch.
pub(super) struct Timing {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    n_launches: usize,
    began: Instant,
}

/// Launches of a set.
const EACH: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;
/// Bytes of a timestamp.
const STAMP: usize = 8;

impl Timing {
    pub fn new(gpu: &Gpu, n_launches: usize) -> Result<Self> {
        let bytes = (2 * STAMP * n_launches) as u64;
        let made = || {
            let set = |first: usize| {
                let count = 2 * (n_launches - first).min(EACH) as u32;
                gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("acclimate.timing"),
                    ty: wgpu::QueryType::Timestamp,
                    count,
                })
            };
            let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("acclimate.timing"),
                size: bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            ((0..n_launches).step_by(EACH).map(set).collect(), resolved)
        };
        let (sets, resolved) = gpu.health.catch(&gpu.device, "timestamps", bytes, made)?;
        Ok(Timing { sets, resolved, n_launches, began: Instant::now() })
    }

    /// What a launch's pass writes.
    pub fn writes(&self, launch: usize) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let first = 2 * (launch % EACH) as u32;
        self.sets.get(launch / EACH).map(|query_set| wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    /// Makes numbers of the timestamps, after the last launch.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        for (i, set) in self.sets.iter().enumerate() {
            let count = 2 * (self.n_launches - i * EACH).min(EACH) as u32;
            encoder.resolve_query_set(set, 0..count, &self.resolved, (2 * STAMP * i * EACH) as u64);
        }
    }

    /// Waits for the run and notes its launches.
    pub fn note(&self, gpu: &Gpu, plan: &Plan, ready: &Ready) -> Result<()> {
        let bytes = 2 * STAMP * self.n_launches;
        let staging = gpu.staging.take(bytes, "timestamps")?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        encoder.copy_buffer_to_buffer(&self.resolved, 0, staging.raw()?, 0, bytes as u64);
        let submission = gpu.submit(encoder);
        let pending = Pending::new(&gpu.device, &gpu.health, staging, vec![bytes], submission)?;
        let read = Box::new(pending).wait()?;
        let stamps: Vec<u64> = read
            .iter()
            .flat_map(|part| part.chunks_exact(STAMP))
            .filter_map(|b| b.try_into().ok().map(u64::from_le_bytes))
            .collect();
        let first = stamps.first().copied().unwrap_or(0);
        let period = f64::from(gpu.queue.get_timestamp_period());
        // A clock that jumps back makes a launch of no time, not an error.
        let since = |from: u64, to: u64| Duration::from_nanos((to.saturating_sub(from) as f64 * period) as u64);
        let mut per_step = vec![0; plan.steps.len()];
        ready.launches.iter().for_each(|launch| per_step[launch.step] += 1);
        for (launch, stamp) in ready.launches.iter().zip(stamps.chunks_exact(2)) {
            let step = plan.steps.get(launch.step).ok_or_else(|| Error::internal("timing", "a launch of no step"))?;
            let (began, time) = (self.began + since(first, stamp[0]), since(stamp[0], stamp[1]));
            gpu.notes.add(plan, step, &launch.label, began, time, per_step[launch.step]);
        }
        Ok(())
    }
}
