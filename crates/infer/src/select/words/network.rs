//! The two networks: what reads, and what scores.

use acclimate_kernels::{TensorOps, random};
use acclimate_tensor::{DType, Tensor};
use acclimate_train::layer::{Init, Start, join};
use acclimate_train::nn::{Dropout, Linear};
use acclimate_train::{Kind, Layer, Params, Pass, Result as TrainResult};

/// Logit of a word that must not be attended to.
const NEVER: f32 = -1e9;

/// Reads words with weights w in 0..1: e = table\[ids\]; h = e + softmax(QKᵀ/√d + ln w)·V, a head of self-attention;
/// y = MLP(Σ_i w_i h_i / (1 + Σ_i w_i)). Shapes: ids (u32) [n, l] and weights [n, l] → [n, classes]. A word of weight 0 is
/// as if it were not there. In training a share of the words is dropped.
#[derive(Clone, Debug)]
pub struct Reader {
    path: String,
    n_words: usize,
    width: usize,
    classes: usize,
    word_dropout: f32,
}

impl Reader {
    /// Over a vocabulary of `n_words` words, padding included. Half of the words are dropped in training.
    pub fn new(path: impl Into<String>, n_words: usize, width: usize, classes: usize) -> Self {
        Reader { path: path.into(), n_words, width, classes, word_dropout: 0.5 }
    }

    /// With another share of words dropped in training, in [0, 1).
    #[must_use]
    pub fn word_dropout(self, share: f32) -> Self {
        Reader { word_dropout: share, ..self }
    }

    /// Words it knows, padding included.
    pub fn n_words(&self) -> usize {
        self.n_words
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    fn layers(&self) -> [Linear; 5] {
        let layer = |name: &str, outputs| Linear::new(join(&self.path, name), self.width, outputs);
        let plain = |name: &str| layer(name, self.width).without_bias();
        [plain("query"), plain("key"), plain("value"), layer("fc1", self.width), layer("fc2", self.classes)]
    }

    /// Logits of words with weights.
    pub fn read(&self, params: &Params, ids: &Tensor, weights: &Tensor, pass: &mut Pass) -> TrainResult<Tensor> {
        let &[n, l] = ids.dims() else {
            return Err(acclimate_tensor::Error::shape("reader", "ids [n, l]", ids.shape().to_string()).into());
        };
        let mut weights = weights.clone();
        if let Some(key) = pass.key()?.filter(|_| self.word_dropout > 0.0) {
            let keep = random::bernoulli(&key, 1.0 - self.word_dropout, &[n, l])?;
            weights = keep.select(&weights, &weights.zeros_like()?)?;
        }
        let [query, key, value, fc1, fc2] = self.layers();
        let words = params.get(&join(&self.path, "table"))?.take(ids)?;
        let (q, k) = (query.apply(params, &words, pass)?, key.apply(params, &words, pass)?);
        let heard = weights.gt(&weights.zeros_like()?)?;
        let tiny = weights.full_like(f32::MIN_POSITIVE)?;
        let loud = heard.select(&weights.maximum(&tiny)?.ln()?, &weights.full_like(NEVER)?)?;
        let scores = q.matmul_nt(&k)?.mul_scalar(1.0 / (self.width as f32).sqrt())?.add(&loud.reshape(&[n, 1, l])?)?;
        let words = words.add(&scores.softmax(-1)?.matmul(&value.apply(params, &words, pass)?)?)?;
        let sum = weights.reshape(&[n, 1, l])?.matmul(&words)?.reshape(&[n, self.width])?;
        let mean = sum.div(&weights.sum_keep(&[1])?.add_scalar(1.0)?)?;
        let hidden = fc1.apply(params, &mean, pass)?.relu()?;
        let hidden = Dropout::new(join(&self.path, "dropout"), 0.3).apply(params, &hidden, pass)?;
        fc2.apply(params, &hidden, pass)
    }
}

/// 1 for every word, 0 for padding.
pub(super) fn present(ids: &Tensor) -> TrainResult<Tensor> {
    Ok(ids.ne(&Tensor::full_u32(ids.device(), ids.dims(), 0)?)?.cast(DType::F32)?)
}

impl Layer for Reader {
    fn declare(&self, init: &mut Init) -> TrainResult<()> {
        let dims = [self.n_words, self.width];
        init.param(join(&self.path, "table"), &dims, Kind::Embedding, Start::Normal(0.1))?;
        self.layers().iter().try_for_each(|layer| layer.declare(init))
    }

    /// All words.
    fn apply(&self, params: &Params, ids: &Tensor, pass: &mut Pass) -> TrainResult<Tensor> {
        self.read(params, ids, &present(ids)?, pass)
    }
}

/// Scores words: s_i = e_i·(W c + b) with e = table\[ids\] and c = Σ_i e_i/√l over the l words of the text. Shapes: ids
/// (u32) [n, l] → [n, l]; padding gets a score below all others.
#[derive(Clone, Debug)]
pub struct Scorer {
    path: String,
    n_words: usize,
    width: usize,
}

impl Scorer {
    /// Over a vocabulary of `n_words` words, padding included.
    pub fn new(path: impl Into<String>, n_words: usize, width: usize) -> Self {
        Scorer { path: path.into(), n_words, width }
    }

    /// Words it knows, padding included.
    pub fn n_words(&self) -> usize {
        self.n_words
    }

    fn context(&self) -> Linear {
        Linear::new(join(&self.path, "context"), self.width, self.width)
    }
}

impl Layer for Scorer {
    fn declare(&self, init: &mut Init) -> TrainResult<()> {
        let dims = [self.n_words, self.width];
        init.param(join(&self.path, "table"), &dims, Kind::Embedding, Start::Normal(0.3))?;
        self.context().declare(init)
    }

    fn apply(&self, params: &Params, ids: &Tensor, pass: &mut Pass) -> TrainResult<Tensor> {
        let &[n, l] = ids.dims() else {
            return Err(acclimate_tensor::Error::shape("scorer", "ids [n, l]", ids.shape().to_string()).into());
        };
        let words = params.get(&join(&self.path, "table"))?.take(ids)?;
        let there = present(ids)?;
        let sum = there.reshape(&[n, 1, l])?.matmul(&words)?.reshape(&[n, self.width])?;
        let length = there.sum_keep(&[1])?.maximum(&Tensor::ones(ids.device(), &[1, 1])?)?;
        let asked = self.context().apply(params, &sum.div(&length.sqrt()?)?, pass)?;
        let scores = words.matmul(&asked.reshape(&[n, self.width, 1])?)?.reshape(&[n, l])?;
        Ok(there.gt(&there.zeros_like()?)?.select(&scores, &scores.full_like(NEVER)?)?)
    }
}
