//! Comparing what a device answered with what the oracle says.

use acclimate_tensor::oracle::{self, Data};
use acclimate_tensor::{DType, Device, Result, Tensor, f16};

use super::case::{Scale, Tolerance};

/// A value read back from a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Got {
    /// f32, or f16 widened.
    Real(Vec<f32>),
    /// u32, i32 as bits, bool.
    Word(Vec<u32>),
}

impl Got {
    pub fn read(t: &Tensor) -> Result<Got> {
        Ok(match t.dtype() {
            DType::F32 => Got::Real(t.to_vec()?),
            DType::F16 => Got::Real(t.to_vec::<f16>()?.into_iter().map(f32::from).collect()),
            DType::I32 => Got::Word(t.to_vec::<i32>()?.into_iter().map(|x| x as u32).collect()),
            DType::U32 | DType::Bool => Got::Word(t.to_vec()?),
        })
    }

    /// The bits.
    pub fn bits(&self) -> Vec<u32> {
        match self {
            Got::Real(x) => x.iter().map(|x| x.to_bits()).collect(),
            Got::Word(x) => x.clone(),
        }
    }
}

/// What the oracle says, with the error that is allowed at each element.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// Value and bound.
    Real(Vec<(f64, f64)>),
    /// Exactly this.
    Word(Vec<u32>),
}

/// The oracle's values of `outputs`. `magnitude` is asked for the same outputs of the inputs' absolute values where the
/// tolerance is relative to those.
pub(super) fn expect(
    outputs: &[Tensor],
    tolerance: Tolerance,
    magnitude: impl Fn() -> Result<Vec<Tensor>>,
) -> Result<Vec<Want>> {
    let magnitudes = if tolerance.scale == Scale::Magnitude { magnitude()? } else { Vec::new() };
    outputs
        .iter()
        .enumerate()
        .map(|(j, y)| {
            let y = match oracle::evaluate(y, &[])? {
                Data::Real(y) => y,
                Data::Half(y) => y.into_iter().map(f64::from).collect(),
                Data::Word(y) => return Ok(Want::Word(y)),
            };
            let largest = y.iter().copied().filter(|y| y.is_finite()).fold(0.0, |m: f64, y| m.max(y.abs()));
            let scales: Vec<f64> = match tolerance.scale {
                Scale::Output => y.iter().map(|y| y.abs()).collect(),
                Scale::Largest => vec![largest; y.len()],
                Scale::Fixed(scale) => vec![scale; y.len()],
                Scale::Magnitude => match magnitudes.get(j).map(|m| oracle::evaluate(m, &[])).transpose()? {
                    Some(m) => m.real().iter().map(|m| m.abs()).collect(),
                    None => vec![0.0; y.len()],
                },
            };
            // Half a unit in the last place of 1.
            let eps = f64::from(f32::EPSILON) / 2.0;
            let tiny = if tolerance == Tolerance::EXACT { 0.0 } else { f64::from(f32::MIN_POSITIVE) };
            let bound = |scale: f64| tolerance.k * eps * tolerance.depth * scale + tiny;
            Ok(Want::Real(y.into_iter().zip(scales).map(|(y, scale)| (y, bound(scale))).collect()))
        })
        .collect()
}

/// Says which element is wrong.
pub(super) fn compare(got: &Got, want: &Want, of: &str) -> std::result::Result<(), String> {
    match (got, want) {
        (Got::Real(got), Want::Real(want)) => {
            if got.len() != want.len() {
                return Err(format!("{of}: {} elements, the oracle has {}", got.len(), want.len()));
            }
            for (i, (&g, &(w, bound))) in got.iter().zip(want).enumerate() {
                // What is infinite in f32, or exact, is compared after rounding.
                let same = g == w as f32 || (g.is_nan() && w.is_nan());
                let error = (f64::from(g) - w).abs();
                if !same && (error > bound || error.is_nan()) {
                    return Err(format!("{of}[{i}]: got {g:e}, oracle {w:e}, error {error:.1e} above {bound:.1e}"));
                }
            }
            Ok(())
        }
        (Got::Word(got), Want::Word(want)) => match got.iter().zip(want).position(|(g, w)| g != w) {
            Some(i) => Err(format!("{of}[{i}]: got {}, oracle {}", got[i], want[i])),
            None if got.len() != want.len() => Err(format!("{of}: {} words, not {}", got.len(), want.len())),
            None => Ok(()),
        },
        _ => Err(format!("{of}: real numbers where the oracle has words, or the reverse")),
    }
}

/// Says where bits differ.
pub(super) fn same_bits(a: &[u32], b: &[u32], of: &str) -> std::result::Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("{of}: {} and {} elements", a.len(), b.len()));
    }
    match a.iter().zip(b).position(|(a, b)| a != b) {
        Some(i) => Err(format!("{of}[{i}]: bits {:08x} and {:08x}", a[i], b[i])),
        None => Ok(()),
    }
}

/// The absolute values of real inputs, the others as they are, on the CPU.
pub(super) fn absolute(inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let cpu = Device::cpu();
    inputs
        .iter()
        .map(|t| match t.dtype() {
            DType::F32 => {
                let data: Vec<f32> = t.to_vec::<f32>()?.into_iter().map(f32::abs).collect();
                Tensor::from_slice(&cpu, &data, t.dims())
            }
            _ => t.to_device(&cpu),
        })
        .collect()
}
