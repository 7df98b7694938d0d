//! A pass through a model: how its layers should behave, and what they leave beside the output.

use acclimate_kernels::Conv2d;
use acclimate_kernels::random::Key;
use acclimate_tensor::Tensor;

use crate::error::Result;

/// Where batch normalization takes its statistics from when answering.
///
/// μs, σ²s are the running (source) statistics, μt, σ²t those of the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Statistics {
    /// Source: μs and σ²s.
    #[default]
    Source,
    /// The batch: μt and σ²t (biased).
    Batch,
    /// (1 − α)·source + α·batch, with the unbiased variance of the batch.
    Alpha(f32),
    /// Source with the weight N/(N + n), the batch (biased variance) with n/(N + n); n is the number of rows.
    /// Schneider et al. 2020.
    Prior(f32),
    /// Running statistics updated by the batch with this momentum, then used; the updates are recorded. No gradient
    /// flows through them.
    Ema(f32),
    /// As [`Statistics::Ema`] with the biased variance, and gradients flow through the batch's share (Yuan, Xie, Li 2023,
    /// RoTTA).
    Robust(f32),
}

#[derive(Clone, Debug)]
enum Mode {
    Infer,
    Train(Key),
}

/// A product with a weight: y = W·x of a linear layer, or W ∗ x of a convolution, before any bias.
#[derive(Clone, Debug)]
pub struct Product {
    /// Path of the weight.
    pub path: String,
    /// What was multiplied: [.., inputs], or [n, c, h, w].
    pub x: Tensor,
    /// What came out.
    pub y: Tensor,
    /// How the kernel slid, if it is a convolution.
    pub sliding: Option<Conv2d>,
}

/// How layers should behave in one forward pass, and what they record in it.
///
/// Answering records no new running statistics, except with [`Statistics::Ema`] and
/// [`Statistics::Robust`], whose point they are. Training
/// normalizes by the batch and records them. Under `vmap` the records have a value for each input, which
/// `Params::with_buffers` refuses for shared buffers: their shape does not fit.
#[derive(Clone, Debug)]
pub struct Pass {
    mode: Mode,
    statistics: Statistics,
    updates: Vec<(String, Tensor)>,
    taps: Option<Vec<(String, Tensor)>>,
    products: Option<Vec<Product>>,
    features: Option<(String, Tensor)>,
    /// Whether the side head is asked for, and whether there was one.
    side: Option<bool>,
    n_draws: u32,
}

/// Making one.
impl Pass {
    /// Answering: source statistics, no dropout.
    pub fn infer() -> Self {
        Pass {
            mode: Mode::Infer,
            statistics: Statistics::Source,
            updates: Vec::new(),
            taps: None,
            products: None,
            features: None,
            side: None,
            n_draws: 0,
        }
    }

    /// Training: batch statistics, running statistics recorded, dropout drawn from `key`.
    pub fn train(key: Key) -> Self {
        Pass { mode: Mode::Train(key), ..Self::infer() }
    }

    /// With other statistics for batch normalization; training ignores them.
    #[must_use]
    pub fn with_statistics(self, statistics: Statistics) -> Self {
        Pass { statistics, ..self }
    }

    /// Asks for the output of the side head of [`crate::nn::TwoHeads`]; see [`Pass::had_side_head`].
    #[must_use]
    pub fn with_side_head(self) -> Self {
        Pass { side: Some(false), ..self }
    }

    /// Records the input of every normalization layer.
    #[must_use]
    pub fn with_taps(self) -> Self {
        Pass { taps: Some(Vec::new()), ..self }
    }

    /// Records every product with a weight of a linear layer or a convolution.
    #[must_use]
    pub fn with_products(self) -> Self {
        Pass { products: Some(Vec::new()), ..self }
    }
}

/// What was recorded.
impl Pass {
    /// New running statistics by path, for `Params::with_buffers`.
    pub fn take_updates(&mut self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut self.updates)
    }

    /// Inputs of the normalization layers by the layer's path, in the order of the pass; empty without taps.
    pub fn take_taps(&mut self) -> Vec<(String, Tensor)> {
        self.taps.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Products with weights in the order of the pass; empty unless asked for.
    pub fn take_products(&mut self) -> Vec<Product> {
        self.products.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether the pass went through a side head: if not, the output is that of the task.
    pub fn had_side_head(&self) -> bool {
        self.side == Some(true)
    }

    /// Path and input of the last linear layer of the pass: of a classifier, what it tells the classes apart by.
    pub fn take_features(&mut self) -> Option<(String, Tensor)> {
        self.features.take()
    }
}

/// For layers.
impl Pass {
    /// Whether this is training.
    pub fn is_training(&self) -> bool {
        matches!(self.mode, Mode::Train(_))
    }

    /// The statistics to use when answering.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// A key of one's own in training, another at each call; none when answering.
    pub fn key(&mut self) -> Result<Option<Key>> {
        let Mode::Train(key) = &self.mode else { return Ok(None) };
        let own = key.fold_in(self.n_draws)?;
        self.n_draws = self.n_draws.wrapping_add(1);
        Ok(Some(own))
    }

    /// Records the new value of a buffer.
    pub fn update(&mut self, path: String, value: Tensor) {
        self.updates.push((path, value));
    }

    /// Whether to go through the side head; notes that there is one.
    pub fn enter_side_head(&mut self) -> bool {
        let asked = self.side.is_some();
        self.side = self.side.map(|_| true);
        asked
    }

    /// Records the input of a linear layer.
    pub fn feature(&mut self, path: &str, x: &Tensor) {
        self.features = Some((path.to_owned(), x.clone()));
    }

    /// Records the input of a normalization layer, if taps are asked for.
    pub fn tap(&mut self, path: &str, x: &Tensor) {
        if let Some(taps) = &mut self.taps {
            taps.push((path.to_owned(), x.clone()));
        }
    }

    /// Records a product with a weight, if they are asked for.
    pub fn product(&mut self, path: &str, x: &Tensor, y: &Tensor, sliding: Option<Conv2d>) {
        if let Some(products) = &mut self.products {
            products.push(Product { path: path.to_owned(), x: x.clone(), y: y.clone(), sliding });
        }
    }
}
