//! What a batch method carries, on the host: how it is saved, moved and brought back.

use acclimate_tensor::Tensor;

use crate::adapt::Carried;
use crate::adapt::driver::Driver;
use crate::error::Error;
use crate::receipt::Digest;

/// A carried state on the host: names, sizes, values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostState {
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl HostState {
    /// The values of a state.
    pub fn of(state: &Carried) -> Result<Self, Error> {
        let read = |(name, t): (String, &Tensor)| Ok((name, t.dims().to_vec(), t.to_vec::<f32>()?));
        Ok(HostState { tensors: state.iter().map(read).collect::<Result<_, Error>>()? })
    }

    /// The state with these values on a driver's device, for images of these sizes. Fails where names or shapes are not
    /// those of the driver's own state.
    pub fn on(&self, driver: &Driver, dims: [usize; 3]) -> Result<Carried, Error> {
        let device = driver.params.device();
        let up = |(name, dims, values): &(String, Vec<usize>, Vec<f32>)| {
            Ok((name.clone(), Tensor::from_slice(device, values, dims)?))
        };
        driver.fresh(dims)?.with_values(self.tensors.iter().map(up).collect::<Result<Vec<_>, Error>>()?)
    }

    /// Hash of all names, sizes and bits.
    pub fn digest(&self) -> Digest {
        let mut text = String::new();
        for (name, dims, values) in &self.tensors {
            text.push_str(&format!("{name}={};", Digest::of_tensor(dims, values)));
        }
        Digest::of_bytes(text.as_bytes())
    }
}
