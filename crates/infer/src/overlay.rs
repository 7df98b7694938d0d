//! The overlay Δ = θ − θ₀: everything that adaptation may move, as one flat vector of zeros to begin with.
//!
//! Reset is a fill with zeros, a trust region is a norm, and the source parameters have no mutable path.

use acclimate_tensor::Tensor;
use acclimate_train::Params;

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

/// The layout of Δ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    entries: Vec<Entry>,
    len: usize,
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
        let mut moved = Vec::with_capacity(self.entries.len());
        for e in &self.entries {
            let difference = delta.narrow(0, e.offset, e.len())?.reshape(&e.dims)?;
            moved.push((e.path.clone(), params.get(&e.path)?.add(&difference)?));
        }
        Ok(params.with_overrides(moved)?)
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
