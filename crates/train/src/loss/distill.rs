//! Losses of a student against its teacher: answers, features, attention. The teacher counts as given: no gradient flows
//! to it.

use acclimate_kernels::TensorOps;
use acclimate_tensor::{Error as TensorError, Tensor};

use super::{cross_entropy_rows, mean, require_same, rows_of};
use crate::error::{Error, Result};

/// T²·KL(teacher‖student), both softened by the temperature T; the mean over rows (PyTorch's `batchmean`): see
/// [`soft_kl_rows`].
///
/// ```
/// use acclimate_tensor::{Device, Tensor, grad};
/// use acclimate_train::loss;
///
/// let device = Device::cpu();
/// let student = Tensor::from_slice(&device, &[2.0f32, 0.5, -1.0], &[1, 3])?;
/// let teacher = Tensor::from_slice(&device, &[1.0f32, 1.5, -0.5], &[1, 3])?;
/// // Softer answers differ less, but T² keeps the pull: a student of equal logits feels none at any temperature.
/// assert!(loss::soft_kl(&student, &teacher, 4.0)?.item()? > 0.0);
/// assert_eq!(loss::soft_kl(&teacher, &teacher, 4.0)?.item()?, 0.0);
/// # Ok::<(), acclimate_train::Error>(())
/// ```
pub fn soft_kl(student: &Tensor, teacher: &Tensor, temperature: f32) -> Result<Tensor> {
    mean(&soft_kl_rows(student, teacher, temperature)?)
}

/// T²·Σ_k t_k (ln t_k − ln p_k) of each row, t = softmax(teacher/T), p = softmax(student/T) (Hinton, Vinyals, Dean 2015).
/// Its gradient is T·(p − t): the factor T² keeps it of one size while T grows. Through the graph that gradient is one
/// fused row operation (that of log-softmax) and a product. Shapes: both logits [n, c] → `[n]`, in nats. Fails unless T is
/// positive.
pub fn soft_kl_rows(student: &Tensor, teacher: &Tensor, temperature: f32) -> Result<Tensor> {
    rows_of("soft_kl", student)?;
    require_same("soft_kl", student, teacher)?;
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(Error::argument("temperature of distillation", "a positive number", temperature));
    }
    // A probability that underflows has ln p = −∞, and 0 · ∞ is no number: logarithms stop at the lowest finite one.
    let soft = |z: &Tensor| {
        let log_p = z.mul_scalar(1.0 / temperature)?.log_softmax(1)?;
        log_p.maximum(&log_p.full_like(f32::MIN)?)
    };
    let (log_p, log_t) = (soft(student)?, soft(&teacher.detach()?)?);
    let divergence = log_t.exp()?.mul(&log_t.sub(&log_p)?)?.sum(&[1])?;
    Ok(divergence.mul_scalar(temperature * temperature)?)
}

/// α·T²·KL(teacher‖student), both at temperature T, plus (1 − α)·cross-entropy of each row (Hinton, Vinyals, Dean 2015):
/// [`soft_kl_rows`] and [`cross_entropy_rows`]. Shapes: student and teacher [n, c], labels (u32) `[n]` → `[n]`. Fails
/// unless T is positive and α lies in [0, 1].
pub fn kd(student: &Tensor, teacher: &Tensor, labels: &Tensor, temperature: f32, alpha: f32) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&alpha) {
        return Err(Error::argument("alpha of kd", "a number in [0, 1]", alpha));
    }
    let soft = soft_kl_rows(student, teacher, temperature)?.mul_scalar(alpha)?;
    let hard = cross_entropy_rows(student, labels, 0.0)?.mul_scalar(1.0 - alpha)?;
    Ok(soft.add(&hard)?)
}

/// ½·‖f − t‖² of each row (Romero et al. 2015, FitNets): f the student's features behind a learned regressor, t the
/// teacher's. Shapes: both [n, ..] → `[n]`. Fails unless they are equal.
pub fn hint_rows(features: &Tensor, target: &Tensor) -> Result<Tensor> {
    require_same("hint", features, target)?;
    let axes = inner_axes("hint", features)?;
    Ok(features.sub(&target.detach()?)?.square()?.sum(&axes)?.mul_scalar(0.5)?)
}

/// ‖A_s/‖A_s‖ − A_t/‖A_t‖‖² of each row, A = Σ_c f² the map of how much is going on where (Zagoruyko and Komodakis 2017,
/// attention transfer, their activation-based form). A map of zeros has no direction and counts as zeros. Shapes: student
/// [n, c, ..], teacher [n, c', ..] → `[n]`; the number of channels may differ, the rest may not.
pub fn attention_rows(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let fits = student.rank() >= 3
        && student.rank() == teacher.rank()
        && student.dims()[0] == teacher.dims()[0]
        && student.dims()[2..] == teacher.dims()[2..];
    if !fits {
        let expected = format!("features of the student's shape {} but for axis 1", student.shape());
        return Err(TensorError::shape("attention", expected, format!("shape {}", teacher.shape())).into());
    }
    let axes = inner_axes("attention", &student.narrow(1, 0, 1)?.squeeze(1)?)?;
    let map = |features: &Tensor| -> Result<Tensor> {
        let energy = features.square()?.sum(&[1])?;
        let square = energy.square()?.sum_keep(&axes)?;
        let some = square.gt(&square.zeros_like()?)?;
        let length = some.select(&square, &square.ones_like()?)?.sqrt()?;
        Ok(energy.div(&length)?)
    };
    Ok(map(student)?.sub(&map(&teacher.detach()?)?)?.square()?.sum(&axes)?)
}

/// All axes but the first, which counts rows.
fn inner_axes(op: &'static str, x: &Tensor) -> Result<Vec<isize>> {
    match isize::try_from(x.rank()) {
        Ok(rank) if rank > 1 => Ok((1..rank).collect()),
        _ => Err(TensorError::shape(op, "features [n, ..]", format!("shape {}", x.shape())).into()),
    }
}
