//! What the layers of a model see on source data: per normalization layer and channel, the mean and the logarithm of the
//! standard deviation over an image, and how both spread from image to image. Recorded once; the measure of whether an
//! image looks ordinary to the network.

use std::sync::Arc;

use acclimate_kernels::TensorOps;
use acclimate_tensor::{Device, Tensor};
use acclimate_train::{Layer, Params, Pass};

use crate::error::Error;

/// Added to a standard deviation before its logarithm, so that a dead channel is not infinitely far.
const EPS: f32 = 1e-3;

/// Source statistics of every tapped layer.
#[derive(Clone, Debug)]
pub struct SourceStatistics {
    /// Path of each tapped layer, with the number of its features (two a channel).
    layers: Vec<(String, usize)>,
    /// Mean of each feature over source images: [f].
    mean: Tensor,
    /// 1 / standard deviation of each feature: [f].
    inverse_std: Tensor,
    /// Scores of the source images, ascending.
    scores: Vec<f32>,
    /// Weight of each feature: every layer counts the same, half of the squared z-score: [f].
    weight: Tensor,
    /// The three on the host: they outlive the device.
    host: Arc<[Vec<f32>; 3]>,
}

/// Features of a batch: [n, f], from the inputs of the normalization layers, and their layers.
fn features(taps: &[(String, Tensor)]) -> Result<(Tensor, Vec<(String, usize)>), Error> {
    if taps.is_empty() {
        return Err(Error::Empty { what: "the list of tapped normalization layers of this model" });
    }
    let mut parts = Vec::with_capacity(taps.len() * 2);
    let mut layers = Vec::with_capacity(taps.len());
    for (path, x) in taps {
        // [n, c, h, w] or [n, c, l]: statistics over all but the first two axes.
        let axes: Vec<isize> = (2..x.rank() as isize).collect();
        let (mean, variance) = (x.mean(&axes)?, x.var(&axes, 0.0)?);
        let dims = [x.dims()[0], x.dims()[1]];
        parts.push(mean.reshape(&dims)?);
        // The floor keeps the root's slope finite where a channel is constant.
        parts.push(variance.add_scalar(1e-12)?.sqrt()?.add_scalar(EPS)?.ln()?);
        layers.push((path.clone(), 2 * dims[1]));
    }
    Ok((acclimate_kernels::concat(&parts.iter().collect::<Vec<_>>(), 1)?, layers))
}

impl SourceStatistics {
    /// Records the statistics of a model on source images, `images`: [n, c, h, w] on the host, at least two.
    pub fn record(model: &dyn Layer, params: &Params, images: &[f32], dims: [usize; 3]) -> Result<Self, Error> {
        let device = params.device().clone();
        let size: usize = dims.iter().product();
        let n = images.len() / size.max(1);
        if n < 2 || images.len() != n * size {
            return Err(Error::size("source images", format!("at least 2 of {dims:?}"), images.len()));
        }
        let mut rows: Vec<f32> = Vec::new();
        let mut layers = Vec::new();
        let chunk = 200.min(n);
        for part in images.chunks(chunk * size) {
            let shape = [part.len() / size, dims[0], dims[1], dims[2]];
            let x = Tensor::from_slice(&device, part, &shape)?;
            let mut pass = Pass::infer().with_taps();
            model.apply(params, &x, &mut pass)?;
            let (f, found) = features(&pass.take_taps())?;
            rows.extend(f.to_vec::<f32>()?);
            layers = found;
        }
        Self::from_rows(&device, &rows, layers)
    }

    fn from_rows(device: &Device, rows: &[f32], layers: Vec<(String, usize)>) -> Result<Self, Error> {
        let f: usize = layers.iter().map(|l| l.1).sum();
        let n = rows.len() / f;
        let mut mean = vec![0f64; f];
        let mut square = vec![0f64; f];
        for row in rows.chunks_exact(f) {
            for (k, &x) in row.iter().enumerate() {
                mean[k] += f64::from(x) / n as f64;
            }
        }
        for row in rows.chunks_exact(f) {
            for (k, &x) in row.iter().enumerate() {
                square[k] += (f64::from(x) - mean[k]).powi(2) / (n - 1) as f64;
            }
        }
        let inverse: Vec<f32> = square.iter().map(|v| (1.0 / v.sqrt().max(1e-4)) as f32).collect();
        let share = |width: usize| 0.5 / (width * layers.len()) as f32;
        let weight: Vec<f32> = layers.iter().flat_map(|&(_, w)| std::iter::repeat_n(share(w), w)).collect();
        let score = |row: &[f32]| -> f64 {
            row.iter()
                .enumerate()
                .map(|(k, &x)| f64::from(weight[k]) * ((f64::from(x) - mean[k]) * f64::from(inverse[k])).powi(2))
                .sum()
        };
        let mut scores: Vec<f32> = rows.chunks_exact(f).map(|row| score(row) as f32).collect();
        scores.sort_by(f32::total_cmp);
        let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
        Ok(SourceStatistics {
            scores,
            mean: Tensor::from_slice(device, &mean, &[f])?,
            inverse_std: Tensor::from_slice(device, &inverse, &[f])?,
            weight: Tensor::from_slice(device, &weight, &[f])?,
            layers,
            host: Arc::new([mean, inverse, weight]),
        })
    }

    /// How unusual each row of a batch is: half the mean squared z-score of its layer statistics, each layer counting
    /// the same; about ½ for source images. taps of [n, ..] → \[n\].
    pub fn score(&self, taps: &[(String, Tensor)]) -> Result<Tensor, Error> {
        let (f, layers) = features(taps)?;
        if layers != self.layers {
            return Err(Error::size("tapped layers", format!("{:?}", self.layers), format!("{layers:?}")));
        }
        let z = f.sub(&self.mean)?.mul(&self.inverse_std)?;
        Ok(z.square()?.mul(&self.weight)?.sum(&[1])?)
    }

    /// The score that a share `q` of the source images stays at or below: a threshold for "ordinary".
    pub fn quantile(&self, q: f64) -> f32 {
        let at = (q.clamp(0.0, 1.0) * self.scores.len().saturating_sub(1) as f64).round() as usize;
        self.scores.get(at).copied().unwrap_or(f32::INFINITY)
    }

    /// The same statistics on another device, from the host.
    pub fn to_device(&self, device: &Device) -> Result<Self, Error> {
        let [mean, inverse_std, weight] = &*self.host;
        let up = |values: &[f32]| Tensor::from_slice(device, values, &[values.len()]);
        Ok(SourceStatistics {
            layers: self.layers.clone(),
            scores: self.scores.clone(),
            mean: up(mean)?,
            inverse_std: up(inverse_std)?,
            weight: up(weight)?,
            host: self.host.clone(),
        })
    }
}
