//! The fully connected layer.

use acclimate_kernels::TensorOps;
use acclimate_tensor::Tensor;

use crate::error::{InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, Start, join};
use crate::params::{Kind, Params};

/// y = x·Wᵀ + b. Shapes: x [.., inputs], W [outputs, inputs], b `[outputs]` → [.., outputs]. Paths: `weight`, `bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    path: String,
    inputs: usize,
    outputs: usize,
    has_bias: bool,
}

impl Linear {
    /// With bias.
    pub fn new(path: impl Into<String>, inputs: usize, outputs: usize) -> Self {
        Linear { path: path.into(), inputs, outputs, has_bias: true }
    }

    /// Without bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Linear { has_bias: false, ..self }
    }
}

impl Layer for Linear {
    fn declare(&self, init: &mut Init) -> Result<()> {
        let start = Start::fan_in(self.inputs);
        init.param(join(&self.path, "weight"), &[self.outputs, self.inputs], Kind::Weight, start)?;
        if self.has_bias {
            init.param(join(&self.path, "bias"), &[self.outputs], Kind::Bias, start)?;
        }
        Ok(())
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        pass.feature(&self.path, x);
        let path = join(&self.path, "weight");
        let by = |x: &Tensor, w: &Tensor| x.matmul_nt(w);
        let mut y = pass.multiply(x, &params.get(&path)?, &by).in_layer(&self.path)?;
        pass.product(&path, x, &y, None);
        if let Some((down, up)) = params.low_rank(&path) {
            let more = pass.multiply(x, &down, &by).and_then(|x| pass.multiply(&x, &up, &by)).in_layer(&self.path)?;
            y = y.add(&more).in_layer(&self.path)?;
        }
        if self.has_bias {
            y = y.add(&params.get(&join(&self.path, "bias"))?).in_layer(&self.path)?;
        }
        Ok(pass.output(&self.path, y))
    }

    fn narrowed(&self, kept: &Kept, _: Option<Channels>) -> Result<Narrowed> {
        let size = [self.outputs, self.inputs];
        Ok(Narrowed::of_weight(kept, &join(&self.path, "weight"), size, |[outputs, inputs]| Linear {
            inputs,
            outputs,
            ..self.clone()
        }))
    }
}
