//! Test-time-training layers: sequence layers whose hidden state is a model that learns the sequence as it reads it (Sun,
//! Li, Dalal et al. 2024, "Learning to (learn at test time)").

mod inner;

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{Error as TensorError, Tensor};

use self::inner::{State, Tokens};
use super::{LayerNorm, Linear};
use crate::error::{Error, InLayer, Result};
use crate::layer::{Init, Layer, Pass, Start, join};
use crate::num::real;
use crate::params::{Kind, Params};

/// What the hidden state of a [`Ttt`] layer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inner {
    /// f(x) = LN(x·W + b)·γ + β: TTT-Linear.
    #[default]
    Linear,
    /// f(x) = LN(gelu(x·W₁ + b₁)·W₂ + b₂)·γ + β with four times the width inside: TTT-MLP.
    Mlp,
}

/// In which order the inner steps are computed. The numbers are the same but for rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The tokens of a chunk together, by products of matrices: what to use.
    #[default]
    Dual,
    /// Token by token, each with weights of its own: the definition, which the other is tested against.
    Primal,
}

/// A sequence layer whose hidden state is a model: x [n, l, width] → the same shape, causal, in time linear in l.
///
/// For each token, keys K, queries Q and values V are linear in x, in `heads` parts of width d. While it reads, each head
/// fits f to map keys to V − K, by gradient descent on ½‖f(K) − (V − K)‖² at W of the start of each chunk of tokens:
/// W_i = W − Σ_{j ≤ i} η_ij ∂/∂W of token j, and answers token i with Q_i + f(Q_i; W_i). At the end of a chunk W_i of its last
/// token is the next one's start. The rate is η_ij = base/d · max(0, 1/(i + 1) + δ_i) · σ(a·x_j + a₀), with i the position in
/// the chunk. Then a layer norm, a gate if asked for, and a linear layer.
///
/// The dual form never makes W_i: token i's pre-activation is Q_i W − Σ_{j ≤ i} η_ij (Q_i·K_j) G_j with G the gradient at f's
/// pre-activation, so a chunk is three products of matrices. Gradients by the layer's own parameters, the starts of W among
/// them, go through the inner steps.
///
/// Choices where the paper's two codes differ: rotary positions within the chunk, halves rotated, no convolution before
/// the keys; gelu by tanh; layer norm of f with eps 1e-6; the last chunk may be short.
///
/// Paths: `q`, `k`, `v`, `out` (`weight` [width, width]), `rate.{weight, bias}` [heads, width] and `[heads]`, `rate.position`
/// `[chunk]`, `inner.{w, b}` or `inner.{w1, b1, w2, b2}` [heads, ..], `inner.norm.{weight, bias}` [heads, d],
/// `norm.{weight, bias}` `[width]`, `gate.weight` if there is one.
///
/// ```
/// use acclimate_tensor::{Device, Tensor};
/// use acclimate_train::{Layer, nn::Ttt};
///
/// let device = Device::cpu();
/// let layer = Ttt::linear("ttt", 8, 2)?.chunk(4)?;
/// let params = layer.init(&device, 7)?;
/// let y = layer.forward(&params, &Tensor::ones(&device, &[1, 10, 8])?)?;
/// assert_eq!(y.dims(), [1, 10, 8]);
/// # Ok::<(), acclimate_train::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ttt {
    path: String,
    width: usize,
    heads: usize,
    chunk: usize,
    inner: Inner,
    form: Form,
    base_rate: f32,
    gated: bool,
}

impl Ttt {
    /// TTT-Linear with the paper's base rate of 1 and chunks of 16 tokens. Fails unless `heads` divides `width` into even
    /// parts.
    pub fn linear(path: impl Into<String>, width: usize, heads: usize) -> Result<Self> {
        Self::new(path.into(), width, heads, Inner::Linear, 1.0)
    }

    /// TTT-MLP with the paper's base rate of 0.1 and chunks of 16 tokens. Fails as [`Ttt::linear`].
    pub fn mlp(path: impl Into<String>, width: usize, heads: usize) -> Result<Self> {
        Self::new(path.into(), width, heads, Inner::Mlp, 0.1)
    }

    fn new(path: String, width: usize, heads: usize, inner: Inner, base_rate: f32) -> Result<Self> {
        if heads == 0 || width == 0 || !width.is_multiple_of(2 * heads) {
            let expected = "a number of heads that divides the width into even parts";
            return Err(Error::argument("TTT layer", expected, format!("{heads} heads, width {width}")));
        }
        Ok(Ttt { path, width, heads, chunk: 16, inner, form: Form::Dual, base_rate, gated: false })
    }

    /// With chunks of so many tokens. Fails for 0.
    pub fn chunk(self, tokens: usize) -> Result<Self> {
        if tokens == 0 {
            return Err(Error::argument("TTT layer", "a chunk of at least one token", 0));
        }
        Ok(Ttt { chunk: tokens, ..self })
    }

    /// With another base rate; 0 learns nothing while reading. Fails for one that is negative or not finite.
    pub fn base_rate(self, rate: f32) -> Result<Self> {
        if !(rate.is_finite() && rate >= 0.0) {
            return Err(Error::argument("TTT layer", "a base rate of at least 0", rate));
        }
        Ok(Ttt { base_rate: rate, ..self })
    }

    /// With the output multiplied by gelu(x·Wᵀ) before its last linear layer.
    #[must_use]
    pub fn gated(self) -> Self {
        Ttt { gated: true, ..self }
    }

    /// In another order of computation.
    #[must_use]
    pub fn form(self, form: Form) -> Self {
        Ttt { form, ..self }
    }

