//! A queue for inputs that arrive one by one: a worker groups what waits into the slots of a session, so that one
//! submission answers several callers. It is bounded, answers every input that it took exactly once, and when it is shut
//! down it first answers what waits.

mod ticket;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use acclimate_tensor::Device;

use self::ticket::{Promise, pair};
use crate::error::Error;
use crate::session::{Answered, Session};

pub use self::ticket::Ticket;

/// How a queue works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Inputs that may wait; one more is refused.
    pub capacity: usize,
    /// How long an input waits for company while slots are free.
    pub linger: Duration,
    /// Where the session is built again if its device is lost; the inputs under way are then answered there.
    pub fallback: Option<Device>,
}

impl Default for Options {
    /// 1,024 inputs, no lingering, no fallback.
    fn default() -> Self {
        Options { capacity: 1024, linger: Duration::ZERO, fallback: None }
    }
}

/// A bounded queue before one session. Methods take `&self`: share it by reference or in an `Arc`.
pub struct Queue {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<Option<Session>>>,
}

struct Shared {
    line: Mutex<Line>,
    /// Something to do, or the end.
    arrived: Condvar,
    /// Room for one more, or the end.
    left: Condvar,
    size: usize,
    capacity: usize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Item>,
    closed: bool,
}

struct Item {
    image: Vec<f32>,
    arrived: Instant,
    promise: Promise,
}

impl Queue {
    /// Starts the worker. Batch methods adapt to whatever came together, and plan for each number of inputs; for
    /// per-input methods it makes no difference who came with whom.
    pub fn new(session: Session, dims: [usize; 3], options: Options) -> Result<Self, Error> {
        let size = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(0);
        if size == 0 || options.capacity == 0 {
            return Err(Error::Empty {
                what: if size == 0 { "an image of the queue" } else { "the queue's capacity" },
            });
        }
        let shared = Arc::new(Shared {
            line: Mutex::default(),
            arrived: Condvar::new(),
            left: Condvar::new(),
            size,
            capacity: options.capacity,
        });
        let own = shared.clone();
        let worker = std::thread::Builder::new()
            .name("acclimate-queue".into())
            .spawn(move || {
                // Whatever happens, nobody waits for a worker that is gone.
                let _end = End(&own);
                work(&own, session, dims, &options)
            })
            .map_err(|source| Error::Io { path: "acclimate-queue".into(), action: "start the thread", source })?;
        Ok(Queue { shared, worker: Some(worker) })
    }

    /// Takes an image, or refuses it at once: [`Error::QueueFull`] if there is no room, [`Error::QueueClosed`] after a
    /// shutdown, [`Error::Size`] if it is no image of the queue's sizes.
    pub fn submit(&self, image: impl Into<Vec<f32>>) -> Result<Ticket, Error> {
        let image = self.checked(image.into())?;
        let line = self.shared.lock();
        if !line.closed && line.waiting.len() >= self.shared.capacity {
            return Err(Error::QueueFull { capacity: self.shared.capacity });
        }
        self.push(line, image)
    }

    /// As [`Queue::submit`], blocking until there is room.
    pub fn submit_when_free(&self, image: impl Into<Vec<f32>>) -> Result<Ticket, Error> {
        let image = self.checked(image.into())?;
        let mut line = self.shared.lock();
        while !line.closed && line.waiting.len() >= self.shared.capacity {
            line = self.shared.left.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        self.push(line, image)
    }

    /// Inputs that wait now.
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Takes no more, answers what waits, and gives the session back.
    pub fn shutdown(mut self) -> Result<Session, Error> {
        self.shared.close();
        let ended = Error::QueueClosed { why: "its worker lost the session" };
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(Some(session))) => Ok(session),
            _ => Err(ended),
        }
    }

    fn checked(&self, image: Vec<f32>) -> Result<Vec<f32>, Error> {
        if image.len() == self.shared.size {
            return Ok(image);
        }
        Err(Error::size("values of an image for the queue", self.shared.size, image.len()))
    }

    fn push(&self, mut line: MutexGuard<'_, Line>, image: Vec<f32>) -> Result<Ticket, Error> {
        if line.closed {
            return Err(Error::QueueClosed { why: "it was shut down" });
        }
        let (ticket, promise) = pair();
        line.waiting.push_back(Item { image, arrived: Instant::now(), promise });
        drop(line);
        self.shared.arrived.notify_one();
        Ok(ticket)
    }
}

impl Drop for Queue {
    /// As [`Queue::shutdown`].
    fn drop(&mut self) {
        self.shared.close();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has broken its promises already.
            worker.join().ok();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.left.notify_all();
    }

    /// The next inputs, at most `most`; `None` when the queue is closed and empty.
    fn next(&self, most: usize, linger: Duration) -> Option<Vec<Item>> {
        let mut line = self.lock();
        loop {
            match line.waiting.front() {
                None if line.closed => return None,
                None => line = self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner),
                Some(first) => {
                    let left = linger.saturating_sub(first.arrived.elapsed());
                    if line.closed || left.is_zero() || line.waiting.len() >= most {
                        break;
                    }
                    line = self.arrived.wait_timeout(line, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        let n = most.min(line.waiting.len());
        let items = line.waiting.drain(..n).collect();
        drop(line);
        self.left.notify_all();
        Some(items)
    }
}

/// Closes the queue at the end of the worker's scope, and breaks the promises of what still waits.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.close();
        let waiting = std::mem::take(&mut self.0.lock().waiting);
        drop(waiting);
    }
}

fn work(shared: &Shared, session: Session, dims: [usize; 3], options: &Options) -> Option<Session> {
    let mut session = session;
    while let Some(items) = shared.next(session.n_slots(), options.linger) {
        let images: Vec<f32> = items.iter().flat_map(|item| item.image.iter().copied()).collect();
        let waited = items.first().map_or(Duration::ZERO, |item| item.arrived.elapsed());
        let left = session.allowed().map(|allowed| allowed.saturating_sub(waited));
        let mut result = session.answer_within(&images, dims, left);
        if let (Err(error), Some(device)) = (&result, &options.fallback)
            && error.is_device_lost()
            && !session.device().same(device)
        {
            log::warn!("{error}; going on with {device}");
            session = match session.rebuild_on(device) {
                Ok(session) => session,
                Err(error) => {
                    give(items, Err(error));
                    return None;
                }
            };
            result = session.answer_within(&images, dims, left);
        }
        give(items, result);
    }
    Some(session)
}

/// Each input its answer, or the error that all of them share.
fn give(items: Vec<Item>, result: Result<Vec<Answered>, Error>) {
    match result {
        Ok(answers) => items.into_iter().zip(answers).for_each(|(item, answer)| item.promise.keep(Ok(answer))),
        Err(error) => {
            let error = Arc::new(error);
            items.into_iter().for_each(|item| item.promise.keep(Err(Error::Shared(error.clone()))));
        }
    }
}
