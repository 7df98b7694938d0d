//! Buffers by size class, kept when dropped and handed out again.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::device::Counters;
use crate::engine::RawBuffer;
use crate::error::{Error, Result};

use super::health::{Health, lock};

/// Idle bytes that are always kept.
const KEEP: u64 = 64 << 20;

/// The size that is really allocated: eighths of powers of two, at least 256 bytes.
fn class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (1u64 << bytes.ilog2()).div_euclid(8).max(256);
    bytes.next_multiple_of(step)
}

/// A buffer of the driver.
#[derive(Debug)]
struct Raw {
    buffer: wgpu::Buffer,
    id: u64,
    size: u64,
    /// When it came back.
    since: u64,
}

#[derive(Debug, Default)]
struct Idle {
    classes: HashMap<u64, Vec<Raw>>,
    bytes: u64,
    clock: u64,
}

impl Idle {
    fn take(&mut self, size: u64) -> Option<Raw> {
        let raw = self.classes.get_mut(&size)?.pop()?;
        self.bytes -= raw.size;
        Some(raw)
    }

    /// Frees the longest idle buffers until at most `keep` bytes are left.
    fn trim(&mut self, keep: u64) {
        while self.bytes > keep {
            let oldest = self.classes.values_mut().filter(|c| !c.is_empty()).min_by_key(|c| c[0].since);
            let Some(class) = oldest else { return };
            let raw = class.remove(0);
            self.bytes -= raw.size;
            // Cached bind groups may still name it; its memory goes when the last submission that uses it is done.
            raw.buffer.destroy();
        }
        self.classes.retain(|_, c| !c.is_empty());
    }
}

/// What the buffers of a pool are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Values: counted as live bytes.
    Storage,
    /// Read-backs.
    Staging,
}

/// A pool.
pub(super) struct Pool {
    device: wgpu::Device,
    health: Arc<Health>,
    counters: Arc<Counters>,
    usage: Use,
    /// Largest buffer, in bytes.
    largest: u64,
    /// Most live bytes.
    limit: Option<u64>,
    idle: Mutex<Idle>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({:?})", self.usage)
    }
}

/// Identities of buffers: never used twice, so that a bind group's key stays right.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Pool {
    pub fn new(
        device: &wgpu::Device,
        health: &Arc<Health>,
        counters: &Arc<Counters>,
        usage: Use,
        largest: u64,
        limit: Option<u64>,
    ) -> Arc<Self> {
        let (device, health, counters) = (device.clone(), health.clone(), counters.clone());
        Arc::new(Pool { device, health, counters, usage, largest, limit, idle: Mutex::default() })
    }

    /// A buffer of at least `bytes`, with any content.
    pub fn take(self: &Arc<Self>, bytes: usize, what: &str) -> Result<GpuBuffer> {
        let bytes = bytes as u64;
        if bytes > self.largest {
            return Err(Error::Limit { what: what.to_owned(), needed: bytes, limit: self.largest });
        }
        let size = class(bytes).min(self.largest);
        let above = |limit| self.counters.bytes_live.load(Relaxed) + size > limit;
        if self.limit.is_some_and(above) {
            return Err(self.health.out_of_memory(what, size));
        }
        let reused = lock(&self.idle).take(size);
        let raw = match reused {
            Some(raw) => raw,
            None => self.allocate(size, what)?,
        };
        if self.usage == Use::Storage {
            self.counters.live(raw.size);
        }
        Ok(GpuBuffer { raw: Some(raw), pool: self.clone() })
    }

    fn allocate(&self, size: u64, what: &str) -> Result<Raw> {
        let usage = match self.usage {
            Use::Storage => wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            Use::Staging => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        };
        let create = || {
            let desc = wgpu::BufferDescriptor { label: Some("acclimate"), size, usage, mapped_at_creation: false };
            self.health.catch(&self.device, what, size, || self.device.create_buffer(&desc))
        };
        let buffer = match create() {
            Err(error) if error.is_out_of_memory() => {
                // What lies idle may be what is missing. It is free once the work in flight is done.
                lock(&self.idle).trim(0);
                let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
                create()?
            }
            other => other?,
        };
        Counters::add(&self.counters.buffers_allocated, 1);
        Ok(Raw { buffer, id: NEXT.fetch_add(1, Relaxed), size, since: 0 })
    }

    fn give_back(&self, mut raw: Raw) {
        if self.usage == Use::Storage {
            self.counters.dead(raw.size);
        }
        // A step takes again what the last one gave back: as much as was ever live may lie idle.
        let keep = KEEP.max(self.counters.bytes_peak.load(Relaxed));
        let mut idle = lock(&self.idle);
        idle.clock += 1;
        raw.since = idle.clock;
        idle.bytes += raw.size;
        idle.classes.entry(raw.size).or_default().push(raw);
        if idle.bytes > keep {
            idle.trim(keep);
        }
    }
}

/// A buffer in use; goes back to its pool when dropped.
#[derive(Debug)]
pub(super) struct GpuBuffer {
    /// `None` only while it is dropped.
    raw: Option<Raw>,
    pool: Arc<Pool>,
}

impl GpuBuffer {
    /// The driver's buffer.
    pub fn raw(&self) -> Result<&wgpu::Buffer> {
        self.raw.as_ref().map(|r| &r.buffer).ok_or_else(|| Error::internal("buffer", "used after it was dropped"))
    }

    /// Its identity.
    pub fn id(&self) -> u64 {
        self.raw.as_ref().map_or(u64::MAX, |r| r.id)
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            if self.pool.usage == Use::Staging {
                // Also ends a mapping that is still under way.
                raw.buffer.unmap();
            }
            self.pool.give_back(raw);
        }
    }
}

impl RawBuffer for GpuBuffer {
    fn bytes(&self) -> usize {
        self.raw.as_ref().map_or(0, |r| usize::try_from(r.size).unwrap_or(usize::MAX))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn null_classes_waste_at_most_an_eighth() {
        let mut last = 0;
        for bytes in [0, 1, 255, 256, 257, 511, 513, 2048, 2049, 4097, 70_000, 1 << 20, (1 << 20) + 1, (7 << 28) + 5] {
            let size = class(bytes);
            assert!(size >= bytes && size.is_multiple_of(256) && size >= last, "{bytes} -> {size}");
            assert!(size - bytes <= (bytes / 8).max(256), "{bytes} -> {size}");
            assert_eq!(class(size), size);
            last = size;
        }
    }
}
