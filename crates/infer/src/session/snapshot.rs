//! A session's state on the host: to save it, to move it to another device, to go on when the device is gone.

use std::path::Path;

use acclimate_tensor::Device;
use acclimate_train::optim::State;
use acclimate_train::{Params, checkpoint};
use serde::{Deserialize, Serialize};

use super::carried::HostState;
use super::program::Ladder;
use super::watch::Watch;
use super::{HostModel, Mode, Session};
use crate::adapt::Carried;
use crate::adapt::driver::Driver;
use crate::error::Error;
use crate::receipt::{Digest, Event};

/// Everything a session carries, on the host. It belongs to a model and a method, and is checked against both.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    head: Head,
    /// `None`: the source model itself.
    carried: Option<HostState>,
}

/// All but the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    base: Digest,
    method: String,
    config: serde_json::Value,
    slots: usize,
    seed: u64,
    index: u64,
    batch: u64,
    since_reset: u64,
    mode: Mode,
    /// What watches the session: detectors, the judge, side sensors.
    watch: serde_json::Value,
    /// What happened since the last answer.
    events: serde_json::Value,
    /// The device it was taken on.
    device: String,
    /// Sizes of the images it answered last.
    dims: Option<[usize; 3]>,
    /// Whether there are tensors.
    carries: bool,
}

impl Snapshot {
    /// Answers that the session had given.
    pub fn answered(&self) -> u64 {
        self.head.index
    }

    /// Answers that had shaped the state since its last reset.
    pub fn since_reset(&self) -> u64 {
        self.head.since_reset
    }

    /// The device it was taken on, as it prints itself.
    pub fn device(&self) -> &str {
        &self.head.device
    }

    /// Hash of the carried tensors' names, sizes and bits: equal for equal states, whatever the device.
    pub fn digest(&self) -> Digest {
        self.carried.as_ref().map_or_else(|| HostState::default().digest(), HostState::digest)
    }

    /// The carried tensors on a driver's device.
    fn carried_on(&self, driver: &Driver) -> Result<Option<Carried>, Error> {
        let Some(host) = &self.carried else { return Ok(None) };
        let dims = self.head.dims.ok_or(Error::Empty { what: "the image sizes of a snapshot with a state" })?;
        Ok(Some(host.on(driver, dims)?))
    }

    /// Writes it into a folder: the tensors as safetensors, and a manifest with hashes that is replaced in one rename.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let cpu = Device::cpu();
        // A file of tensors has at least one.
        let nothing = vec![("nothing".to_owned(), vec![1], vec![0f32])];
        let tensors = self.carried.as_ref().map_or(nothing, |host| host.tensors.clone());
        let snapshot = checkpoint::Snapshot {
            params: &Params::from_named(&cpu, tensors)?,
            state: &State::new(),
            step: self.head.index,
            seed: self.head.seed,
            run: &self.head,
        };
        checkpoint::save(folder, &snapshot)?;
        Ok(())
    }

    /// Reads what [`Snapshot::save`] wrote, after checking sizes and hashes.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let read = checkpoint::load(folder)?;
        let head: Head = read.run()?;
        let carried = head.carries.then_some(HostState { tensors: read.parameters });
        Ok(Snapshot { head, carried })
    }
}

fn to_json(value: &impl Serialize) -> Result<serde_json::Value, Error> {
    serde_json::to_value(value).map_err(|source| Error::Encode { what: "monitors and events of a session", source })
}

