//! The inner model of a TTT layer: its steps over a chunk, in the dual form and token by token.

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{DType, Result, Tensor};

use crate::num::real;

/// Added to variances of layer norms.
pub const EPS: f32 = 1e-6;
/// The lowest frequency of rotary positions is one turn in so many tokens, over 2π.
const ROTARY_BASE: f32 = 10_000.0;

/// A chunk of tokens. q, k, v: [n, heads, t, d]; eta: rates [n, heads, t, t], zero where the token learned from comes later.
pub struct Tokens {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub eta: Tensor,
}

/// The hidden state: weights and biases of one or two linear layers, [n or 1, heads, ..], and the fixed layer norm's γ and β.
pub struct State {
    weights: Vec<Tensor>,
    gamma: Tensor,
    beta: Tensor,
}

/// What the keys of a chunk gave: inputs and gradients at the outputs of each of the inner model's linear layers.
struct Learned {
    x: Vec<Tensor>,
    g: Vec<Tensor>,
}

impl State {
    /// `weights`: w, b, or w1, b1, w2, b2.
    pub fn new(weights: Vec<Tensor>, gamma: Tensor, beta: Tensor) -> Self {
        State { weights, gamma, beta }
    }

    /// Answers of a chunk and the state after it. Token i sees W − Σ_{j ≤ i} η_ij x_jᵀ g_j, which is never made:
    /// q (W − Σ η x_jᵀ g_j) = q W − Σ η (q·x_j) g_j.
    pub fn dual(self, t: &Tokens) -> Result<(Tensor, Self)> {
        let learned = self.learn(t)?;
        let mut seen = t.q.clone();
        let layers = self.weights.len() / 2;
        for layer in 0..layers {
            let (w, b) = (&self.weights[2 * layer], &self.weights[2 * layer + 1]);
            let (x, g) = (&learned.x[layer], &learned.g[layer]);
            let both = t.eta.mul(&seen.matmul_nt(x)?.add_scalar(1.0)?)?; // 1: the bias, whose input is 1
            let z = seen.matmul(w)?.add(b)?.sub(&both.matmul(g)?)?;
            seen = if layer + 1 < layers { z.gelu_tanh()? } else { z };
        }
        let answer = t.q.add(&self.normed(&seen)?)?;
        let last = t.eta.narrow(2, t.eta.dims()[2] - 1, 1)?;
        Ok((answer, self.after(&learned, &last)?))
    }

    /// The same, with the weights that each token sees.
    pub fn primal(self, t: &Tokens) -> Result<(Tensor, Self)> {
        let learned = self.learn(t)?;
        let n_tokens = t.q.dims()[2];
        let mut answers = Vec::with_capacity(n_tokens);
        let mut end = None;
        for i in 0..n_tokens {
            let own = State::new(self.weights.clone(), self.gamma.clone(), self.beta.clone());
            let own = own.after(&learned, &t.eta.narrow(2, i, 1)?)?;
            let q = t.q.narrow(2, i, 1)?;
            let (_, z) = own.forward(&q)?;
            answers.push(q.add(&own.normed(&z)?)?);
            end = Some(own);
        }
        Ok((concat(&answers.iter().collect::<Vec<_>>(), 2)?, end.unwrap_or(self)))
    }

    /// The pre-activations: the hidden one, if there is one, and the last.
    fn forward(&self, x: &Tensor) -> Result<(Option<Tensor>, Tensor)> {
        let z = x.matmul(&self.weights[0])?.add(&self.weights[1])?;
        match self.weights.as_slice() {
            [_, _, w, b] => {
                let last = z.gelu_tanh()?.matmul(w)?.add(b)?;
                Ok((Some(z), last))
            }
            _ => Ok((None, z)),
        }
    }

    /// The gradients of ½‖f(K) − (V − K)‖² of each token at the outputs of the linear layers.
    fn learn(&self, t: &Tokens) -> Result<Learned> {
        let (hidden, z) = self.forward(&t.k)?;
        let last = self.norm_grad(&z, &t.v.sub(&t.k)?)?;
        Ok(match (hidden, self.weights.get(2)) {
            (Some(hidden), Some(w)) => {
                let first = last.matmul_nt(w)?.mul(&gelu_slope(&hidden)?)?;
                Learned { x: vec![t.k.clone(), hidden.gelu_tanh()?], g: vec![first, last] }
            }
            _ => Learned { x: vec![t.k.clone()], g: vec![last] },
        })
    }

