//! Batch normalization (Ioffe and Szegedy 2015), with the ways to choose statistics when answering.

use acclimate_tensor::{Error as TensorError, Result as TensorResult, Tensor};

use super::{EPS, Moments};
use crate::error::{InLayer, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass, Start, Statistics, join};
use crate::num::real;
use crate::params::{Kind, Params};

/// y = γ·(x − μ)/√(σ² + eps) + β for each channel. Shapes: x [n, c, ..] → the same.
///
/// Training takes μ and the biased σ² of the batch, and records the running statistics, which move by `momentum` to the
/// mean and the *unbiased* variance of the batch. Answering takes them as the pass's [`Statistics`] say. Paths:
/// `weight` (γ), `bias` (β), `running_mean`, `running_var`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    path: String,
    channels: usize,
    eps: f32,
    momentum: f32,
}

impl BatchNorm {
    /// With eps 1e-5 and momentum 0.1.
    pub fn new(path: impl Into<String>, channels: usize) -> Self {
        BatchNorm { path: path.into(), channels, eps: EPS, momentum: 0.1 }
    }

    /// With another number added to variances.
    #[must_use]
    pub fn with_eps(self, eps: f32) -> Self {
        BatchNorm { eps, ..self }
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f32 {
        self.eps
    }

    /// With another momentum of the running statistics.
    #[must_use]
    pub fn with_momentum(self, momentum: f32) -> Self {
        BatchNorm { momentum, ..self }
    }

    fn name(&self, what: &str) -> String {
        join(&self.path, what)
    }

    /// The moments of a batch, per channel.
    fn batch(&self, x: &Tensor, at_least: usize) -> TensorResult<Moments> {
        let rank = isize::try_from(x.rank()).unwrap_or(isize::MAX);
        let axes: Vec<isize> = (0..rank).filter(|&axis| axis != 1).collect();
        let moments = Moments::of(x, &axes)?;
        if moments.count < at_least {
            let expected = format!("at least {at_least} values of each channel to take statistics of");
            return Err(TensorError::shape("batch_norm", expected, format!("shape {}", x.shape())));
        }
        Ok(moments)
    }

    /// μ and σ², and the new running statistics if there are any; all with sizes 1 but for the channels.
    fn statistics(
        &self,
        source: [&Tensor; 2],
        x: &Tensor,
        pass: &Pass,
    ) -> TensorResult<([Tensor; 2], Option<[Tensor; 2]>)> {
        let [mean, variance] = source;
        let mix = |batch: [&Tensor; 2], share: f32| -> TensorResult<[Tensor; 2]> {
            Ok([blend(mean, batch[0], share)?, blend(variance, batch[1], share)?])
        };
        if pass.is_training() {
            let batch = self.batch(x, 2)?;
            let running = mix([&batch.mean.detach()?, &batch.unbiased()?.detach()?], self.momentum)?;
            return Ok(([batch.mean, batch.variance], Some(running)));
        }
        Ok(match pass.statistics() {
            Statistics::Source => ([mean.clone(), variance.clone()], None),
            Statistics::Batch => {
                let batch = self.batch(x, 2)?;
                ([batch.mean, batch.variance], None)
            }
            Statistics::Alpha(alpha) => {
                let batch = self.batch(x, 2)?;
                (mix([&batch.mean, &batch.unbiased()?], share(alpha)?)?, None)
            }
            Statistics::Prior(prior) => {
                let batch = self.batch(x, 1)?;
                let n = real(x.dims()[0]);
                (mix([&batch.mean, &batch.variance], share(n / (prior + n))?)?, None)
            }
            Statistics::Ema(momentum) => {
                let batch = self.batch(x, 2)?;
                let new = mix([&batch.mean.detach()?, &batch.unbiased()?.detach()?], share(momentum)?)?;
                (new.clone(), Some(new))
            }
            Statistics::Robust(momentum) => {
                let batch = self.batch(x, 1)?;
                let [mean, variance] = mix([&batch.mean, &batch.variance], share(momentum)?)?;
                let new = [mean.detach()?, variance.detach()?];
                ([mean, variance], Some(new))
            }
        })
    }

    fn normalize(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        if x.rank() < 2 || x.dims()[1] != self.channels {
            let expected = format!("[n, {}, ..]", self.channels);
            return Err(TensorError::shape("batch_norm", expected, format!("shape {}", x.shape())).into());
        }
        let mut dims = vec![1; x.rank()];
        dims[1] = self.channels;
        let mean = params.buffer(&self.name("running_mean"))?.reshape(&dims)?;
        let variance = params.buffer(&self.name("running_var"))?.reshape(&dims)?;
        let ([mean, variance], running) = self.statistics([&mean, &variance], x, pass)?;
        if let Some([mean, variance]) = running {
            pass.update(self.name("running_mean"), mean.reshape(&[self.channels])?);
            pass.update(self.name("running_var"), variance.reshape(&[self.channels])?);
        }
        let gamma = params.get(&self.name("weight"))?.reshape(&dims)?;
        let beta = params.get(&self.name("bias"))?.reshape(&dims)?;
        // γ/√(σ² + eps) is one number a channel, made before it meets the image.
        let scale = variance.add_scalar(self.eps)?.rsqrt()?.mul(&gamma)?;
        Ok(x.sub(&mean)?.mul(&scale)?.add(&beta)?)
    }
}

/// (1 − share)·a + share·b.
fn blend(a: &Tensor, b: &Tensor, share: f32) -> TensorResult<Tensor> {
    a.mul_scalar(1.0 - share)?.add(&b.mul_scalar(share)?)
}

/// A share in [0, 1], or an error.
fn share(share: f32) -> TensorResult<f32> {
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(TensorError::argument("batch_norm", "share of the batch's statistics", "a number in [0, 1]", share))
}

impl Layer for BatchNorm {
    fn declare(&self, init: &mut Init) -> Result<()> {
        let dims = [self.channels];
        init.param(self.name("weight"), &dims, Kind::NormScale, Start::Constant(1.0))?;
        init.param(self.name("bias"), &dims, Kind::NormShift, Start::Constant(0.0))?;
        init.buffer(self.name("running_mean"), &dims, Kind::RunningMean, Start::Constant(0.0))?;
        init.buffer(self.name("running_var"), &dims, Kind::RunningVar, Start::Constant(1.0))
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        pass.tap(&self.path, x);
        let y = self.normalize(params, x, pass).in_layer(&self.path)?;
        Ok(pass.output(&self.path, y))
    }

    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        let channels = kept.count(&self.name("weight"), 0, self.channels);
        Narrowed::to(BatchNorm { channels, ..self.clone() }, x)
    }
}
