//! Dropout.

use acclimate_kernels::random;
use acclimate_tensor::Tensor;

use crate::error::{Error, InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::params::Params;

/// In training, each element is 0 with probability p and divided by 1 − p otherwise; nothing happens when answering
/// (Srivastava et al. 2014). Each dropout of a pass draws for itself.
#[derive(Clone, Debug)]
pub struct Dropout {
    path: String,
    p: f32,
}

impl Dropout {
    /// Drops with probability `p` in [0, 1). The path is for error messages only.
    pub fn new(path: impl Into<String>, p: f32) -> Self {
        Dropout { path: path.into(), p }
    }

    fn check(&self) -> Result<()> {
        if (0.0..1.0).contains(&self.p) {
            return Ok(());
        }
        Err(Error::argument("dropout", "a probability in [0, 1)", format!("{} in {}", self.p, self.path)))
    }
}

impl Layer for Dropout {
    fn declare(&self, _: &mut Init) -> Result<()> {
        self.check()
    }

    fn apply(&self, _: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.check()?;
        let Some(key) = pass.key()?.filter(|_| self.p > 0.0) else { return Ok(x.clone()) };
        let keep = random::bernoulli(&key, 1.0 - self.p, x.dims()).in_layer(&self.path)?;
        // A selection, not a product: what is dropped is gone even if it is not finite.
        keep.select(&x.mul_scalar(1.0 / (1.0 - self.p))?, &x.zeros_like()?).in_layer(&self.path)
    }

    fn narrowed(&self, _: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        Narrowed::to(self.clone(), x)
    }
}