    fn head(&self) -> usize {
        self.width / self.heads
    }

    fn name(&self, what: &str) -> String {
        join(&self.path, what)
    }

    fn square(&self, what: &str) -> Linear {
        Linear::new(self.name(what), self.width, self.width).without_bias()
    }

    fn rate(&self) -> Linear {
        Linear::new(self.name("rate"), self.width, self.heads)
    }

    fn norm(&self) -> LayerNorm {
        LayerNorm::new(self.name("norm"), &[self.width]).with_eps(inner::EPS)
    }

    /// Names and sizes of what the hidden state starts from.
    fn starts(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (h, d) = (self.heads, self.head());
        match self.inner {
            Inner::Linear => vec![("w", vec![h, d, d]), ("b", vec![h, 1, d])],
            Inner::Mlp => vec![
                ("w1", vec![h, d, 4 * d]),
                ("b1", vec![h, 1, 4 * d]),
                ("w2", vec![h, 4 * d, d]),
                ("b2", vec![h, 1, d]),
            ],
        }
    }

    /// [n, l, width] → [n, heads, l, d].
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let [n, l] = [x.dims()[0], x.dims()[1]];
        Ok(x.reshape(&[n, l, self.heads, self.head()])?.permute(&[0, 2, 1, 3])?)
    }

    /// Each chunk's factor of the rate by the position of the answered token, and by the token learned from: [1, 1, l, 1]
    /// and [n, heads, 1, l].
    fn rates(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<(Tensor, Tensor)> {
        let chunk = self.chunk;
        let even =
            Tensor::iota(x.device(), &[chunk], 0)?.cast(acclimate_tensor::DType::F32)?.add_scalar(1.0)?.recip()?;
        let position = even.add(&params.get(&self.name("rate.position"))?)?.relu()?;
        let own = self.rate().apply(params, x, pass)?.sigmoid()?.permute(&[0, 2, 1])?;
        let own = own.mul_scalar(self.base_rate / real(self.head()))?.unsqueeze(2)?;
        Ok((position.reshape(&[1, 1, chunk, 1])?, own))
    }
}

impl Layer for Ttt {
    fn declare(&self, init: &mut Init) -> Result<()> {
        for what in ["q", "k", "v"] {
            self.square(what).declare(init)?;
        }
        self.rate().declare(init)?;
        init.param(self.name("rate.position"), &[self.chunk], Kind::Other, Start::Constant(0.0))?;
        for (what, dims) in self.starts() {
            let start = if what.starts_with('w') { Start::Normal(0.02) } else { Start::Constant(0.0) };
            init.param(self.name(&format!("inner.{what}")), &dims, Kind::Other, start)?;
        }
        let norm = [self.heads, self.head()];
        init.param(self.name("inner.norm.weight"), &norm, Kind::NormScale, Start::Constant(1.0))?;
        init.param(self.name("inner.norm.bias"), &norm, Kind::NormShift, Start::Constant(0.0))?;
        self.norm().declare(init)?;
        if self.gated {
            self.square("gate").declare(init)?;
        }
        self.square("out").declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let &[n, l, width] = x.dims() else {
            return Err(TensorError::shape("ttt", "rank 3 [n, l, width]", format!("shape {}", x.shape())))
                .in_layer(&self.path);
        };
        if width != self.width || l == 0 {
            let expected = format!("[n, l, {}] with at least one token", self.width);
            return Err(TensorError::shape("ttt", expected, format!("shape {}", x.shape()))).in_layer(&self.path);
        }
        let part = |what: &str, pass: &mut Pass| self.split(&self.square(what).apply(params, x, pass)?);
        let (q, k, v) = (part("q", pass)?, part("k", pass)?, part("v", pass)?);
        let (position, own) = self.rates(params, x, pass)?;
        let start = |(what, _): &(&'static str, Vec<usize>)| {
            let t = params.get(&self.name(&format!("inner.{what}")))?;
            Ok(t.unsqueeze(0)?)
        };
        let starts = self.starts().iter().map(start).collect::<Result<Vec<_>>>()?;
        let norm = |what: &str| -> Result<Tensor> {
            let t = params.get(&self.name(&format!("inner.norm.{what}")))?;
            Ok(t.reshape(&[1, self.heads, 1, self.head()])?)
        };
        let mut state = State::new(starts, norm("weight")?, norm("bias")?);
        let mut answers = Vec::with_capacity(l.div_ceil(self.chunk));
        for at in (0..l).step_by(self.chunk) {
            let len = self.chunk.min(l - at);
            let cut = |t: &Tensor| t.narrow(2, at, len);
            let eta = position.narrow(2, 0, len)?.mul(&own.narrow(3, at, len)?)?;
            let tokens = Tokens {
                q: inner::rotated(&cut(&q)?)?,
                k: inner::rotated(&cut(&k)?)?,
                v: cut(&v)?,
                eta: inner::causal(&eta)?,
            };
            let (answer, after) = match self.form {
                Form::Dual => state.dual(&tokens)?,
                Form::Primal => state.primal(&tokens)?,
            };
            answers.push(answer);
            state = after;
        }
        let y = concat(&answers.iter().collect::<Vec<_>>(), 2)?;
        let y = y.permute(&[0, 2, 1, 3])?.reshape(&[n, l, width])?;
        let mut y = self.norm().apply(params, &y, pass)?;
        if self.gated {
            y = self.square("gate").apply(params, x, pass)?.gelu_tanh()?.mul(&y)?;
        }
        self.square("out").apply(params, &y, pass)
    }
}
