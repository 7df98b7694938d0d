//! The table: products, element-wise chains, sums, training steps, adaptation steps. Weights are inputs of the compiled
//! work, never folded constants.

mod ops;
mod steps;

use acclimate_tensor::{Device, Tensor};
use anyhow::Result;

use crate::row::{Row, Size, values};

/// Makes a row.
pub type Make = fn(&Device, Size) -> Result<Row>;

/// Every row by name, in the order of the tables.
pub const ROWS: &[(&str, Make)] = &[
    ("matmul_512", |d, size| ops::matmul("matmul_512", d, size.of(512, 33))),
    ("matmul_1024", |d, size| ops::matmul("matmul_1024", d, size.of(1024, 65))),
    ("relu_chain_4m", ops::relu_chain),
    ("sum_4m", ops::sum),
    ("mlp_step", steps::mlp_step),
    ("cnn_step", steps::cnn_step),
    ("cnn_forward", steps::cnn_forward),
    ("tent_step", steps::tent_step),
    ("slots_32", steps::slots),
    ("depthwise", ops::depthwise),
];

/// Rows in mixed precision: what halves change in time and memory. Their results are as exact as halves are.
pub const MIXED: &[(&str, Make)] = &[("mlp_step_half", steps::mlp_step_half), ("cnn_step_half", steps::cnn_step_half)];

/// Rows that run only when somebody names them: they take long where there is no GPU, or compare ways of our own.
pub const LARGE: &[(&str, Make)] = &[
    ("matmul_4096", |d, size| ops::matmul("matmul_4096", d, size.of(4096, 67))),
    ("matmul_4096_half", ops::matmul_half),
    ("resnet_forward", ops::resnet_forward),
    ("resnet_input_grad", ops::resnet_input_grad),
    ("resnet_weight_grad", ops::resnet_weight_grad),
    ("mobile_forward", steps::mobile_forward),
    ("mobile_tent", steps::mobile_tent),
    ("attention", |d, size| ops::attention("attention", d, size, ops::fused)),
    ("attention_composite", |d, size| ops::attention("attention_composite", d, size, ops::composite)),
];

/// A row by name.
fn find(name: &str) -> Result<(&'static str, Make)> {
    let every = || ROWS.iter().chain(MIXED).chain(LARGE);
    match every().find(|row| row.0 == name) {
        Some(row) => Ok(*row),
        None => {
            let names: Vec<&str> = every().map(|row| row.0).collect();
            anyhow::bail!("no row is called `{name}`; there are {}", names.join(", "))
        }
    }
}

/// Makes a row by name.
pub fn make(name: &str, device: &Device, size: Size) -> Result<Row> {
    find(name)?.1(device, size)
}

/// The rows with these names; without any, `otherwise`.
pub fn named<'a>(
    names: &[String],
    otherwise: impl Iterator<Item = &'a (&'static str, Make)>,
) -> Result<Vec<(&'static str, Make)>> {
    if names.is_empty() { Ok(otherwise.copied().collect()) } else { names.iter().map(|name| find(name)).collect() }
}

fn tensor(d: &Device, dims: &[usize], salt: u32) -> Result<Tensor> {
    Ok(Tensor::from_slice(d, &values(dims.iter().product(), salt), dims)?)
}
