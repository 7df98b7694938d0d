//! The trait that lets one reference formula run in f32 and in f64.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use half::f16;

use crate::engine::cpu::halves::widened;

/// `f32` or `f64`.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// From a double, rounded.
    fn of(x: f64) -> Self;
    /// To a double.
    fn f64(self) -> f64;
    /// From halves, exactly.
    fn of_halves(x: &[f16]) -> Vec<Self>;
    /// From a count; exact below 2^24 in f32.
    fn count(n: usize) -> Self {
        Self::of(n as f64)
    }
    /// Larger of two; NaN if either is.
    fn max_nan(self, other: Self) -> Self {
        if self.is_nan() || self > other { self } else { other }
    }
    /// Smaller of two; NaN if either is.
    fn min_nan(self, other: Self) -> Self {
        if self.is_nan() || self < other { self } else { other }
    }
    /// Whether not a number.
    fn is_nan(self) -> bool;
    /// Whether neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Absolute value.
    fn abs(self) -> Self;
    /// e^x.
    fn exp(self) -> Self;
    /// e^x - 1.
    fn exp_m1(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x).
    fn ln_1p(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Sine.
    fn sin(self) -> Self;
    /// Cosine.
    fn cos(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// x^y.
    fn powf(self, y: Self) -> Self;
    /// Largest integer not above.
    fn floor(self) -> Self;
    /// Smallest integer not below.
    fn ceil(self) -> Self;
    /// Nearest integer, ties to even.
    fn round(self) -> Self;
    /// Error function.
    fn erf(self) -> Self {
        Self::of(erf(self.f64()))
    }
}

macro_rules! real {
    ($t:ident, $of_halves:expr) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $t::INFINITY;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const NAN: Self = $t::NAN;
            #[inline]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline]
            fn f64(self) -> f64 {
                self.into()
            }
            fn of_halves(x: &[f16]) -> Vec<Self> {
                $of_halves(x)
            }
            #[inline]
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
            #[inline]
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            #[inline]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline]
            fn exp(self) -> Self {
                $t::exp(self)
            }
            #[inline]
            fn exp_m1(self) -> Self {
                $t::exp_m1(self)
            }
            #[inline]
            fn ln(self) -> Self {
                $t::ln(self)
            }
            #[inline]
            fn ln_1p(self) -> Self {
                $t::ln_1p(self)
            }
            #[inline]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline]
            fn sin(self) -> Self {
                $t::sin(self)
            }
            #[inline]
            fn cos(self) -> Self {
                $t::cos(self)
            }
            #[inline]
            fn tanh(self) -> Self {
                $t::tanh(self)
            }
            #[inline]
            fn powf(self, y: Self) -> Self {
                $t::powf(self, y)
            }
            #[inline]
            fn floor(self) -> Self {
                $t::floor(self)
            }
            #[inline]
            fn ceil(self) -> Self {
                $t::ceil(self)
            }
            #[inline]
            fn round(self) -> Self {
                $t::round_ties_even(self)
            }
        }
    };
}
real!(f32, widened);
real!(f64, |x: &[f16]| x.iter().map(|x| x.to_f64()).collect());

/// The error function in double precision: the Maclaurin series below 3, the continued fraction of erfc above
/// (Abramowitz and Stegun, 7.1.5 and 7.1.14).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a < 3.0 {
        let (mut term, mut total, mut n) = (a, a, 0.0);
        while term.abs() > 1e-17 * total.abs().max(1e-300) {
            n += 1.0;
            term *= -a * a / n;
            total += term / (2.0 * n + 1.0);
            if n > 200.0 {
                break;
            }
        }
        return (std::f64::consts::FRAC_2_SQRT_PI * total).copysign(x);
    }
    let mut fraction = a;
    for k in (1..60).rev() {
        fraction = a + f64::from(k) / 2.0 / fraction;
    }
    let erfc = (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt());
    (1.0 - erfc).copysign(x)
}