impl Session {
    /// The state on the host. Fails if the device is gone; then [`Session::rebuild_on`] goes on from the last mirror.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let head = Head {
            base: self.base,
            method: self.method().name().to_owned(),
            config: self.config.clone(),
            slots: self.slots,
            seed: self.seed,
            index: self.index,
            batch: self.batch,
            since_reset: self.since_reset,
            mode: self.mode,
            watch: to_json(&self.watch)?,
            events: to_json(&self.events)?,
            device: self.device.to_string(),
            dims: self.dims,
            carries: self.carried.is_some(),
        };
        Ok(Snapshot { head, carried: self.carried.as_ref().map(HostState::of).transpose()? })
    }

    /// Takes over a state of the same model and method, from this device or another: seed, sequence numbers and
    /// everything carried. On the device it was taken on, what follows equals the straight run, bit for bit.
    ///
    /// Fails, changing nothing, if the snapshot is of another model, method or configuration.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let Head { base, config, slots, seed, index, batch, since_reset, mode, .. } = &snapshot.head;
        if *base != self.base {
            return Err(Error::size("base hash of the snapshot", self.base, base));
        }
        if *config != self.config {
            return Err(Error::Method {
                method: self.method().name().to_owned(),
                what: format!("a snapshot of `{}` with another configuration", snapshot.head.method),
                expected: "a snapshot of this method".into(),
            });
        }
        let driver = &self.ladder.full().driver;
        let carried = snapshot.carried_on(driver)?;
        let from_json = |source| Error::Encode { what: "what a snapshot says of monitors and events", source };
        let watch: Watch = serde_json::from_value(snapshot.head.watch.clone()).map_err(from_json)?;
        let events = serde_json::from_value(snapshot.head.events.clone()).map_err(from_json)?;
        (self.watch, self.events) = (watch.with_images_of(&self.watch)?, events);
        (self.slots, self.seed, self.index, self.batch) = ((*slots).max(1), *seed, *index, *batch);
        self.dims = snapshot.head.dims;
        (self.since_reset, self.mode, self.carried) = (*since_reset, *mode, carried);
        Ok(())
    }

    /// Keeps a copy of the state on the host, renewed after every `batches` batches, so that little of it is lost with
    /// the device. Costs a read-back of the state each time; 0 keeps none.
    #[must_use]
    pub fn mirrored_every(mut self, batches: u64) -> Self {
        self.mirror_every = batches;
        self
    }

    pub(super) fn mirror_if_due(&mut self) -> Result<(), Error> {
        if self.mirror_every > 0 && self.batch.is_multiple_of(self.mirror_every) && !self.method().is_per_input() {
            self.mirror = Some(self.snapshot()?);
        }
        Ok(())
    }

    /// The session again on another device, from what is on the host: source parameters, seed, sequence numbers, log,
    /// deadline. The state comes along if it can still be read, or else from the last mirror
    /// ([`Session::mirrored_every`]); without one it is the source model's. The next receipt says which.
    pub fn rebuild_on(mut self, device: &Device) -> Result<Self, Error> {
        let own = if self.lost { None } else { self.snapshot().ok() };
        let state = own.or_else(|| self.mirror.take());
        let driver = &self.ladder.full().driver;
        let params = match &self.host {
            Some(host) => host.to_device(device)?,
            None => driver.params.to_device(device)?,
        };
        let source = driver.source.as_ref().map(|source| source.to_device(device)).transpose()?;
        let ladder = Ladder::new(&driver.model, &params, &driver.method, &source)?;
        let mut session =
            Self::over(ladder.into(), device.clone(), self.base, self.config.clone(), HostModel::of(&params)?);
        (session.slots, session.seed, session.index, session.batch) = (self.slots, self.seed, self.index, self.batch);
        (session.mode, session.watch) = (self.mode, std::mem::take(&mut self.watch));
        let with_state = state.as_ref().is_some_and(|s| s.carried.is_some());
        if let Some(state) = state.as_ref().filter(|s| s.carried.is_some()) {
            session.carried = state.carried_on(&session.ladder.full().driver)?;
            (session.since_reset, session.dims) = (state.head.since_reset, state.head.dims);
        }
        session.budget = self.budget.fresh();
        session.mirror_every = self.mirror_every;
        session.events = std::mem::take(&mut self.events);
        session.events.push(Event::Moved { from: self.device.to_string(), with_state });
        session.log = self.log.take();
        Ok(session)
    }
}
