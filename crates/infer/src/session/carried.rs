//! What a batch method carries from batch to batch: the one seam between the session and the driver's state.

use acclimate_tensor::{Device, Tensor};
use acclimate_train::optim::State;

use crate::adapt::driver::Driver;
use crate::error::Error;
use crate::receipt::Digest;

/// Everything that an adaptation carries on. Whatever a reset must clear and a snapshot must keep is in here.
#[derive(Clone)]
pub(crate) struct Carried {
    /// The overlay Δ.
    pub delta: Tensor,
    /// What the optimizer remembers.
    pub state: State,
}

impl Carried {
    /// The overlay of zeros and the optimizer's first state, with memory of their own.
    pub fn fresh(driver: &Driver) -> Result<Self, Error> {
        let len = driver.overlay.len().max(1);
        let delta = Tensor::from_slice(driver.params.device(), &vec![0f32; len], &[len])?;
        let state = match &driver.method.step {
            Some(optimizer) => optimizer.init(&delta)?,
            None => State::new(),
        };
        Ok(Carried { delta, state })
    }

    /// The values on the host.
    pub fn to_host(&self) -> Result<HostState, Error> {
        let tensors = std::iter::once(("delta", &self.delta)).chain(self.state.iter());
        let read = |(name, t): (&str, &Tensor)| Ok((name.to_owned(), t.dims().to_vec(), t.to_vec::<f32>()?));
        Ok(HostState { tensors: tensors.map(read).collect::<Result<_, Error>>()? })
    }

    /// From the host, with the names and shapes that the driver's own state has.
    pub fn from_host(driver: &Driver, host: &HostState) -> Result<Self, Error> {
        let like = Self::fresh(driver)?;
        let names: Vec<(String, Vec<usize>)> = std::iter::once(("delta", &like.delta))
            .chain(like.state.iter())
            .map(|(name, t)| (name.to_owned(), t.dims().to_vec()))
            .collect();
        let found: Vec<(String, Vec<usize>)> = host.tensors.iter().map(|t| (t.0.clone(), t.1.clone())).collect();
        if names != found {
            let method = driver.method.name();
            return Err(Error::size(
                format!("state carried by `{method}`"),
                format!("{names:?}"),
                format!("{found:?}"),
            ));
        }
        let device: &Device = driver.params.device();
        let mut tensors = host.tensors.iter().map(|(_, dims, values)| Tensor::from_slice(device, values, dims));
        let delta = tensors.next().transpose()?.ok_or(Error::Empty { what: "the state to restore" })?;
        let mut state = State::new();
        for ((name, _), tensor) in names.iter().skip(1).zip(tensors) {
            state = state.with(name.clone(), tensor?);
        }
        Ok(Carried { delta, state })
    }
}

/// A carried state on the host: names, sizes, values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostState {
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl HostState {
    /// Hash of all names, sizes and bits.
    pub fn digest(&self) -> Digest {
        let mut text = String::new();
        for (name, dims, values) in &self.tensors {
            text.push_str(&format!("{name}={};", Digest::of_tensor(dims, values)));
        }
        Digest::of_bytes(text.as_bytes())
    }
}
