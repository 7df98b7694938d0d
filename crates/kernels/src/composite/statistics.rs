//! Means, variances and positions of extremes.

use acclimate_tensor::{DType, Error, Result, Tensor};

/// Elements that a reduction over `axes` (all, if empty) combines.
fn count(x: &Tensor, axes: &[isize]) -> Result<usize> {
    if axes.is_empty() {
        return Ok(x.numel());
    }
    let mut positions = axes.iter().map(|&a| x.shape().axis("mean", a)).collect::<Result<Vec<_>>>()?;
    positions.sort_unstable();
    positions.dedup();
    Ok(positions.iter().map(|&d| x.dims()[d]).product())
}

/// Mean over axes, which go away; NaN of none.
#[track_caller]
pub fn mean(x: &Tensor, axes: &[isize]) -> Result<Tensor> {
    x.sum(axes)?.mul_scalar(1.0 / count(x, axes)? as f32)
}

/// Mean over axes, which stay with size 1.
#[track_caller]
pub fn mean_keep(x: &Tensor, axes: &[isize]) -> Result<Tensor> {
    x.sum_keep(axes)?.mul_scalar(1.0 / count(x, axes)? as f32)
}

/// Sum of squared deviations over n − correction, over axes, which go away. Two passes: no cancellation.
#[track_caller]
pub fn var(x: &Tensor, axes: &[isize], correction: f32) -> Result<Tensor> {
    let scale = 1.0 / (count(x, axes)? as f32 - correction).max(0.0);
    x.sub(&mean_keep(x, axes)?)?.square()?.sum(axes)?.mul_scalar(scale)
}

/// As [`var`]; the axes stay with size 1.
#[track_caller]
pub fn var_keep(x: &Tensor, axes: &[isize], correction: f32) -> Result<Tensor> {
    let scale = 1.0 / (count(x, axes)? as f32 - correction).max(0.0);
    x.sub(&mean_keep(x, axes)?)?.square()?.sum_keep(axes)?.mul_scalar(scale)
}

/// Position (u32) of the first largest element along an axis, which goes away. A NaN counts as the largest.
#[track_caller]
pub fn argmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    extreme(x, axis, "argmax", Tensor::max_keep)
}

/// Position (u32) of the first smallest element along an axis, which goes away. A NaN counts as the smallest.
#[track_caller]
pub fn argmin(x: &Tensor, axis: isize) -> Result<Tensor> {
    extreme(x, axis, "argmin", Tensor::min_keep)
}

fn extreme(
    x: &Tensor,
    axis: isize,
    op: &'static str,
    keep: impl Fn(&Tensor, &[isize]) -> Result<Tensor>,
) -> Result<Tensor> {
    let at = x.shape().axis(op, axis)?;
    let n = x.dims()[at];
    if n == 0 {
        return Err(Error::shape(op, "at least one element along the axis", format!("shape {}", x.shape())));
    }
    let best = keep(x, &[axis])?;
    let mut hit = x.eq(&best)?;
    if x.dtype() == DType::F32 {
        // NaN equals nothing; where the best is one, the first NaN is meant.
        hit = hit.or(&x.is_nan()?)?;
    }
    let position = Tensor::iota(x.device(), x.dims(), axis)?;
    let none = Tensor::full_u32(x.device(), x.dims(), u32::try_from(n).unwrap_or(u32::MAX))?;
    hit.select(&position, &none)?.min(&[axis])
}
