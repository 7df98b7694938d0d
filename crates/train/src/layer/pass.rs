//! A pass through a model: how its layers should behave, and what they leave beside the output.

use acclimate_kernels::random::Key;
use acclimate_kernels::{Conv2d, TensorOps};
use acclimate_tensor::Tensor;

use crate::data::nearest;
use crate::error::{Error, Result};

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

/// How products with weights are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// In f32.
    #[default]
    Single,
    /// Mixed, as in PyTorch's `autocast`: inputs, weights and results of linear layers and convolutions are rounded to f16,
    /// and so are the gradients that flow back through them; products are summed in f32. Everything else, the parameters
    /// among it, stays f32. Train with [`crate::optim::Optimizer::scale_loss`].
    Half,
}

#[derive(Clone, Debug)]
enum Mode {
    Infer,
    Train(Key),
}

/// What a layer does with an input and a weight.
pub type Multiply<'a> = &'a dyn Fn(&Tensor, &Tensor) -> acclimate_tensor::Result<Tensor>;

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

/// Outputs of layers that were asked for, and which layers there were.
#[derive(Clone, Debug)]
struct Outputs {
    wanted: Vec<String>,
    found: Vec<(String, Tensor)>,
    passed: Vec<String>,
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
    precision: Precision,
    updates: Vec<(String, Tensor)>,
    taps: Option<Vec<(String, Tensor)>>,
    products: Option<Vec<Product>>,
    features: Option<(String, Tensor)>,
    outputs: Option<Outputs>,
    /// Whether the side head is asked for, and whether there was one.
    side: Option<bool>,
    /// The same of the teacher.
    teacher: Option<bool>,
    n_draws: u32,
}

/// Making one.
impl Pass {
    /// Answering: source statistics, no dropout.
    pub fn infer() -> Self {
        Pass {
            mode: Mode::Infer,
            statistics: Statistics::Source,
            precision: Precision::Single,
            updates: Vec::new(),
            taps: None,
            products: None,
            features: None,
            outputs: None,
            side: None,
            teacher: None,
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

    /// With products in another precision. To have all passes of a model so, wrap it: [`crate::nn::Mixed`].
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Pass { precision, ..self }
    }

    /// Asks for the output of the side head of [`crate::nn::TwoHeads`]; see [`Pass::had_side_head`].
    #[must_use]
    pub fn with_side_head(self) -> Self {
        Pass { side: Some(false), ..self }
    }

    /// Asks for the output of the teacher of [`crate::nn::Taught`]; see [`Pass::had_teacher`].
    #[must_use]
    pub fn with_teacher(self) -> Self {
        Pass { teacher: Some(false), ..self }
    }

    /// Records what the layers of these paths give: features for a hint, say. Convolutions, linear maps, embeddings,
    /// normalization layers and residual blocks have a path (a block's is after its activation).
    ///
    /// ```
    /// use acclimate_tensor::{Device, Tensor};
    /// use acclimate_train::{Layer, Pass, nn::zoo::CifarResNet};
    ///
    /// let device = Device::cpu();
    /// let model = CifarResNet::new(8, 10)?;
    /// let params = model.init(&device, 0)?;
    /// let mut pass = Pass::infer().with_outputs(["layer2.0"]);
    /// model.apply(&params, &Tensor::zeros(&device, &[1, 3, 32, 32])?, &mut pass)?;
    /// assert_eq!(pass.output_of("layer2.0")?.dims(), [1, 32, 16, 16]);
    /// # Ok::<(), acclimate_train::Error>(())
    /// ```
    #[must_use]
    pub fn with_outputs<S: Into<String>>(self, paths: impl IntoIterator<Item = S>) -> Self {
        let wanted = paths.into_iter().map(Into::into).collect();
        Pass { outputs: Some(Outputs { wanted, found: Vec::new(), passed: Vec::new() }), ..self }
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

    /// Whether the pass went through a teacher: if not, the output is the model's own.
    pub fn had_teacher(&self) -> bool {
        self.teacher == Some(true)
    }

    /// The output of a layer that [`Pass::with_outputs`] asked for; the last one, if the pass went through it more than
    /// once. Fails if there was no such layer; the nearest is suggested.
    pub fn output_of(&self, path: &str) -> Result<Tensor> {
        let mut found = self.outputs.iter().flat_map(|outputs| outputs.found.iter().rev());
        let passed = || self.outputs.iter().flat_map(|outputs| outputs.passed.iter().map(String::as_str));
        found.find(|(p, _)| p == path).map(|(_, y)| y.clone()).ok_or_else(|| Error::UnknownPath {
            what: "output of a layer",
            path: path.to_owned(),
            nearest: nearest(path, passed()),
        })
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

    /// Sets how products are computed from here on, and returns how they were.
    pub fn set_precision(&mut self, precision: Precision) -> Precision {
        std::mem::replace(&mut self.precision, precision)
    }

    /// A product of `x` with the weight `w`, in the precision of the pass: all of a layer's products go through here.
    pub fn multiply(&self, x: &Tensor, w: &Tensor, product: Multiply<'_>) -> acclimate_tensor::Result<Tensor> {
        match self.precision {
            Precision::Single => product(x, w),
            Precision::Half => product(&x.to_f16()?, &w.to_f16()?)?.to_f16()?.f16_to_f32(),
        }
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

    /// Whether to go to the teacher; notes that there is one.
    pub fn enter_teacher(&mut self) -> bool {
        let asked = self.teacher.is_some();
        self.teacher = self.teacher.map(|_| true);
        asked
    }

    /// What a layer gives, on its way; recorded if it is asked for.
    pub fn output(&mut self, path: &str, y: Tensor) -> Tensor {
        if let Some(outputs) = &mut self.outputs {
            if outputs.wanted.iter().any(|wanted| wanted == path) {
                outputs.found.push((path.to_owned(), y.clone()));
            }
            outputs.passed.push(path.to_owned());
        }
        y
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
