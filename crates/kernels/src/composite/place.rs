//! Tensors side by side.

use acclimate_tensor::{Error, Result, Tensor};

/// Tensors one after the other along an axis; the other sizes must agree. Bits are kept, NaN and −0 included.
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let a = Tensor::from_slice(&d, &[1.0f32, 2.0], &[2, 1])?;
/// let b = Tensor::from_slice(&d, &[3.0f32, 4.0, 5.0, 6.0], &[2, 2])?;
/// let c = acclimate_kernels::concat(&[&a, &b], 1)?;
/// assert_eq!(c.to_vec::<f32>()?, [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn concat(parts: &[&Tensor], axis: isize) -> Result<Tensor> {
    let Some(first) = parts.first() else { return Err(Error::shape("concat", "at least one tensor", "none")) };
    let at = first.shape().axis("concat", axis)?;
    let mut order: Vec<usize> = (0..first.rank()).collect();
    order.swap(0, at);
    let (mut pieces, mut offsets, mut rows, mut len) = (Vec::new(), Vec::new(), 0, 0);
    let front = first.permute(&order)?;
    for part in parts {
        first.spec().require_dtype("concat", part.dtype())?;
        let same = part.rank() == first.rank()
            && part.dims().iter().zip(first.dims()).enumerate().all(|(d, (a, b))| d == at || a == b);
        if !same {
            let expected = format!("the sizes of {} but for axis {at}", first.shape());
            return Err(Error::shape("concat", expected, format!("shape {}", part.shape())));
        }
        // The axis in front makes each part one flat piece.
        pieces.push(part.permute(&order)?.reshape(&[part.numel()])?);
        offsets.push(len);
        len += part.numel();
        rows += part.dims()[at];
    }
    if let [only] = parts {
        return Ok((*only).clone());
    }
    let mut dims = front.dims().to_vec();
    dims[0] = rows;
    Tensor::assemble(&pieces.iter().collect::<Vec<_>>(), &offsets, len)?.reshape(&dims)?.permute(&order)
}

/// Equal shapes along a new axis in front of `axis` (rank for the end).
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let a = Tensor::from_slice(&d, &[1.0f32, 2.0], &[2])?;
/// let b = Tensor::from_slice(&d, &[3.0f32, 4.0], &[2])?;
/// assert_eq!(acclimate_kernels::stack(&[&a, &b], 1)?.to_vec::<f32>()?, [1.0, 3.0, 2.0, 4.0]);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn stack(parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    let Some(first) = parts.first() else { return Err(Error::shape("stack", "at least one tensor", "none")) };
    if let Some(other) = parts.iter().find(|t| t.shape() != first.shape()) {
        let expected = format!("tensors of one shape, {}", first.shape());
        return Err(Error::shape("stack", expected, format!("shape {}", other.shape())));
    }
    if axis > first.rank() {
        return Err(Error::Axis { op: "stack", axis: axis as isize, rank: first.rank() + 1 });
    }
    let with_axis = parts.iter().map(|t| t.unsqueeze(axis)).collect::<Result<Vec<_>>>()?;
    concat(&with_axis.iter().collect::<Vec<_>>(), axis as isize)
}
