//! Layers: configuration and paths. The weights are in [`Params`], so a layer is shared freely and runs with any weights.

mod init;
mod narrow;
mod pass;

use std::fmt::Debug;
use std::sync::Arc;

use acclimate_tensor::{Device, Tensor};

pub use init::{Init, Start};
pub use narrow::{Channels, Kept, Narrowed};
pub use pass::{Multiply, Pass, Precision, Product, Statistics};

use crate::error::{Error, Result};
use crate::params::Params;

/// A layer, or a whole model: which parameters it has, and what it makes of an input.
///
/// ```
/// use acclimate_tensor::{Device, Tensor};
/// use acclimate_train::{Layer, nn::Mlp};
///
/// let device = Device::cpu();
/// let model = Mlp::new("digits", 4, &[8], 3);
/// let params = model.init(&device, 7)?;
/// let logits = model.forward(&params, &Tensor::ones(&device, &[2, 4])?)?;
/// assert_eq!(logits.dims(), [2, 3]);
/// # Ok::<(), acclimate_train::Error>(())
/// ```
pub trait Layer: Debug + Send + Sync {
    /// Says which parameters and buffers there are, of which kind, and what they start from.
    fn declare(&self, init: &mut Init) -> Result<()>;

    /// The output for an input whose leading axis counts rows. What happens beside it (running statistics, taps) is
    /// left in `pass`.
    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor>;

    /// [`Layer::apply`] as when answering: source statistics, no dropout, nothing recorded.
    fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        self.apply(params, x, &mut Pass::infer())
    }

    /// The same layer for parameters that keep only some of their channels, and which channels come out of it; `x` are
    /// those of its input that stay, where they can be told. How pruning makes networks smaller (`acclimate-infer`'s
    /// `prune`).
    ///
    /// # Errors
    /// If the layer cannot be narrowed so. Layers that do not say how never can.
    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        let _ = (kept, x);
        Err(Error::argument("layer to narrow", "one that has `Layer::narrowed`", format!("{self:?}")))
    }

    /// New parameters, drawn from the seed: the same on every platform, and each independent of what else there is.
    fn init(&self, device: &Device, seed: u64) -> Result<Params> {
        let mut init = Init::new(seed);
        self.declare(&mut init)?;
        init.into_params(device)
    }
}

impl<T: Layer + ?Sized> Layer for Arc<T> {
    fn declare(&self, init: &mut Init) -> Result<()> {
        (**self).declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        (**self).apply(params, x, pass)
    }

    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        (**self).narrowed(kept, x)
    }
}

/// The path of something inside a layer: `digits` and `fc1` give `digits.fc1`; the empty path is the root.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
