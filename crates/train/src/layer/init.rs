//! What parameters start from.

use acclimate_tensor::{Device, Shape};

use crate::data::rng::Philox;
use crate::error::{Error, Result};
use crate::num::real;
use crate::params::{Kind, Named, Params};

/// The distribution of a parameter's first values.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Start {
    /// One number everywhere.
    Constant(f32),
    /// Uniform in [−bound, bound).
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
}

impl Start {
    /// Uniform with bound 1/√fan_in: the scale that He et al. 2015 derive for a leaky rectifier of slope √5, which
    /// PyTorch takes for weights and biases of linear maps and convolutions.
    pub fn fan_in(fan_in: usize) -> Self {
        Start::Uniform(1.0 / real(fan_in.max(1)).sqrt())
    }
}

/// Collects the parameters and buffers that layers declare.
#[derive(Debug)]
pub struct Init {
    key: Philox,
    params: Vec<(Named, Kind)>,
    buffers: Vec<(Named, Kind)>,
}

impl Init {
    /// Draws come from this seed.
    pub fn new(seed: u64) -> Self {
        Init { key: Philox::from_seed(seed).fold_name("init"), params: Vec::new(), buffers: Vec::new() }
    }

    /// Declares a parameter. Fails if its size overflows or does not fit into memory.
    pub fn param(&mut self, path: String, dims: &[usize], kind: Kind, start: Start) -> Result<()> {
        let values = self.draw(&path, dims, start)?;
        self.params.push(((path, dims.to_vec(), values), kind));
        Ok(())
    }

    /// Declares a buffer: state that neither gradients nor optimizers touch.
    pub fn buffer(&mut self, path: String, dims: &[usize], kind: Kind, start: Start) -> Result<()> {
        let values = self.draw(&path, dims, start)?;
        self.buffers.push(((path, dims.to_vec(), values), kind));
        Ok(())
    }

    /// The parameters on a device. Fails if there are none or a path was used twice.
    pub fn into_params(self, device: &Device) -> Result<Params> {
        Params::from_items(device, &self.params, &self.buffers)
    }

    /// A stream for each path: what a parameter starts from does not depend on the parameters before it.
    fn draw(&self, path: &str, dims: &[usize], start: Start) -> Result<Vec<f32>> {
        let n = Shape::new(dims)?.numel();
        let mut values = Vec::new();
        if values.try_reserve_exact(n).is_err() {
            return Err(Error::argument("parameter", "a size that fits into memory", format!("`{path}` of {dims:?}")));
        }
        let mut stream = self.key.fold_name(path).stream(0);
        values.extend((0..n).map(|_| match start {
            Start::Constant(c) => c,
            Start::Uniform(bound) => bound * (2.0 * stream.uniform() - 1.0),
            Start::Normal(deviation) => deviation * narrow(stream.normal()),
        }));
        Ok(values)
    }
}

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "a draw rounded to f32 is a draw")]
fn narrow(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_path_alone() {
        let draw = |seed, path: &str| Init::new(seed).draw(path, &[4], Start::fan_in(4)).unwrap();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        let many = Init::new(3).draw("w", &[100, 100], Start::fan_in(4)).unwrap();
        assert!(
            many.iter().all(|w| w.abs() <= 0.5) && many.iter().any(|w| *w > 0.49) && many.iter().any(|w| *w < -0.49)
        );
        assert!(Init::new(1).draw("w", &[1 << 28, 1 << 28], Start::Normal(1.0)).is_err());
    }
}
