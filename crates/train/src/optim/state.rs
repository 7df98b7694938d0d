//! What an optimizer remembers from step to step: named tensors, donated and saved with the parameters.

use std::fmt;

use acclimate_tensor::{Device, Result as TensorResult, Tensor, Tree};

use crate::error::{Error, Result};

/// Named tensors. In a chain the names are `<position>/<link>/<what>`, for example `1/adamw/first_moment`; a link sees
/// its own alone, as `<what>`.
#[derive(Clone, Default)]
pub struct State {
    entries: Vec<(String, Tensor)>,
}

impl State {
    /// Remembers nothing.
    pub fn new() -> Self {
        State::default()
    }

    /// With one more tensor.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: Tensor) -> Self {
        self.entries.push((name.into(), value));
        self
    }

    /// Names and tensors, in a fixed order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor)
    }

    /// The tensor called `name`, which a link put there itself.
    ///
    /// # Errors
    /// If it is not there: the state is not of this optimizer.
    pub fn require(&self, name: &str) -> Result<&Tensor> {
        self.get(name).ok_or_else(|| {
            let found: Vec<&str> = self.iter().map(|(name, _)| name).collect();
            let expected = format!("an entry `{name}` (use the state that this optimizer's `init` made)");
            Error::argument("optimizer state", expected, found.join(", "))
        })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|(_, tensor)| tensor.spec().bytes()).sum()
    }

    /// The same values on another device.
    ///
    /// # Errors
    /// If a value cannot be computed, read or uploaded.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |(name, tensor): &(String, Tensor)| Ok((name.clone(), tensor.to_device(device)?));
        Ok(State { entries: self.entries.iter().map(moved).collect::<Result<_>>()? })
    }

    /// The entries of one link: those under `prefix`, without it.
    pub(super) fn under(&self, prefix: &str) -> Self {
        let own = |(name, tensor): &(String, Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()));
        State { entries: self.entries.iter().filter_map(own).collect() }
    }

    /// Appends one link's entries under `prefix`.
    pub(super) fn extend_under(&mut self, prefix: &str, own: State) {
        self.entries.extend(own.entries.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }

    /// Appends entries as they are.
    pub(super) fn extend(&mut self, other: State) {
        self.entries.extend(other.entries);
    }

    /// The old value of every entry where the condition (one bool) is false.
    ///
    /// # Errors
    /// If an entry is missing in `old`, or has another shape or dtype there.
    pub fn held_back(self, step: &Tensor, old: &State) -> Result<Self> {
        let choose = |(name, new): (String, Tensor)| {
            let chosen = or_old(step, &new, old.require(&name)?)?;
            Ok((name, chosen))
        };
        Ok(State { entries: self.entries.into_iter().map(choose).collect::<Result<_>>()? })
    }
}

/// `new` if the condition (one bool) holds, else `old`, bit for bit.
///
/// # Errors
/// If the condition has more than one element, or the values differ in shape or dtype.
pub fn or_old(step: &Tensor, new: &Tensor, old: &Tensor) -> TensorResult<Tensor> {
    // What did not change needs no choice.
    if new.is(old) {
        return Ok(old.clone());
    }
    step.reshape(&[])?.broadcast_to(new.shape())?.select(new, old)
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter().map(|(name, tensor)| (name, tensor))).finish()
    }
}

impl Tree for State {
    type Form = Vec<String>;

    fn take_apart(self, leaves: &mut Vec<Tensor>) -> Self::Form {
        let (names, tensors): (Vec<_>, Vec<_>) = self.entries.into_iter().unzip();
        leaves.extend(tensors);
        names
    }

    fn put_together(form: &Self::Form, leaves: &mut dyn Iterator<Item = Tensor>) -> TensorResult<Self> {
        let entry = |name: &String| Ok((name.clone(), Tensor::put_together(&(), leaves)?));
        Ok(State { entries: form.iter().map(entry).collect::<TensorResult<_>>()? })
    }
}
