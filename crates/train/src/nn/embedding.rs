//! Embedding: a table of rows.

use acclimate_kernels::TensorOps;
use acclimate_tensor::Tensor;

use crate::error::{InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, Start, join};
use crate::params::{Kind, Params};

/// The rows of a table. Shapes: ids (u32) [..], table [n_rows, width] → [.., width]. Path: `weight`.
#[derive(Clone, Debug)]
pub struct Embedding {
    path: String,
    n_rows: usize,
    width: usize,
}

impl Embedding {
    /// A table of `n_rows` rows.
    pub fn new(path: impl Into<String>, n_rows: usize, width: usize) -> Self {
        Embedding { path: path.into(), n_rows, width }
    }
}

impl Layer for Embedding {
    fn declare(&self, init: &mut Init) -> Result<()> {
        init.param(join(&self.path, "weight"), &[self.n_rows, self.width], Kind::Embedding, Start::Normal(1.0))
    }

    fn apply(&self, params: &Params, ids: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let y = params.get(&join(&self.path, "weight"))?.take(ids).in_layer(&self.path)?;
        Ok(pass.output(&self.path, y))
    }

    fn narrowed(&self, _: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        Narrowed::to(self.clone(), x)
    }
}
