//! Layers one after the other.

use std::sync::Arc;

use acclimate_tensor::Tensor;

use crate::error::Result;
use crate::layer::{Init, Layer, Pass};
use crate::params::Params;

/// Runs its layers in order.
#[derive(Clone, Debug, Default)]
pub struct Sequential {
    layers: Vec<Arc<dyn Layer>>,
}

impl Sequential {
    /// No layer yet: the identity.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more layer at the end.
    #[must_use]
    pub fn then(mut self, layer: impl Layer + 'static) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// The layers.
    pub fn layers(&self) -> &[Arc<dyn Layer>] {
        &self.layers
    }
}

impl Layer for Sequential {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.layers.iter().try_for_each(|layer| layer.declare(init))
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.apply(params, &x, pass))
    }
}
