//! Fixed standardization of the input.

use acclimate_tensor::{Device, Tensor};

use crate::error::{Error, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::params::Params;

/// (x − mean) / deviation for each channel, by constants of the data set: [n, c, ..] → [n, c, ..]. In front of a
/// network it lets everything outside speak of pixels in [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Standardize {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standardize {
    /// Fails unless there are as many means as deviations, at least one, all finite, deviations positive.
    pub fn new(mean: &[f32], deviation: &[f32]) -> Result<Self> {
        let fits = !mean.is_empty()
            && mean.len() == deviation.len()
            && mean.iter().all(|m| m.is_finite())
            && deviation.iter().all(|d| d.is_finite() && *d > 0.0);
        if !fits {
            let expected = "as many finite means as positive deviations, one a channel";
            return Err(Error::argument("standardize", expected, format!("{mean:?} and {deviation:?}")));
        }
        Ok(Standardize { mean: mean.to_vec(), deviation: deviation.to_vec() })
    }
}

impl Layer for Standardize {
    fn declare(&self, _: &mut Init) -> Result<()> {
        Ok(())
    }

    fn apply(&self, _: &Params, x: &Tensor, _: &mut Pass) -> Result<Tensor> {
        if x.rank() < 2 || x.dims()[1] != self.mean.len() {
            let expected = format!("[n, {}, ..]", self.mean.len());
            return Err(acclimate_tensor::Error::shape("standardize", expected, format!("{}", x.shape())).into());
        }
        let mut dims = vec![1; x.rank()];
        dims[1] = self.mean.len();
        let scale: Vec<f32> = self.deviation.iter().map(|d| 1.0 / d).collect();
        let mean = constants(x.device(), &self.mean)?.reshape(&dims)?;
        let scale = constants(x.device(), &scale)?.reshape(&dims)?;
        Ok(x.sub(&mean)?.mul(&scale)?)
    }

    fn narrowed(&self, _: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        Narrowed::to(self.clone(), x)
    }
}

/// A few constants as a graph, so that no pass uploads anything.
fn constants(device: &Device, values: &[f32]) -> Result<Tensor> {
    let pieces = values.iter().map(|&v| Ok(Tensor::full(device, &[1], v)?)).collect::<Result<Vec<_>>>()?;
    let offsets: Vec<usize> = (0..values.len()).collect();
    Ok(Tensor::assemble(&pieces.iter().collect::<Vec<_>>(), &offsets, values.len())?)
}
