//! Whether the device still works: errors and loss that the driver reports on its own become values here.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result};

/// Locks; a thread that panicked while holding the lock leaves data that are still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the driver said.
#[derive(Debug)]
pub(super) struct Health {
    device: String,
    lost: OnceLock<String>,
    error: Mutex<Option<Error>>,
}

impl Health {
    /// Listens to a device.
    pub fn watch(device: &wgpu::Device, name: &str) -> Arc<Self> {
        let health = Arc::new(Health { device: name.to_owned(), lost: OnceLock::new(), error: Mutex::new(None) });
        let h = health.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            log::error!("{}: {error}", h.device);
            let error = h.error(error, "a run", 0);
            lock(&h.error).get_or_insert(error);
        }));
        let h = health.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Dropping the last handle is reported too, as destruction; nobody is there to see it.
            h.lose(format!("{reason:?}: {message}"));
        });
        health
    }

    /// Marks the device as lost; the first reason stays.
    pub fn lose(&self, reason: String) {
        let _ = self.lost.set(reason);
    }

    /// Fails if the device is lost, or with the first error reported since the last check.
    pub fn check(&self) -> Result<()> {
        if let Some(reason) = self.lost.get() {
            return Err(Error::DeviceLost { device: self.device.clone(), reason: reason.clone() });
        }
        lock(&self.error).take().map_or(Ok(()), Err)
    }

    /// The typed form of a driver's error.
    pub fn error(&self, error: wgpu::Error, what: &str, needed: u64) -> Error {
        if let Err(lost @ Error::DeviceLost { .. }) = self.check_lost() {
            return lost;
        }
        match error {
            wgpu::Error::OutOfMemory { .. } => self.out_of_memory(what, needed),
            other => Error::Driver { what: what.to_owned(), reason: other.to_string() },
        }
    }

    /// No memory left.
    pub fn out_of_memory(&self, what: &str, needed: u64) -> Error {
        Error::OutOfMemory { device: self.device.clone(), needed, what: what.to_owned() }
    }

    fn check_lost(&self) -> Result<()> {
        match self.lost.get() {
            Some(reason) => Err(Error::DeviceLost { device: self.device.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Calls `make` and catches what the driver says about it.
    pub fn catch<T>(&self, device: &wgpu::Device, what: &str, needed: u64, make: impl FnOnce() -> T) -> Result<T> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        self.check_lost()?;
        let scopes = [OutOfMemory, Internal, Validation].map(|filter| device.push_error_scope(filter));
        let made = make();
        let mut first = None;
        for scope in scopes.into_iter().rev() {
            // Scopes of native devices are ready at once.
            let error = pollster::block_on(scope.pop());
            first = first.or(error);
        }
        match first {
            Some(error) => Err(self.error(error, what, needed)),
            None => self.check_lost().map(|()| made),
        }
    }
}