    /// Weights after the steps of all tokens at these rates: [n, heads, 1, t].
    fn after(self, learned: &Learned, eta: &Tensor) -> Result<Self> {
        let mut weights = Vec::with_capacity(self.weights.len());
        for (i, w) in self.weights.iter().enumerate() {
            let (x, g) = (&learned.x[i / 2], &learned.g[i / 2]);
            let step = if i % 2 == 0 { x.mul(&eta.transpose(2, 3)?)?.matmul_tn(g)? } else { eta.matmul(g)? };
            weights.push(w.sub(&step)?);
        }
        Ok(State { weights, ..self })
    }

    /// γ·(z − μ)/s + β over the last axis.
    fn normed(&self, z: &Tensor) -> Result<Tensor> {
        let (hat, _) = standardized(z)?;
        hat.mul(&self.gamma)?.add(&self.beta)
    }

    /// ∂/∂z of ½‖γ·ẑ + β − target‖²: (d·g − Σg − ẑ Σ(g ẑ)) / (d·s) with g = γ(γẑ + β − target).
    fn norm_grad(&self, z: &Tensor, target: &Tensor) -> Result<Tensor> {
        let (hat, s) = standardized(z)?;
        let g = hat.mul(&self.gamma)?.add(&self.beta)?.sub(target)?.mul(&self.gamma)?;
        let d = real(z.dims()[3]);
        let along = hat.mul(&g.mul(&hat)?.sum_keep(&[-1])?)?;
        g.mul_scalar(d)?.sub(&g.sum_keep(&[-1])?)?.sub(&along)?.div(&s.mul_scalar(d)?)
    }
}

/// (z − μ)/s and s over the last axis, with the biased variance.
fn standardized(z: &Tensor) -> Result<(Tensor, Tensor)> {
    let s = z.var_keep(&[-1], 0.0)?.add_scalar(EPS)?.sqrt()?;
    Ok((z.sub(&z.mean_keep(&[-1])?)?.div(&s)?, s))
}

/// The derivative of gelu's approximation by tanh.
fn gelu_slope(x: &Tensor) -> Result<Tensor> {
    let c = (2.0 / std::f32::consts::PI).sqrt();
    let square = x.square()?;
    let t = x.mul(&square.mul_scalar(0.044_715)?.add_scalar(1.0)?)?.mul_scalar(c)?.tanh()?;
    let inner = square.mul_scalar(3.0 * 0.044_715)?.add_scalar(1.0)?.mul_scalar(c)?;
    let bend = x.mul(&t.square()?.neg()?.add_scalar(1.0)?)?.mul(&inner)?;
    t.add_scalar(1.0)?.add(&bend)?.mul_scalar(0.5)
}

/// Rotary positions within the chunk (Su et al. 2021): element i of the first half of the last axis and element i of the
/// second turn together by position · base^(−2i/d). x: [n, heads, t, d].
pub fn rotated(x: &Tensor) -> Result<Tensor> {
    let (t, half) = (x.dims()[2], x.dims()[3] / 2);
    let count = |n: usize, dims: &[usize]| Tensor::iota(x.device(), &[n], 0)?.cast(DType::F32)?.reshape(dims);
    let frequency = count(half, &[1, half])?.mul_scalar(-ROTARY_BASE.ln() / real(half))?.exp()?;
    let angle = count(t, &[t, 1])?.mul(&frequency)?;
    let (cos, sin) = (angle.cos()?, angle.sin()?);
    let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let first = a.mul(&cos)?.sub(&b.mul(&sin)?)?;
    let second = b.mul(&cos)?.add(&a.mul(&sin)?)?;
    concat(&[&first, &second], 3)
}

/// Zero where the column is behind the row: [.., t, t].
pub fn causal(eta: &Tensor) -> Result<Tensor> {
    let t = eta.dims()[3];
    let count = |dims: &[usize]| Tensor::iota(eta.device(), &[t], 0)?.reshape(dims);
    let keep = count(&[1, t])?.le(&count(&[t, 1])?)?;
    keep.broadcast_to(eta.shape())?.select(eta, &eta.zeros_like()?)
}
