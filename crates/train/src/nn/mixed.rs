//! A network in mixed precision.

use std::sync::Arc;

use acclimate_tensor::Tensor;

use crate::error::Result;
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, Precision};
use crate::params::Params;

/// A network whose products are of halves in every pass ([`Precision::Half`]). Its parameters are those of the network: f32,
/// under the same paths.
///
/// ```
/// # use acclimate_train::{Result, fit::Fit, loss, nn::{Mixed, Mlp}, optim};
/// let model = Mixed::new(Mlp::new("digits", 784, &[64], 10));
/// let fit = Fit::supervised(model, optim::adam(1e-3).scale_loss(), loss::cross_entropy);
/// ```
#[derive(Clone, Debug)]
pub struct Mixed(Arc<dyn Layer>);

impl Mixed {
    /// Of a network.
    pub fn new(network: impl Layer + 'static) -> Self {
        Mixed(Arc::new(network))
    }
}

impl Layer for Mixed {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.0.declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let before = pass.set_precision(Precision::Half);
        let y = self.0.apply(params, x, pass);
        pass.set_precision(before);
        y
    }

    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        let Narrowed { layer, channels } = self.0.narrowed(kept, x)?;
        Ok(Narrowed { layer: layer.map(|layer| Arc::new(Mixed(layer)) as Arc<dyn Layer>), channels })
    }
}
