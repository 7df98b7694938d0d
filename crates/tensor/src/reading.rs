//! Elements on their way to the host: wait for them, or await them.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::dtype::Element;
use crate::engine::Readback;
use crate::error::Result;
use crate::tensor::decode;

/// Elements of a tensor whose work has been submitted. [`Reading::wait`] blocks; as a future it does not.
///
/// Dropping it drops the elements, not the work: what was submitted runs to its end.
#[must_use = "elements that are neither waited for nor awaited are lost"]
pub struct Reading<T> {
    readback: Option<Box<dyn Readback>>,
    n: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: Element> Reading<T> {
    /// `n` elements, the first part of a read-back.
    pub(crate) fn new(readback: Box<dyn Readback>, n: usize) -> Self {
        Reading { readback: Some(readback), n, element: PhantomData }
    }

    /// Blocks until the elements are there. Nothing is left of a reading that was awaited to its end before.
    pub fn wait(mut self) -> Result<Vec<T>> {
        match self.readback.take() {
            Some(readback) => Ok(decode(&readback.wait()?.swap_remove(0), self.n)),
            None => Ok(Vec::new()),
        }
    }
}

impl<T: Element> Future for Reading<T> {
    type Output = Result<Vec<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let n = self.n;
        let Some(readback) = &mut self.readback else { return Poll::Ready(Ok(Vec::new())) };
        match readback.poll() {
            Some(done) => {
                self.readback = None;
                Poll::Ready(done.map(|mut parts| decode(&parts.swap_remove(0), n)))
            }
            None => {
                // The driver has no waker; asking again is cheap.
                std::thread::yield_now();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
