//! One run of a prepared plan: one command buffer with one compute pass, one submission.

use std::ops;
use std::sync::Arc;

use crate::device::Counters;
use crate::engine::{Buffer, Here, Readback, Run};
use crate::error::{Error, Result};
use crate::plan::{Plan, Root};

use super::Gpu;
use super::health::lock;
use super::launch::{Range, Slot};
use super::live::LiveState;
use super::pool::GpuBuffer;
use super::prepare::{Launch, Ready};
use super::readback::{Pending, padded};
use super::timing::Timing;

/// Bind groups kept for each launch. Inputs and outputs of a training loop take turns, so there are a few of each.
const KEPT: usize = 8;
/// Idle states kept for a plan.
const STATES: usize = 4;

/// What a run has to itself, so that runs of one plan at the same time do not disturb each other.
#[derive(Debug)]
pub(super) struct State {
    /// The parameters of all launches; `None` if there is no launch.
    uniform: Option<wgpu::Buffer>,
    /// What it holds.
    words: Vec<u32>,
    /// For each launch, bind groups by the buffers they name.
    groups: Vec<Cached>,
    /// For launches that leave out rows.
    live: Option<LiveState>,
}

#[derive(Debug, Default)]
pub(super) struct Cached {
    groups: Vec<(Vec<u64>, wgpu::BindGroup)>,
    /// Which one is replaced next.
    turn: usize,
}

/// The buffers of a run.
struct Buffers<'a> {
    inputs: Vec<&'a GpuBuffer>,
    outputs: Vec<&'a GpuBuffer>,
    arenas: Vec<GpuBuffer>,
    scratch: Vec<GpuBuffer>,
    check: Option<Buffer>,
}

/// The engine's own buffer.
pub(super) fn own(buffer: &Buffer) -> Result<&GpuBuffer> {
    let any = buffer.as_any();
    any.downcast_ref().ok_or_else(|| Error::internal("run", "a buffer of another engine"))
}

impl Buffers<'_> {
    fn slot(&self, slot: Slot) -> Result<&GpuBuffer> {
        let found = match slot {
            Slot::Root(Root::Input(i)) => self.inputs.get(i).copied(),
            Slot::Root(Root::Output(i)) => self.outputs.get(i).copied(),
            Slot::Root(Root::Arena(i)) => self.arenas.get(i),
            Slot::Scratch(i) => self.scratch.get(i),
            Slot::Check => self.check.as_ref().map(own).transpose()?,
        };
        found.ok_or_else(|| Error::internal("run", format!("no memory {slot:?}")))
    }
}

impl Gpu {
    /// A state that no other run uses.
    fn check_out(&self, ready: &Ready) -> Result<State> {
        if let Some(state) = lock(&ready.states).pop() {
            return Ok(state);
        }
        let groups = ready.launches.iter().map(|_| Cached::default()).collect();
        if ready.words.is_empty() {
            return Ok(State { uniform: None, words: Vec::new(), groups, live: None });
        }
        let size = 4 * ready.words.len() as u64;
        let mut usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        if !ready.live.is_empty() {
            usage |= wgpu::BufferUsages::STORAGE;
        }
        let desc = wgpu::BufferDescriptor { label: Some("acclimate.params"), size, usage, mapped_at_creation: false };
        let uniform = self.health.catch(&self.device, "parameters", size, || self.device.create_buffer(&desc))?;
        Counters::add(&self.counters.buffers_allocated, 1);
        self.queue.write_buffer(&uniform, 0, bytemuck::cast_slice(&ready.words));
        let live = self.live_state(&ready.live)?;
        Ok(State { uniform: Some(uniform), words: ready.words.clone(), groups, live })
    }

    /// Runs a plan.
    pub(super) fn run_ready(&self, plan: &Plan, ready: &Ready, run: &Run<'_>) -> Result<Box<dyn Readback>> {
        self.health.check()?;
        if run.inputs.len() != plan.inputs.len() || run.outputs.len() != plan.outputs.len() {
            let (i, o) = (run.inputs.len(), run.outputs.len());
            return Err(Error::internal("run", format!("{i} inputs and {o} outputs do not fit the plan")));
        }
        let mut state = self.check_out(ready)?;
        let result = self.record(plan, ready, &mut state, run);
        let mut states = lock(&ready.states);
        if states.len() < STATES {
            states.push(state);
        }
        result
    }

