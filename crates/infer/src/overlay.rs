//! The overlay Δ = θ − θ₀: everything that adaptation may move, as one flat vector of zeros to begin with.
//!
//! Reset is a fill with zeros, a trust region is a norm, and the source parameters have no mutable path.

use acclimate_tensor::{Device, Tensor};
use acclimate_train::Params;
use acclimate_train::data::rng::Philox;

use crate::error::Error;
use crate::sensor;

/// Where one parameter's difference lies in Δ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The parameter's path.
    pub path: String,
    /// Its sizes.
    pub dims: Vec<usize>,
    /// First element in Δ.
    pub offset: usize,
}

impl Entry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A low-rank addition to a weight: its factors are two entries of Δ, the second of which starts at zeros.
#[derive(Clone, Debug)]
struct LowRank {
    /// Path of the weight.
    path: String,
    /// The entry of the factor towards few numbers; the next is that towards all.
    down: usize,
    /// What the first factor starts from.
    start: Tensor,
    /// What the product counts.
    scale: f32,
}

/// The layout of Δ.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    entries: Vec<Entry>,
    len: usize,
    low_rank: Vec<LowRank>,
}

impl Overlay {
    /// Over parameters of a model.
    pub fn of_params(params: &Params, paths: &[String]) -> Result<Self, Error> {
        let mut overlay = Overlay::default();
        for path in paths {
            overlay.push(path.clone(), params.get(path)?.dims().to_vec());
        }
        Ok(overlay)
    }

    /// Over the sensor's correction.
    pub fn of_sensor() -> Self {
        let mut overlay = Overlay::default();
        sensor::PARAMETERS.iter().for_each(|p| overlay.push((*p).to_owned(), vec![1]));
        overlay
    }

    /// Over low-rank additions to weights: factors A [rank, ..], uniform within 1/√fan_in and the same in every session,
    /// and B, zeros, so that the network answers as it did until B moves (Hu et al. 2022).
    pub fn of_low_rank(params: &Params, weights: &[String], rank: usize, scale: f32) -> Result<Self, Error> {
        let mut overlay = Overlay::default();
        for path in weights {
            let weight = params.get(path)?;
            let dims = weight.dims();
            if !matches!(dims.len(), 2 | 4) {
                return Err(Error::size(
                    format!("low-rank weight `{path}`"),
                    "a matrix or a convolution's [o, i, kh, kw]",
                    weight.shape(),
                ));
            }
            let fan_in: usize = dims[1..].iter().product();
            let mut draw = Philox::from_seed(0).fold_name("low_rank").fold_name(path).stream(0);
            let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
            let values: Vec<f32> = (0..rank * fan_in).map(|_| bound * (2.0 * draw.uniform() - 1.0)).collect();
            let mut down = dims.to_vec();
            down[0] = rank;
            let start = Tensor::from_slice(params.device(), &values, &down)?;
            overlay.low_rank.push(LowRank { path: path.clone(), down: overlay.entries.len(), start, scale });
            overlay.push(format!("{path}#down"), down);
            overlay.push(format!("{path}#up"), vec![dims[0], rank]);
        }
        Ok(overlay)
    }

    /// The same without a Δ: it names what moves, and steps are kept elsewhere.
    #[must_use]
    pub(crate) fn without_delta(mut self) -> Self {
        self.entries.iter_mut().for_each(|e| e.offset = 0);
        self.len = 0;
        self
    }

    fn push(&mut self, path: String, dims: Vec<usize>) {
        let entry = Entry { path, dims, offset: self.len };
        self.len += entry.len();
        self.entries.push(entry);
    }

    /// What may move, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Elements of Δ.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing moves.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// θ₀ + Δ: parameters that read through the overlay. `delta`: \[len\].
    pub fn applied(&self, params: &Params, delta: &Tensor) -> Result<Params, Error> {
        let difference = |e: &Entry| delta.narrow(0, e.offset, e.len())?.reshape(&e.dims);
        if !self.low_rank.is_empty() {
            let mut parts = Vec::with_capacity(self.low_rank.len());
            for of in &self.low_rank {
                let down = of.start.add(&difference(&self.entries[of.down])?)?;
                let up = difference(&self.entries[of.down + 1])?.mul_scalar(of.scale)?;
                parts.push((of.path.clone(), down, up));
            }
            return Ok(params.with_low_rank(parts)?);
        }
        let mut moved = Vec::with_capacity(self.entries.len());
        for e in &self.entries {
            moved.push((e.path.clone(), params.get(&e.path)?.add(&difference(e)?)?));
        }
        Ok(params.with_overrides(moved)?)
    }

    /// ‖θ₀‖ of each entry: what Δ is relative to. 1 for the sensor, whose identity has no norm of its own.
    pub(crate) fn base_norms(&self, params: &Params) -> Result<Vec<f32>, Error> {
        let norm = |t: &Tensor| -> Result<f32, Error> {
            let values = t.to_vec::<f32>()?;
            Ok(values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32)
        };
        let of = |(i, e): (usize, &Entry)| {
            if sensor::PARAMETERS.contains(&e.path.as_str()) {
                return Ok(1.0);
            }
            match self.low_rank.iter().find(|l| l.down == i || l.down + 1 == i) {
                Some(l) if l.down == i => norm(&l.start),
                Some(_) => Ok(0.0),
                None => norm(&params.get(&e.path)?),
            }
        };
        self.entries.iter().enumerate().map(of).collect()
    }

    /// For each element of Δ the number of its entry: f32 \[len\].
    pub(crate) fn positions(&self, device: &Device) -> Result<Tensor, Error> {
        let of = |(i, e): (usize, &Entry)| std::iter::repeat_n(i as f32, e.len());
        let values: Vec<f32> = self.entries.iter().enumerate().flat_map(of).collect();
        Ok(Tensor::from_slice(device, &values, &[values.len()])?)
    }

    /// ‖Δ‖² of each entry: [number of entries].
    pub fn square_norms(&self, delta: &Tensor) -> Result<Tensor, Error> {
        let mut norms = Vec::with_capacity(self.entries.len());
        for e in &self.entries {
            norms.push(delta.narrow(0, e.offset, e.len())?.square()?.sum(&[])?.reshape(&[1])?);
        }
        Ok(acclimate_kernels::concat(&norms.iter().collect::<Vec<_>>(), 0)?)
    }
}
