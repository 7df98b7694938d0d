//! Activations made of element-wise functions; fusion makes each one pass.

use acclimate_tensor::{Error, Result, Tensor};

/// x·½(1 + erf(x/√2)) (Hendrycks and Gimpel 2016).
#[track_caller]
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let phi = x.mul_scalar(std::f32::consts::FRAC_1_SQRT_2)?.erf()?.add_scalar(1.0)?;
    x.mul(&phi)?.mul_scalar(0.5)
}

/// The approximation of [`gelu`] by tanh: ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
#[track_caller]
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let cube = x.square()?.mul(x)?.mul_scalar(0.044_715)?;
    let inner = x.add(&cube)?.mul_scalar((2.0 / std::f32::consts::PI).sqrt())?;
    x.mul(&inner.tanh()?.add_scalar(1.0)?)?.mul_scalar(0.5)
}

/// x·σ(x) (Elfwing et al. 2018).
#[track_caller]
pub fn silu(x: &Tensor) -> Result<Tensor> {
    x.mul(&x.sigmoid()?)
}

/// min(max(x, 0), 6); no gradient at the two kinks, as in PyTorch.
#[track_caller]
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    let (y, six) = (x.relu()?, x.full_like(6.0)?);
    y.ge(&six)?.select(&six, &y)
}

/// ln(1 + eˣ), without overflow: max(x, 0) + ln(1 + e^−|x|).
#[track_caller]
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    let zero = x.zeros_like()?;
    let positive = x.gt(&zero)?;
    // Maximum and −|x| as selections, so that the gradient at 0 is ½.
    let down = positive.select(&x.neg()?, x)?;
    positive.select(x, &zero)?.add(&down.exp()?.log1p()?)
}

/// min(max(x, low), high); NaN stays. The gradient is 1 inside, bounds included, so that what was clipped can move
/// back, and 0 outside: as in PyTorch until 2.13 (from 2.14 on it is 0 at the bounds). Fails if
/// `low` is above `high` or either is NaN.
#[track_caller]
pub fn clamp(x: &Tensor, low: f32, high: f32) -> Result<Tensor> {
    if low.is_nan() || high.is_nan() || low > high {
        return Err(Error::argument("clamp", "low", format!("a number not above high, {high}"), low));
    }
    let (low, high) = (x.full_like(low)?, x.full_like(high)?);
    x.lt(&low)?.select(&low, &x.gt(&high)?.select(&high, x)?)
}
