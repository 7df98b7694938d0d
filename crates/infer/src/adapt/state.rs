//! Everything that changes while a session runs, in one named value: the overlay, the optimizer's moments, and what
//! guards, teachers and memories remember. Reset gives it its initial values; there is nowhere else to keep state.

use acclimate_tensor::{Device, Result as TensorResult, Tensor, Tree};
use acclimate_train::optim::{State, or_old};

use super::pairs::Pairs;
use crate::error::Error;

const DELTA: &str = "delta";
const OPTIMIZER: &str = "optimizer/";
const MEMORY: &str = "memory/";

/// What a batch method carries from window to window. All of it is tensors, donated to the step that updates them.
#[derive(Clone, Debug)]
pub struct Carried {
    delta: Tensor,
    optimizer: State,
    memory: State,
    /// Steps that are kept as pairs. They end with their input, so they are no part of what is carried on or stored.
    pairs: Option<Pairs>,
}

impl Carried {
    /// An overlay, the optimizer's state and nothing remembered.
    pub(crate) fn new(delta: Tensor, optimizer: State) -> Self {
        Carried { delta, optimizer, memory: State::new(), pairs: None }
    }

    /// The overlay Δ = θ − θ₀, flat.
    pub fn delta(&self) -> &Tensor {
        &self.delta
    }

    /// The optimizer's state.
    pub fn optimizer(&self) -> &State {
        &self.optimizer
    }

    /// Names and tensors in a fixed order: `delta`, `optimizer/..`, `memory/..`. Together they are the whole state.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let under = |prefix: &'static str| move |(name, t)| (format!("{prefix}{name}"), t);
        std::iter::once((DELTA.to_owned(), &self.delta))
            .chain(self.optimizer.iter().map(under(OPTIMIZER)))
            .chain(self.memory.iter().map(under(MEMORY)))
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.iter().map(|(name, _)| name).collect()
    }

    /// The same state with other values, for example from a file. Fails on a name that is unknown, missing or given
    /// twice, and on another shape or dtype.
    pub fn with_values(&self, values: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self, Error> {
        let mut given: Vec<(String, Tensor)> = values.into_iter().collect();
        let mut taken = Vec::new();
        for (name, old) in self.iter() {
            let at = given.iter().position(|(n, _)| *n == name);
            let Some(at) = at else {
                return Err(Error::size("adapted state", format!("a value for `{name}`"), "none"));
            };
            let (_, new) = given.swap_remove(at);
            if new.spec() != old.spec() {
                return Err(Error::size(format!("adapted state `{name}`"), old.spec(), new.spec()));
            }
            taken.push(new);
        }
        if let Some((name, _)) = given.first() {
            return Err(Error::size("adapted state", format!("names among {:?}", self.names()), name));
        }
        let mut leaves = taken.into_iter();
        Ok(Self::put_together(&self.form(), &mut leaves)?)
    }

    /// The same values on another device.
    pub fn to_device(&self, device: &Device) -> Result<Self, Error> {
        Ok(Carried {
            delta: self.delta.to_device(device)?,
            optimizer: self.optimizer.to_device(device)?,
            memory: self.memory.to_device(device)?,
            pairs: None,
        })
    }

    /// What is remembered under a name.
    pub(crate) fn memory(&self, name: &str) -> Result<&Tensor, Error> {
        Ok(self.memory.require(name)?)
    }

    /// What is remembered, all of it.
    pub(crate) fn memories(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.memory.iter()
    }

    /// With another overlay and optimizer state.
    pub(crate) fn stepped(&self, delta: Tensor, optimizer: State) -> Self {
        Carried { delta, optimizer, memory: self.memory.clone(), pairs: self.pairs.clone() }
    }

    /// The steps kept as pairs, if they are.
    pub(super) fn pairs(&self) -> Option<&Pairs> {
        self.pairs.as_ref()
    }

    /// With other steps kept as pairs.
    pub(super) fn with_pairs(self, pairs: Pairs) -> Self {
        Carried { pairs: Some(pairs), ..self }
    }

    /// With one more thing remembered, or another value of it. The order of names stays.
    pub(crate) fn remember(mut self, name: &str, value: Tensor) -> Self {
        let mut memory = State::new();
        let known = self.memory.get(name).is_some();
        for (n, t) in self.memory.iter() {
            memory = memory.with(n, if n == name { value.clone() } else { t.clone() });
        }
        self.memory = if known { memory } else { memory.with(name, value) };
        self
    }

    /// These values where `keep` (a bool of one element), else the old ones, bit for bit.
    pub(crate) fn or_old(&self, keep: &Tensor, old: &Carried) -> Result<Self, Error> {
        Ok(Carried {
            delta: or_old(keep, &self.delta, &old.delta)?,
            optimizer: self.optimizer.clone().held_back(keep, &old.optimizer)?,
            memory: self.memory.clone().held_back(keep, &old.memory)?,
            pairs: None,
        })
    }

    fn form(&self) -> <Self as Tree>::Form {
        let names = |s: &State| s.iter().map(|(name, _)| name.to_owned()).collect();
        (names(&self.optimizer), names(&self.memory))
    }
}

impl Tree for Carried {
    type Form = (Vec<String>, Vec<String>);

    fn take_apart(self, leaves: &mut Vec<Tensor>) -> Self::Form {
        leaves.push(self.delta);
        (self.optimizer.take_apart(leaves), self.memory.take_apart(leaves))
    }

    fn put_together((optimizer, memory): &Self::Form, leaves: &mut dyn Iterator<Item = Tensor>) -> TensorResult<Self> {
        Ok(Carried {
            delta: Tensor::put_together(&(), leaves)?,
            optimizer: State::put_together(optimizer, leaves)?,
            memory: State::put_together(memory, leaves)?,
            pairs: None,
        })
    }
}
