//! Layers one after the other.

use std::sync::Arc;

use acclimate_tensor::Tensor;

use crate::error::Result;
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
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

    /// Nothing is left of layers one of which has nothing left.
    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        let (mut layers, mut channels) = (Some(Vec::with_capacity(self.layers.len())), x);
        for layer in &self.layers {
            let one = layer.narrowed(kept, channels)?;
            channels = one.channels;
            layers = layers.zip(one.layer).map(|(mut layers, layer)| {
                layers.push(layer);
                layers
            });
        }
        let layer = layers.map(|layers| Arc::new(Sequential { layers }) as Arc<dyn Layer>);
        Ok(Narrowed { layer, channels })
    }
}
