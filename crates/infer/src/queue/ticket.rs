//! A place in a queue: what the caller holds, and what the worker owes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::session::Answered;

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    answer: Option<Result<Answered, Error>>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer to come: wait for it, or await it. Dropping it drops the answer, not the work.
#[must_use = "an answer that is neither waited for nor awaited is lost"]
pub struct Ticket {
    slot: Arc<Slot>,
}

impl Ticket {
    /// Blocks until the answer is there.
    pub fn wait(self) -> Result<Answered, Error> {
        let mut state = self.slot.lock();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            state = self.slot.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ticket {
    type Output = Result<Answered, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The other end of a ticket. One that is dropped without an answer answers that the queue has ended.
pub(super) struct Promise {
    slot: Option<Arc<Slot>>,
}

/// A ticket and its promise.
pub(super) fn pair() -> (Ticket, Promise) {
    let slot = Arc::new(Slot::default());
    (Ticket { slot: slot.clone() }, Promise { slot: Some(slot) })
}

impl Promise {
    pub fn keep(mut self, answer: Result<Answered, Error>) {
        self.give(answer);
    }

    fn give(&mut self, answer: Result<Answered, Error>) {
        let Some(slot) = self.slot.take() else { return };
        let mut state = slot.lock();
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        slot.ready.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.give(Err(Error::QueueClosed { why: "its worker ended before it answered this input" }));
    }
}
