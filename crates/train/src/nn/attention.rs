//! Multi-head self-attention.

use acclimate_kernels::{Attend, TensorOps};
use acclimate_tensor::{Error as TensorError, Tensor};

use super::Linear;
use crate::error::Result;
use crate::layer::{Init, Layer, Pass, join};
use crate::params::Params;

/// Multi-head self-attention (Vaswani et al. 2017): queries, keys and values are `qkv` of the tokens, each head attends by
/// softmax(q·kᵀ/√d)·v with its own d = width / heads of each, and `out` mixes the heads. [n, t, width] → [n, t, width].
/// The weights of `qkv` are those of PyTorch's `in_proj`.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    path: String,
    width: usize,
    heads: usize,
    causal: bool,
}

impl MultiHeadAttention {
    /// Every token sees every token. Fails unless `heads` divides `width`.
    pub fn new(path: impl Into<String>, width: usize, heads: usize) -> Result<Self> {
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            let expected = format!("a divisor of the width {width}");
            return Err(TensorError::argument("multi-head attention", "heads", expected, heads).into());
        }
        Ok(MultiHeadAttention { path: path.into(), width, heads, causal: false })
    }

    /// A token sees itself and those before it.
    #[must_use]
    pub fn causal(self) -> Self {
        MultiHeadAttention { causal: true, ..self }
    }

    fn layers(&self) -> [Linear; 2] {
        let d = self.width;
        [Linear::new(join(&self.path, "qkv"), d, 3 * d), Linear::new(join(&self.path, "out"), d, d)]
    }
}

impl Layer for MultiHeadAttention {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.layers().iter().try_for_each(|layer| layer.declare(init))
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let (&[n, t, width], [qkv, out]) = (x.dims(), self.layers()) else {
            let expected = format!("tokens [n, t, {}]", self.width);
            return Err(TensorError::shape("multi-head attention", expected, x.shape().to_string()).into());
        };
        let each = self.width / self.heads;
        let all = qkv.apply(params, x, pass)?.reshape(&[n, t, 3, self.heads, each])?.permute(&[2, 0, 3, 1, 4])?;
        let part = |i: usize| all.narrow(0, i, 1)?.reshape(&[n, self.heads, t, each]);
        let how = Attend { causal: self.causal, ..Default::default() };
        let y = part(0)?.attention(&part(1)?, &part(2)?, &how)?;
        out.apply(params, &y.permute(&[0, 2, 1, 3])?.reshape(&[n, t, width])?, pass)
    }
}
