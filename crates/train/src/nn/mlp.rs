//! The multilayer perceptron.

use acclimate_tensor::Tensor;

use super::{Activation, Dropout, Linear, Norm, Sequential};
use crate::error::Result;
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, join};
use crate::params::Params;

/// Linear layers `fc1`, `fc2`, .., between them an activation and, if asked for, normalizations `norm1`, .. and dropout:
/// [.., inputs] → [.., outputs].
#[derive(Clone, Debug)]
pub struct Mlp {
    path: String,
    sizes: Vec<usize>,
    norm: Norm,
    activation: Activation,
    dropout: f32,
    layers: Sequential,
}

impl Mlp {
    /// With rectifiers, without normalization and dropout.
    pub fn new(path: impl Into<String>, inputs: usize, hidden: &[usize], outputs: usize) -> Self {
        let sizes = [&[inputs], hidden, &[outputs]].concat();
        let (path, layers) = (path.into(), Sequential::new());
        Mlp { path, sizes, norm: Norm::None, activation: Activation::Relu, dropout: 0.0, layers }.built()
    }

    /// With a normalization before each activation.
    #[must_use]
    pub fn with_norm(self, norm: Norm) -> Self {
        Mlp { norm, ..self }.built()
    }

    /// With another activation.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Mlp { activation, ..self }.built()
    }

    /// With dropout of probability `p` after each activation.
    #[must_use]
    pub fn with_dropout(self, p: f32) -> Self {
        Mlp { dropout: p, ..self }.built()
    }

    fn built(mut self) -> Self {
        let mut layers = Sequential::new();
        for (i, pair) in self.sizes.windows(2).enumerate() {
            let name = |what: &str| join(&self.path, &format!("{what}{}", i + 1));
            layers = layers.then(Linear::new(name("fc"), pair[0], pair[1]));
            if i + 2 < self.sizes.len() {
                layers = self.norm.of_vectors(layers, name("norm"), pair[1]).then(self.activation);
                layers = layers.then(Dropout::new(name("dropout"), self.dropout));
            }
        }
        self.layers = layers;
        self
    }
}

impl Layer for Mlp {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.layers.declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.layers.apply(params, x, pass)
    }

    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        self.layers.narrowed(kept, x)
    }
}