    fn record(&self, plan: &Plan, ready: &Ready, state: &mut State, run: &Run<'_>) -> Result<Box<dyn Readback>> {
        let take = |sizes: &[usize], what: &str| -> Result<Vec<GpuBuffer>> {
            sizes.iter().map(|&bytes| self.pool.take(bytes, what)).collect()
        };
        let buffers = Buffers {
            inputs: run.inputs.iter().map(own).collect::<Result<_>>()?,
            outputs: run.outputs.iter().map(own).collect::<Result<_>>()?,
            arenas: take(&plan.arenas, "an arena of intermediate values")?,
            scratch: take(&ready.scratch, "scratch memory")?,
            check: match ready.checks.bytes() {
                0 => None,
                bytes => Some(Arc::new(self.pool.take(bytes, "checks")?)),
            },
        };
        let staging = self.staging(run)?;
        self.write_scalars(ready, state, run.scalars)?;

        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        if let Some(check) = &buffers.check {
            encoder.clear_buffer(own(check)?.raw()?, 0, None);
        }
        let n_launches = ready.launches.len();
        let timing = (self.notes.are_on() && n_launches > 0).then(|| Timing::new(self, n_launches)).transpose()?;
        // All in one pass, or one each where somebody wants to know how long they take.
        let each = if timing.is_some() { 1 } else { n_launches };
        for first in (0..n_launches).step_by(each.max(1)) {
            let timestamp_writes = timing.as_ref().and_then(|timing| timing.writes(first));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            self.pass(&mut pass, ready, state, &buffers, first..first + each)?;
        }
        if let Some(timing) = &timing {
            timing.resolve(&mut encoder);
        }
        let noted = || timing.as_ref().map_or(Ok(()), |timing| timing.note(self, plan, ready));
        Counters::add(&self.counters.dispatches, ready.launches.len() as u64);
        let Some(staging) = staging else {
            self.submit(encoder);
            self.verdict(plan, ready, &buffers)?;
            noted()?;
            return self
                .health
                .check()
                .map(|()| Box::new(Here(Some(vec![Vec::new(); run.read.len()]))) as Box<dyn Readback>);
        };
        let mut at = 0;
        for &(output, bytes) in run.read.iter().filter(|(_, bytes)| *bytes > 0) {
            let from = buffers.slot(Slot::Root(Root::Output(output)))?.raw()?;
            encoder.copy_buffer_to_buffer(from, 0, staging.raw()?, at, padded(bytes) as u64);
            at += padded(bytes) as u64;
        }
        let submission = self.submit(encoder);
        self.health.check()?;
        let parts = run.read.iter().map(|&(_, bytes)| bytes).collect();
        let pending = Pending::new(&self.device, &self.health, staging, parts, submission)?;
        self.verdict(plan, ready, &buffers)?;
        noted()?;
        Ok(Box::new(pending))
    }

    /// Records some of the launches.
    fn pass(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        ready: &Ready,
        state: &mut State,
        buffers: &Buffers<'_>,
        launches: ops::Range<usize>,
    ) -> Result<()> {
        let mut current = None;
        let first = launches.start;
        let some = ready.launches[launches.clone()].iter().zip(&mut state.groups[launches]);
        for (number, (launch, cached)) in (first..).zip(some) {
            if let (Some(live), Some(uniform)) = (&mut state.live, &state.uniform)
                && self.look_up(pass, live, number, uniform, buffers)?
            {
                current = None;
            }
            let group = self.bind_group(launch, cached, state.uniform.as_ref(), buffers)?;
            let pipeline = std::ptr::from_ref(&*launch.pipeline);
            if current != Some(pipeline) {
                pass.set_pipeline(&launch.pipeline.raw);
                current = Some(pipeline);
            }
            pass.set_bind_group(0, group, &[]);
            match (launch.indirect, &state.live) {
                (Some(offset), Some(live)) => pass.dispatch_workgroups_indirect(&live.args, offset),
                _ => pass.dispatch_workgroups(launch.workgroups.0, launch.workgroups.1, 1),
            }
        }
        Ok(())
    }

    /// Waits for what the checks found, if there are any.
    fn verdict(&self, plan: &Plan, ready: &Ready, buffers: &Buffers<'_>) -> Result<()> {
        buffers.check.as_ref().map_or(Ok(()), |check| ready.checks.verdict(self, plan, check))
    }

