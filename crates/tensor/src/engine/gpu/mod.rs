//! The GPU engine, on wgpu: Vulkan, Metal and DX12. This folder is the only place that names it.
//!
//! A plan is prepared once (pipelines, parameter words, bindings) and run as one compute pass in one submission; what
//! is read is copied to a staging buffer by the same submission. From the second run on nothing is allocated.

mod adapter;
mod autotune;
mod check;
mod codegen;
mod health;
mod launch;
mod live;
mod pipeline;
mod pool;
mod prepare;
mod readback;
mod run;
mod selftest;
mod timing;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::device::{Caps, Counters, DeviceOptions};
use crate::engine::{Buffer, Engine, Here, Prepared, Readback, Run};
use crate::error::{Error, Result};
use crate::plan::{OpStep, Plan};
use crate::profile::{Launched, Notes};

pub(super) use adapter::{names, open};
use autotune::Autotuner;
use health::{Health, lock};
use pipeline::Pipelines;
use pool::{Pool, Use};
use readback::{Pending, padded};
use run::own;

/// Bytes written to the queue after which it is flushed: until then the driver keeps a copy of them.
const FLUSH: u64 = 32 << 20;
/// Submissions in flight; more would only wait on the device.
const IN_FLIGHT: usize = 32;

/// An open device.
struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    health: Arc<Health>,
    counters: Arc<Counters>,
    caps: Caps,
    uniform_alignment: usize,
    pipelines: Pipelines,
    pool: Arc<Pool>,
    staging: Arc<Pool>,
    /// Bytes written since the last submission.
    written: AtomicU64,
    in_flight: Mutex<VecDeque<wgpu::SubmissionIndex>>,
    notes: Notes,
    tuner: Option<Autotuner>,
    /// Which way of each op is taken; 0 is its own.
    way: usize,
}

impl Gpu {
    fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        name: &str,
        caps: Caps,
        limits: &wgpu::Limits,
        options: &DeviceOptions,
        counters: Arc<Counters>,
    ) -> Self {
        let health = Health::watch(&device, name);
        let pool = |usage, limit| Pool::new(&device, &health, &counters, usage, limits.max_buffer_size, limit);
        Gpu {
            pipelines: Pipelines::new(&device, &health, &counters),
            pool: pool(Use::Storage, options.memory_limit),
            staging: pool(Use::Staging, None),
            uniform_alignment: limits.min_uniform_buffer_offset_alignment as usize,
            written: AtomicU64::new(0),
            in_flight: Mutex::default(),
            notes: Notes::default(),
            tuner: None,
            way: options.way,
            device,
            queue,
            health,
            counters,
            caps,
        }
    }

    /// With choices by timing.
    fn tuned(self, tuner: Option<Autotuner>) -> Self {
        Gpu { tuner, ..self }
    }

    /// Submits, and waits if too much is in flight already.
    fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        let index = self.queue.submit([encoder.finish()]);
        Counters::add(&self.counters.submissions, 1);
        self.written.store(0, Relaxed);
        let oldest = {
            let mut in_flight = lock(&self.in_flight);
            in_flight.push_back(index.clone());
            if in_flight.len() > IN_FLIGHT { in_flight.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            // A lost device is found by the next check.
            let _ = self.device.poll(wgpu::PollType::Wait { submission_index: Some(oldest), timeout: None });
        }
        index
    }

    fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        let mut offset = 0;
        for part in bytes.chunks(FLUSH as usize) {
            if part.len() % 4 == 0 {
                self.queue.write_buffer(buffer, offset, part);
            } else {
                let mut whole = part.to_vec();
                whole.resize(padded(part.len()), 0);
                self.queue.write_buffer(buffer, offset, &whole);
            }
            offset += part.len() as u64;
            if self.written.fetch_add(part.len() as u64, Relaxed) + part.len() as u64 > FLUSH {
                self.written.store(0, Relaxed);
                self.queue.submit([]);
            }
        }
    }
}

impl Engine for Gpu {
    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        self.health.check()?;
        Ok(Arc::new(self.pool.take(bytes, "a value")?))
    }

    fn upload(&self, bytes: &[u8]) -> Result<Buffer> {
        self.health.check()?;
        let buffer = self.pool.take(bytes.len(), "an uploaded value")?;
        self.write(buffer.raw()?, bytes);
        self.health.check()?;
        Ok(Arc::new(buffer))
    }

    fn read(&self, buffer: &Buffer, bytes: usize) -> Result<Box<dyn Readback>> {
        self.health.check()?;
        if bytes == 0 {
            return Ok(Box::new(Here(Some(vec![Vec::new()]))));
        }
        let from = own(buffer)?.raw()?;
        if padded(bytes) as u64 > from.size() {
            return Err(Error::internal("read", format!("{bytes} bytes of a buffer of {}", from.size())));
        }
        let staging = self.staging.take(padded(bytes), "a read-back")?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        encoder.copy_buffer_to_buffer(from, 0, staging.raw()?, 0, padded(bytes) as u64);
        let submission = self.submit(encoder);
        self.health.check()?;
        Ok(Box::new(Pending::new(&self.device, &self.health, staging, vec![bytes], submission)?))
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        self.health.check()?;
        let launches = |step: &OpStep| match &self.tuner {
            Some(tuner) => tuner.launches(step, &self.caps),
            None if self.way == 0 => step.op.launch(&step.in_specs, &step.out_specs, &self.caps),
            None => {
                let mut ways = autotune::ways(&*step.op, &step.in_specs, &step.out_specs, &self.caps)?;
                Ok(ways.swap_remove(self.way.min(ways.len() - 1)))
            }
        };
        Ok(Box::new(prepare::prepare(plan, &self.caps, &self.pipelines, self.uniform_alignment, &launches)?))
    }

    fn run(&self, plan: &Plan, prepared: &Prepared, run: Run<'_>) -> Result<Box<dyn Readback>> {
        let ready = prepared.downcast_ref().ok_or_else(|| Error::internal("run", "prepared by another engine"))?;
        self.run_ready(plan, ready, &run)
    }

    fn profile(&self, on: bool) -> Option<Vec<Launched>> {
        let able = self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        able.then(|| self.notes.switch(on))
    }

    fn destroy(&self) {
        self.health.lose("destroyed by the caller".into());
        self.device.destroy();
    }
}
