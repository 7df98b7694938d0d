//! Results on their way to the host: copied to a staging buffer by the submission that made them, then mapped.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

use crate::engine::Readback;
use crate::error::{Error, Result};

use super::health::Health;
use super::pool::GpuBuffer;

type Mapped = std::result::Result<(), wgpu::BufferAsyncError>;

/// How long a wait lasts before it looks whether the device is lost.
const SLICE: Duration = Duration::from_secs(1);

/// A staging buffer being mapped.
pub(super) struct Pending {
    device: wgpu::Device,
    health: Arc<Health>,
    staging: GpuBuffer,
    /// Bytes of each part, one after the other.
    parts: Vec<usize>,
    submission: wgpu::SubmissionIndex,
    mapped: OneshotReceiver<Mapped>,
}

impl Pending {
    /// Begins to map; the copies have been submitted.
    pub fn new(
        device: &wgpu::Device,
        health: &Arc<Health>,
        staging: GpuBuffer,
        parts: Vec<usize>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Self> {
        let (sender, mapped) = oneshot_channel();
        let end = parts.iter().map(|&n| padded(n)).sum::<usize>() as u64;
        staging.raw()?.map_async(wgpu::MapMode::Read, 0..end, move |result| {
            // The receiver may be gone: then nobody wants to know.
            let _ = sender.send(result);
        });
        Ok(Pending { device: device.clone(), health: health.clone(), staging, parts, submission, mapped })
    }

    /// Whether the mapping has ended, without waiting.
    fn ended(&self) -> Option<Mapped> {
        let receive = pin!(self.mapped.receive());
        match receive.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result.unwrap_or(Err(wgpu::BufferAsyncError))),
            Poll::Pending => None,
        }
    }

    /// Waits for the mapping.
    fn mapped(&self) -> Result<Mapped> {
        loop {
            if let Some(mapped) = self.ended() {
                return Ok(mapped);
            }
            self.health.check()?;
            let submission_index = Some(self.submission.clone());
            match self.device.poll(wgpu::PollType::Wait { submission_index, timeout: Some(SLICE) }) {
                Ok(_) | Err(wgpu::PollError::Timeout) => {}
                Err(error) => {
                    return Err(Error::Driver { what: "a read-back".into(), reason: error.to_string() });
                }
            }
            // Another thread may have taken the event and be about to deliver it.
            std::thread::yield_now();
        }
    }

    /// Shows each part where it was mapped.
    fn show_parts(&self, mapped: Mapped, f: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.health.check()?;
        let fail = |reason: String| Error::Driver { what: "a read-back".into(), reason };
        mapped.map_err(|e| fail(e.to_string()))?;
        let end = self.parts.iter().map(|&n| padded(n)).sum::<usize>() as u64;
        let view = self.staging.raw()?.get_mapped_range(0..end).map_err(|e| fail(e.to_string()))?;
        let mut at = 0;
        for &n in &self.parts {
            f(view.get(at..at + n).ok_or_else(|| fail("the mapped range is too short".into()))?);
            at += padded(n);
        }
        Ok(())
    }

    fn contents(&self, mapped: Mapped) -> Result<Vec<Vec<u8>>> {
        let mut parts = Vec::with_capacity(self.parts.len());
        self.show_parts(mapped, &mut |part| parts.push(part.to_vec()))?;
        Ok(parts)
    }
}

/// Bytes that a part takes in a staging buffer: copies are of whole words.
pub(super) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(4)
}

impl Readback for Pending {
    fn wait(self: Box<Self>) -> Result<Vec<Vec<u8>>> {
        self.contents(self.mapped()?)
    }

    fn show(self: Box<Self>, f: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut first = Some(f);
        self.show_parts(self.mapped()?, &mut |part| first.take().into_iter().for_each(|f| f(part)))
    }

    fn poll(&mut self) -> Option<Result<Vec<Vec<u8>>>> {
        if let Err(error) = self.health.check() {
            return Some(Err(error));
        }
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.ended().map(|mapped| self.contents(mapped))
    }
}
