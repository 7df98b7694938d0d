//! Features that can be bought one by one: which columns each brings, and what it costs.

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{Device, Tensor};

use crate::error::Error;

/// Features by number: their names, columns and costs. The columns of a feature stand side by side, in the order of the
/// features; a number is one column, a category as many as it has values.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    names: Vec<String>,
    widths: Vec<usize>,
    costs: Vec<f64>,
}

impl Features {
    /// Features of one column and cost 1 each.
    ///
    /// # Errors
    /// If there is none.
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.is_empty() {
            return Err(Error::Empty { what: "the list of features" });
        }
        let n = names.len();
        Ok(Features { names, widths: vec![1; n], costs: vec![1.0; n] })
    }

    /// With other numbers of columns, each 1 or more.
    ///
    /// # Errors
    /// If there are not as many as features, or one is 0.
    pub fn widths(self, widths: &[usize]) -> Result<Self, Error> {
        self.one_each("widths of features", widths.len())?;
        if let Some(position) = widths.iter().position(|w| *w == 0) {
            let (expected, found) = ("1 column or more".into(), "0".into());
            return Err(Error::Value { what: "widths of features", position, expected, found });
        }
        Ok(Features { widths: widths.to_vec(), ..self })
    }

    /// With other costs, in any unit; what costs 0 is taken before the first question.
    ///
    /// # Errors
    /// If there are not as many as features, or one is negative or not finite.
    pub fn costs(self, costs: &[f64]) -> Result<Self, Error> {
        self.one_each("costs of features", costs.len())?;
        if let Some(position) = costs.iter().position(|c| !(c.is_finite() && *c >= 0.0)) {
            let (expected, found) = ("a finite cost of 0 or more".into(), costs[position].to_string());
            return Err(Error::Value { what: "costs of features", position, expected, found });
        }
        Ok(Features { costs: costs.to_vec(), ..self })
    }

    fn one_each(&self, what: &str, found: usize) -> Result<(), Error> {
        if found == self.len() {
            return Ok(());
        }
        Err(Error::size(what, format!("one for each of {} features", self.len()), found))
    }

    /// How many features there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none; never.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Columns of all features.
    pub fn n_columns(&self) -> usize {
        self.widths.iter().sum()
    }

    /// The name of a feature.
    pub fn name(&self, feature: usize) -> &str {
        self.names.get(feature).map_or("?", String::as_str)
    }

    /// The cost of a feature.
    pub fn cost(&self, feature: usize) -> f64 {
        self.costs.get(feature).copied().unwrap_or(f64::INFINITY)
    }

    /// The costs.
    pub fn all_costs(&self) -> &[f64] {
        &self.costs
    }

    /// First column of a feature, and how many there are.
    pub fn columns(&self, feature: usize) -> (usize, usize) {
        let start = self.widths.iter().take(feature).sum();
        (start, self.widths.get(feature).copied().unwrap_or(0))
    }

    /// A mask of features [n, features] as one of columns [n, columns].
    pub fn spread(&self, mask: &Tensor) -> Result<Tensor, Error> {
        if self.widths.iter().all(|w| *w == 1) {
            return Ok(mask.clone());
        }
        let (f, columns) = (self.len(), self.n_columns());
        let mut owns = vec![0.0f32; f * columns];
        for feature in 0..f {
            let (start, width) = self.columns(feature);
            owns[feature * columns + start..][..width].fill(1.0);
        }
        Ok(mask.matmul(&Tensor::from_slice(mask.device(), &owns, &[f, columns])?)?)
    }

    /// What a network sees of inputs [n, columns] through a mask [n, features] in 0..1: the masked columns and the mask,
    /// [n, columns + features]. Columns with mask 0 are never read: whatever stands there, NaN too, changes nothing.
    pub fn seen(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor, Error> {
        let &[n, columns] = x.dims() else { return Err(Error::size("inputs", "shape [n, columns]", x.shape())) };
        if columns != self.n_columns() || mask.dims() != [n, self.len()] {
            let expected = format!("inputs [n, {}] and a mask [n, {}]", self.n_columns(), self.len());
            return Err(Error::size("features", expected, format!("{} and {}", x.shape(), mask.shape())));
        }
        let wide = self.spread(mask)?;
        let known = wide.gt(&wide.zeros_like()?)?.select(x, &x.zeros_like()?)?;
        Ok(concat(&[&known.mul(&wide)?, mask], 1)?)
    }

    /// The mask before the first question: 1 where a feature costs nothing. [n, features].
    pub fn free(&self, device: &Device, n: usize) -> Result<Tensor, Error> {
        let one: Vec<f32> = self.costs.iter().map(|c| if *c == 0.0 { 1.0 } else { 0.0 }).collect();
        Ok(Tensor::from_slice(device, &one, &[1, self.len()])?.expand(&[n, self.len()])?)
    }
}