    /// Records the look-ups that come before a launch; whether there were any.
    fn look_up(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        live: &mut LiveState,
        number: usize,
        uniform: &wgpu::Buffer,
        buffers: &Buffers<'_>,
    ) -> Result<bool> {
        let mut any = false;
        for l in live.list.iter_mut().filter(|l| l.before == number) {
            let count = buffers.slot(l.count.slot)?;
            let at = l.groups.at(vec![count.id()], || {
                let range = |buffer, offset, bytes| {
                    let size = wgpu::BufferSize::new(bytes);
                    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
                };
                let resources = [
                    l.params.as_entire_binding(),
                    range(count.raw()?, l.count.offset, l.count.bytes),
                    live.table.as_entire_binding(),
                    uniform.as_entire_binding(),
                    live.args.as_entire_binding(),
                ];
                let entries: Vec<_> = (0u32..)
                    .zip(resources)
                    .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
                    .collect();
                let (label, layout) = (Some("acclimate.live_rows"), &live.pipeline.layout);
                Ok(self.device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout, entries: &entries }))
            })?;
            pass.set_pipeline(&live.pipeline.raw);
            pass.set_bind_group(0, &l.groups.groups[at].1, &[]);
            pass.dispatch_workgroups(l.workgroups, 1, 1);
            Counters::add(&self.counters.dispatches, 1);
            any = true;
        }
        Ok(any)
    }

    /// Memory for what is read; `None` if nothing is.
    fn staging(&self, run: &Run<'_>) -> Result<Option<GpuBuffer>> {
        match run.read.iter().map(|&(_, bytes)| padded(bytes)).sum::<usize>() {
            0 => Ok(None),
            bytes => self.staging.take(bytes, "a read-back").map(Some),
        }
    }

    /// Writes the scalars that changed since the state's last run.
    fn write_scalars(&self, ready: &Ready, state: &mut State, scalars: &[u32]) -> Result<()> {
        let (mut first, mut end) = (usize::MAX, 0);
        for &(word, scalar) in &ready.scalars {
            let missing = || Error::internal("run", format!("no host scalar {scalar}"));
            let bits = *scalars.get(scalar).ok_or_else(missing)?;
            if state.words[word] != bits {
                state.words[word] = bits;
                (first, end) = (first.min(word), end.max(word + 1));
            }
        }
        if let (Some(uniform), true) = (&state.uniform, first < end) {
            let bytes = bytemuck::cast_slice(&state.words[first..end]);
            self.queue.write_buffer(uniform, 4 * first as u64, bytes);
        }
        Ok(())
    }

    fn bind_group<'a>(
        &self,
        launch: &Launch,
        cached: &'a mut Cached,
        uniform: Option<&wgpu::Buffer>,
        buffers: &Buffers<'_>,
    ) -> Result<&'a wgpu::BindGroup> {
        let key = launch.ranges.iter().map(|r| Ok(buffers.slot(r.slot)?.id())).collect::<Result<Vec<u64>>>()?;
        let at = cached.at(key, || self.new_group(launch, uniform, buffers))?;
        Ok(&cached.groups[at].1)
    }

    fn new_group(
        &self,
        launch: &Launch,
        uniform: Option<&wgpu::Buffer>,
        buffers: &Buffers<'_>,
    ) -> Result<wgpu::BindGroup> {
        let uniform = uniform.ok_or_else(|| Error::internal("run", "a launch without parameters"))?;
        let binding = |buffer, offset, bytes| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(bytes) })
        };
        let mut entries =
            vec![wgpu::BindGroupEntry { binding: 0, resource: binding(uniform, launch.params.0, launch.params.1) }];
        for (i, &Range { slot, offset, bytes }) in launch.ranges.iter().enumerate() {
            let raw = buffers.slot(slot)?.raw()?;
            if offset + bytes > raw.size() {
                let (size, label) = (raw.size(), &launch.label);
                return Err(Error::internal("run", format!("{label} binds {bytes} bytes at {offset} of {size}")));
            }
            entries.push(wgpu::BindGroupEntry {
                binding: u32::try_from(i + 1).unwrap_or(u32::MAX),
                resource: binding(raw, offset, bytes),
            });
        }
        let layout = &launch.pipeline.layout;
        let desc = wgpu::BindGroupDescriptor { label: Some(&launch.label), layout, entries: &entries };
        Ok(self.device.create_bind_group(&desc))
    }
}

impl Cached {
    /// The index of the bind group for these buffers, made if it is new.
    fn at(&mut self, key: Vec<u64>, make: impl FnOnce() -> Result<wgpu::BindGroup>) -> Result<usize> {
        if let Some(found) = self.groups.iter().position(|(k, _)| *k == key) {
            return Ok(found);
        }
        let group = make()?;
        if self.groups.len() < KEPT {
            self.groups.push((key, group));
            return Ok(self.groups.len() - 1);
        }
        let at = self.turn % KEPT;
        self.turn += 1;
        self.groups[at] = (key, group);
        Ok(at)
    }
}
