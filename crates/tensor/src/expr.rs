//! The element-wise language: each function once, with its WGSL, its value, its CPU loop and its gradient.
//!
//! A fused group is made of these. The value is generic over [`Real`], so the same formula is the f64 oracle and the
//! CPU engine's inner loop; WGSL bodies may clamp where drivers overflow.

use crate::dtype::DType;
use crate::engine::cpu::halves;
use crate::engine::cpu::simd::{Wide, wide};
use crate::error::{Error, Result};
use crate::real::Real;
use crate::tensor::Tensor;

type GradRule = fn(x: &[Tensor], y: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>>;

/// What a function takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// f32s to f32.
    Real,
    /// Any equal dtypes but bool, to the same.
    Same,
    /// Words (u32, i32 or bool), to the same.
    Bits,
    /// u32s to u32.
    Word,
    /// Any two equal dtypes to bool.
    Compare,
    /// f32 to bool.
    Test,
    /// (bool, T, T) to T.
    Select,
    /// Anything to a fixed dtype.
    Cast(DType),
    /// Anything to the same.
    Any,
}

/// One row of the table.
struct Info {
    name: &'static str,
    arity: usize,
    kind: Kind,
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "read by the wgpu engine"))]
    wgsl: &'static str,
    /// Rough cost in additions; what costs little is computed again rather than stored.
    cost: u32,
    grad: GradRule,
}

/// The loop of a function over a block.
struct Block<'a, 'b> {
    func: Func,
    dtype: DType,
    d: &'a mut [u32],
    s: &'a [&'b [u32]; 4],
}

impl Wide for Block<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        self.func.block_body(self.dtype, self.d, self.s);
    }
}

fn none(x: &[Tensor], _: &Tensor, _: &Tensor) -> Result<Vec<Option<Tensor>>> {
    Ok(vec![None; x.len()])
}

macro_rules! functions {
    (
        real { $($r:ident($($ra:ident),+) $rname:literal $rcost:literal $rwgsl:literal = $rval:expr, $rgrad:expr;)* }
        same { $($p:ident $pname:literal $pwgsl:literal = $pval:expr, $pint:expr, $pgrad:expr;)* }
        compare { $($c:ident $cname:literal $cwgsl:literal = $cop:tt;)* }
        word { $($w:ident($($wa:ident),+) $wname:literal $wkind:ident $wcost:literal $wwgsl:literal = $wval:expr;)* }
    ) => {
        /// An element-wise function.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // the names are those of PyTorch
        pub enum Func {
            $($r,)* $($p,)* $($c,)* $($w,)*
            IsNan, IsFinite, Select, ToF32, ToF16, ToI32, ToU32, ToBool, Identity, Detach,
        }

        impl Func {
            /// Every function.
            pub const ALL: &'static [Func] = &[
                $(Func::$r,)* $(Func::$p,)* $(Func::$c,)* $(Func::$w,)*
                Func::IsNan, Func::IsFinite, Func::Select, Func::ToF32, Func::ToF16, Func::ToI32, Func::ToU32,
                Func::ToBool, Func::Identity, Func::Detach,
            ];

            fn info(self) -> Info {
                match self {
                    $(Func::$r => Info { name: $rname, arity: [$(stringify!($ra)),+].len(), kind: Kind::Real, wgsl: $rwgsl, cost: $rcost, grad: $rgrad },)*
                    $(Func::$p => Info { name: $pname, arity: 2, kind: Kind::Same, wgsl: $pwgsl, cost: 1, grad: $pgrad },)*
                    $(Func::$c => Info { name: $cname, arity: 2, kind: Kind::Compare, wgsl: $cwgsl, cost: 1, grad: none },)*
                    $(Func::$w => Info { name: $wname, arity: [$(stringify!($wa)),+].len(), kind: Kind::$wkind, wgsl: $wwgsl, cost: $wcost, grad: none },)*
                    Func::IsNan => Info { name: "is_nan", arity: 1, kind: Kind::Test, cost: 1, grad: none,
                        wgsl: "return u32((bitcast<u32>(a) & 0x7fffffffu) > 0x7f800000u);" },
                    Func::IsFinite => Info { name: "is_finite", arity: 1, kind: Kind::Test, cost: 1, grad: none,
                        wgsl: "return u32((bitcast<u32>(a) & 0x7f800000u) != 0x7f800000u);" },
                    Func::Select => Info { name: "select", arity: 3, kind: Kind::Select, cost: 1, grad: grad_select,
                        wgsl: "return select(c, b, a != 0u);" },
                    Func::ToF32 => Info { name: "to_f32", arity: 1, kind: Kind::Cast(DType::F32), cost: 1, grad: grad_to_f32, wgsl: "return f32(a);" },
                    Func::ToF16 => Info { name: "to_f16", arity: 1, kind: Kind::Cast(DType::F16), cost: 2, wgsl: "return from_half(to_half(a));",
                        // Rounding counts as the identity; the gradient comes as halves.
                        grad: |_, _, dy| Ok(vec![Some(dy.cast(DType::F32)?)]) },
                    Func::ToI32 => Info { name: "to_i32", arity: 1, kind: Kind::Cast(DType::I32), cost: 1, grad: none, wgsl: "return i32(a);" },
                    Func::ToU32 => Info { name: "to_u32", arity: 1, kind: Kind::Cast(DType::U32), cost: 1, grad: none, wgsl: "return u32(a);" },
                    Func::ToBool => Info { name: "to_bool", arity: 1, kind: Kind::Cast(DType::Bool), cost: 1, grad: none, wgsl: "return u32(a != ZERO);" },
                    Func::Identity => Info { name: "identity", arity: 1, kind: Kind::Any, cost: 0, wgsl: "return a;",
                        grad: |_, _, dy| Ok(vec![Some(dy.clone())]) },
                    Func::Detach => Info { name: "detach", arity: 1, kind: Kind::Any, cost: 0, grad: none, wgsl: "return a;" },
                }
            }

            /// The value on real numbers: `None` where the function is not one of real numbers.
            pub fn real<R: Real>(self, x: &[R]) -> Option<R> {
                let get = |i: usize| x.get(i).copied().unwrap_or(R::ZERO);
                Some(match self {
                    $(Func::$r => { let mut at = 0; $(let $ra = get(at); at += 1;)+ let _ = at; $rval }),*
                    $(Func::$p => { let f: fn(R, R) -> R = $pval; f(get(0), get(1)) }),*
                    _ => return None,
                })
            }

            /// The value on words of dtype `dtype`: `None` where the function is not one of words.
            pub fn word(self, dtype: DType, x: &[u32]) -> Option<u32> {
                let get = |i: usize| x.get(i).copied().unwrap_or(0);
                Some(match (self, dtype) {
                    $((Func::$p, DType::I32) => { let f: fn(i32, i32) -> i32 = $pint; f(get(0) as i32, get(1) as i32) as u32 })*
                    $((Func::$p, _) => { let f: fn(u32, u32) -> u32 = $pint; f(get(0), get(1)) })*
                    $((Func::$c, DType::I32) => u32::from((get(0) as i32) $cop (get(1) as i32)),)*
                    $((Func::$c, _) => u32::from(get(0) $cop get(1)),)*
                    $((Func::$w, _) => { let mut at = 0; $(let $wa = get(at); at += 1;)+ let _ = at; $wval })*
                    (Func::ToI32 | Func::ToU32 | Func::Identity | Func::Detach, _) => get(0),
                    (Func::ToBool, _) => u32::from(get(0) != 0),
                    _ => return None,
                })
            }

            /// Compares real numbers: `None` where the function is not a comparison or test.
            pub fn test<R: Real>(self, x: &[R]) -> Option<bool> {
                let get = |i: usize| x.get(i).copied().unwrap_or(R::ZERO);
                Some(match self {
                    $(Func::$c => get(0) $cop get(1),)*
                    Func::IsNan => get(0).is_nan(),
                    Func::IsFinite => get(0).is_finite(),
                    _ => return None,
                })
            }

            /// The CPU engine's loop: `d[i] = f(s[0][i], ..)` over words, f32s as their bits. `dtype` is that of the
            /// last input (of the branches in a `select`). Every source has at least `d.len()` words.
            pub(crate) fn block(self, dtype: DType, d: &mut [u32], s: &[&[u32]; 4]) {
                wide(Block { func: self, dtype, d, s });
            }

            #[allow(clippy::redundant_closure_call)]
            #[inline(always)]
            fn block_body(self, dtype: DType, d: &mut [u32], s: &[&[u32]; 4]) {
                let n = d.len();
                let f = f32::from_bits;
                match (self, dtype) {
                    $((Func::$r, _) => {
                        let mut at = 0; $(let $ra = &s[at][..n]; at += 1;)+ let _ = at;
                        for i in 0..n { $(let $ra = f($ra[i]);)+ type R = f32; let _: Option<R> = None; d[i] = ({ $rval } as f32).to_bits(); }
                    })*
                    $((Func::$p, DType::F32) => { let g: fn(f32, f32) -> f32 = $pval; let (a, b) = (&s[0][..n], &s[1][..n]); for i in 0..n { d[i] = g(f(a[i]), f(b[i])).to_bits(); } })*
                    $((Func::$p, DType::I32) => { let g: fn(i32, i32) -> i32 = $pint; let (a, b) = (&s[0][..n], &s[1][..n]); for i in 0..n { d[i] = g(a[i] as i32, b[i] as i32) as u32; } })*
                    $((Func::$p, _) => { let g: fn(u32, u32) -> u32 = $pint; let (a, b) = (&s[0][..n], &s[1][..n]); for i in 0..n { d[i] = g(a[i], b[i]); } })*
                    $((Func::$c, DType::F32) => { let (a, b) = (&s[0][..n], &s[1][..n]); for i in 0..n { d[i] = u32::from(f(a[i]) $cop f(b[i])); } })*
                    $((Func::$c, DType::I32) => { let (a, b) = (&s[0][..n], &s[1][..n]); for i in 0..n { d[i] = u32::from((a[i] as i32) $cop (b[i] as i32)); } })*
                    $((Func::$c, _) => { let (a, b) = (&s[0][..n], &s[1][..n]); for i in 0..n { d[i] = u32::from(a[i] $cop b[i]); } })*
                    $((Func::$w, _) => {
                        let mut at = 0; $(let $wa = &s[at][..n]; at += 1;)+ let _ = at;
                        for i in 0..n { $(let $wa = $wa[i];)+ d[i] = $wval; }
                    })*
                    (Func::IsNan, _) => { let a = &s[0][..n]; for i in 0..n { d[i] = u32::from(a[i] & 0x7fff_ffff > 0x7f80_0000); } }
                    (Func::IsFinite, _) => { let a = &s[0][..n]; for i in 0..n { d[i] = u32::from(a[i] & 0x7f80_0000 != 0x7f80_0000); } }
                    (Func::Select, _) => {
                        let (a, b, c) = (&s[0][..n], &s[1][..n], &s[2][..n]);
                        // By bits: a choice between places in memory would become a gather.
                        for i in 0..n {
                            let chosen = u32::from(a[i] == 0).wrapping_sub(1);
                            d[i] = c[i] ^ ((b[i] ^ c[i]) & chosen);
                        }
                    }
                    (Func::ToF32, DType::I32) => { let a = &s[0][..n]; for i in 0..n { d[i] = (a[i] as i32 as f32).to_bits(); } }
                    (Func::ToF32, DType::U32 | DType::Bool) => { let a = &s[0][..n]; for i in 0..n { d[i] = (a[i] as f32).to_bits(); } }
                    (Func::ToF16, _) => halves::round(&s[0][..n], d),
                    (Func::ToI32, DType::F32) => { let a = &s[0][..n]; for i in 0..n { d[i] = (f(a[i]) as i32) as u32; } }
                    (Func::ToU32, DType::F32) => { let a = &s[0][..n]; for i in 0..n { d[i] = f(a[i]) as u32; } }
                    (Func::ToBool, DType::F32) => { let a = &s[0][..n]; for i in 0..n { d[i] = u32::from(a[i] << 1 != 0); } }
                    (Func::ToBool, _) => { let a = &s[0][..n]; for i in 0..n { d[i] = u32::from(a[i] != 0); } }
                    (Func::ToF32 | Func::ToI32 | Func::ToU32 | Func::Identity | Func::Detach, _) => d.copy_from_slice(&s[0][..n]),
                }
            }
        }
    };
}

functions! {
    real {
        Neg(a) "neg" 1 "return -a;" = -a, |_, _, dy| Ok(vec![Some(dy.neg()?)]);
        Abs(a) "abs" 1 "return abs(a);" = a.abs(), |x, _, dy| Ok(vec![Some(dy.mul(&x[0].sign()?)?)]);
        Sign(a) "sign" 1 "return sign(a);" = if a.is_nan() { a } else if a > R::of(0.0) { R::of(1.0) } else if a < R::of(0.0) { R::of(-1.0) } else { R::of(0.0) }, none;
        Relu(a) "relu" 1 "return select(a, 0.0, a < 0.0);" = if a < R::of(0.0) { R::of(0.0) } else { a },
            |_, y, dy| Ok(vec![Some(y.gt(&y.zeros_like()?)?.select(dy, &dy.zeros_like()?)?)]);
        Exp(a) "exp" 8 "return exp(min(a, 88.8));" = a.exp(), |_, y, dy| Ok(vec![Some(dy.mul(y)?)]);
        Expm1(a) "expm1" 10 "if (abs(a) < 0.3) { return a * (1.0 + a * (0.5 + a * (0.16666667 + a * (0.041666667 + a * (0.0083333333 + a * (0.0013888889 + a * 0.00019841270)))))); } return exp(min(a, 88.8)) - 1.0;"
            = a.exp_m1(), |_, y, dy| Ok(vec![Some(dy.mul(&y.add_scalar(1.0)?)?)]);
        Ln(a) "log" 8 "return log(a);" = a.ln(), |x, _, dy| Ok(vec![Some(dy.div(&x[0])?)]);
        Log1p(a) "log1p" 10 "if (abs(a) < 0.02) { return a * (1.0 - a * (0.5 - a * (0.33333333 - a * (0.25 - a * (0.2 - a * 0.16666667))))); } return log(1.0 + a);"
            = a.ln_1p(), |x, _, dy| Ok(vec![Some(dy.div(&x[0].add_scalar(1.0)?)?)]);
        Sqrt(a) "sqrt" 3 "return sqrt(a);" = a.sqrt(), |_, y, dy| Ok(vec![Some(dy.div(y)?.mul_scalar(0.5)?)]);
        Rsqrt(a) "rsqrt" 4 "return inverseSqrt(a);" = R::of(1.0) / a.sqrt(),
            |x, y, dy| Ok(vec![Some(dy.mul(&y.div(&x[0])?)?.mul_scalar(-0.5)?)]);
        Recip(a) "recip" 2 "return 1.0 / a;" = R::of(1.0) / a, |_, y, dy| Ok(vec![Some(dy.mul(&y.mul(y)?)?.neg()?)]);
        Sin(a) "sin" 8 "return sin(a);" = a.sin(), |x, _, dy| Ok(vec![Some(dy.mul(&x[0].cos()?)?)]);
        Cos(a) "cos" 8 "return cos(a);" = a.cos(), |x, _, dy| Ok(vec![Some(dy.mul(&x[0].sin()?)?.neg()?)]);
        Tanh(a) "tanh" 10 "let x = abs(a); if (x < 0.15) { let s = a * a; return a * (1.0 + s * (-0.33333333 + s * (0.13333333 - s * 0.053968254))); } let e = exp(-2.0 * min(x, 15.0)); let t = (1.0 - e) / (1.0 + e); let r = select(t, -t, a < 0.0); return select(r, a, (bitcast<u32>(a) & 0x7fffffffu) > 0x7f800000u);"
            = a.tanh(), |_, y, dy| Ok(vec![Some(dy.sub(&dy.mul(&y.mul(y)?)?)?)]);
        Sigmoid(a) "sigmoid" 9 "return 1.0 / (1.0 + exp(min(-a, 88.0)));" = R::of(1.0) / (R::of(1.0) + (-a).exp()),
            |_, y, dy| Ok(vec![Some(dy.mul(&y.sub(&y.mul(y)?)?)?)]);
        Erf(a) "erf" 16 "let x = abs(a); if (x < 0.5) { let s = a * a; return a * (1.1283792 + s * (-0.37612639 + s * (0.11283792 + s * (-0.026866170 + s * (0.0052239776 - s * 0.00085483270))))); } let t = 1.0 / (1.0 + 0.5 * x); let y = t * exp(-min(x * x, 88.0) - 1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))))); let r = select(1.0 - y, y - 1.0, a < 0.0); return select(r, a, (bitcast<u32>(a) & 0x7fffffffu) > 0x7f800000u);"
            = Real::erf(a), |x, _, dy| Ok(vec![Some(dy.mul(&x[0].mul(&x[0])?.neg()?.exp()?)?.mul_scalar(std::f32::consts::FRAC_2_SQRT_PI)?)]);
        Floor(a) "floor" 1 "return floor(a);" = a.floor(), none;
        Ceil(a) "ceil" 1 "return ceil(a);" = a.ceil(), none;
        Round(a) "round" 1 "return round(a);" = Real::round(a), none;
        Div(a, b) "div" 2 "return a / b;" = a / b, |x, y, dy| {
            let da = dy.div(&x[1])?;
            let db = da.mul(y)?.neg()?;
            Ok(vec![Some(da), Some(db)])
        };
        Pow(a, b) "pow" 16 "if (b == 0.0) { return 1.0; } let m = pow(abs(a), b); let whole = b == floor(b); if (a < 0.0 && !whole) { return bitcast<f32>(0x7fc00000u); } let odd = whole && (abs(b) < 16777216.0) && (fract(abs(b) * 0.5) != 0.0); return select(m, -m, a < 0.0 && odd);"
            = a.powf(b), |x, y, dy| {
            // b · a^(b−1) is written with its own power, so that it is right at a = 0.
            let da = dy.mul(&x[1].mul(&x[0].pow(&x[1].add_scalar(-1.0)?)?)?)?;
            let log = x[0].gt(&x[0].zeros_like()?)?.select(&x[0], &x[0].ones_like()?)?.ln()?;
            Ok(vec![Some(da), Some(dy.mul(&y.mul(&log)?)?)])
        };
    }
    same {
        Add "add" "return a + b;" = |a, b| a + b, |a, b| a.wrapping_add(b), |_, _, dy| Ok(vec![Some(dy.clone()), Some(dy.clone())]);
        Sub "sub" "return a - b;" = |a, b| a - b, |a, b| a.wrapping_sub(b), |_, _, dy| Ok(vec![Some(dy.clone()), Some(dy.neg()?)]);
        Mul "mul" "return a * b;" = |a, b| a * b, |a, b| a.wrapping_mul(b), |x, _, dy| Ok(vec![Some(dy.mul(&x[1])?), Some(dy.mul(&x[0])?)]);
        Max "max" "return select(b, a, a > b || NAN(a));" = |a, b| if a.is_nan() || a > b { a } else { b }, |a, b| if a > b { a } else { b }, |x, _, dy| extremum(x, dy, false);
        Min "min" "return select(b, a, a < b || NAN(a));" = |a, b| if a.is_nan() || a < b { a } else { b }, |a, b| if a < b { a } else { b }, |x, _, dy| extremum(x, dy, true);
    }
    compare {
        Eq "eq" "return u32(a == b);" = ==;
        Ne "ne" "return u32(a != b);" = !=;
        Lt "lt" "return u32(a < b);" = <;
        Le "le" "return u32(a <= b);" = <=;
        Gt "gt" "return u32(a > b);" = >;
        Ge "ge" "return u32(a >= b);" = >=;
    }
    word {
        And(a, b) "and" Bits 1 "return a & b;" = a & b;
        Or(a, b) "or" Bits 1 "return a | b;" = a | b;
        Xor(a, b) "xor" Bits 1 "return a ^ b;" = a ^ b;
        Shl(a, b) "shl" Word 1 "return a << (b & 31u);" = a.wrapping_shl(b);
        Shr(a, b) "shr" Word 1 "return a >> (b & 31u);" = a.wrapping_shr(b);
        DivU(a, b) "div_u32" Word 4 "if (b == 0u) { return 0u; } return a / b;" = a.checked_div(b).unwrap_or(0);
        RemU(a, b) "rem_u32" Word 4 "if (b == 0u) { return 0u; } return a % b;" = a.checked_rem(b).unwrap_or(0);
        Philox(k0, k1, c0, c1) "philox" Word 80 "return philox4x32(vec2<u32>(a, b), vec4<u32>(c, d, 0u, 0u)).x;" = philox([k0, k1], [c0, c1, 0, 0])[0];
    }
}

fn grad_select(x: &[Tensor], _: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
    if dy.dtype() != DType::F32 {
        return Ok(vec![None; 3]);
    }
    let zero = dy.zeros_like()?;
    Ok(vec![None, Some(x[0].select(dy, &zero)?), Some(x[0].select(&zero, dy)?)])
}

fn grad_to_f32(x: &[Tensor], _: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
    // The gradient of halves is kept as halves: scale the loss where it could underflow.
    Ok(vec![if x[0].dtype().is_float() { Some(dy.cast(x[0].dtype())?) } else { None }])
}

/// Ties share the gradient, as in PyTorch. The smaller of two wins where the other one is greater.
fn extremum(x: &[Tensor], dy: &Tensor, min: bool) -> Result<Vec<Option<Tensor>>> {
    let zero = dy.zeros_like()?;
    let (a, b) = if min { (&x[1], &x[0]) } else { (&x[0], &x[1]) };
    let half = a.eq(b)?.select(&dy.mul_scalar(0.5)?, &zero)?;
    Ok(vec![Some(a.gt(b)?.select(dy, &half)?), Some(b.gt(a)?.select(dy, &half)?)])
}

/// Philox4x32-10 (Salmon et al. 2011): four random words of a counter under a key.
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let ([mut k0, mut k1], [mut c0, mut c1, mut c2, mut c3]) = (key, counter);
    for _ in 0..10 {
        let p0 = u64::from(c0) * 0xD251_1F53;
        let p1 = u64::from(c2) * 0xCD9E_8D57;
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

impl Func {
    /// The name, as printed and as in WGSL (`f_<name>_<dtype>`).
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Number of inputs.
    pub fn arity(self) -> usize {
        self.info().arity
    }

    /// Rough cost in additions.
    pub fn cost(self) -> u32 {
        self.info().cost
    }

    /// The body of the WGSL function of `a`, `b`, `c`, `d`.
    #[cfg(feature = "gpu")]
    pub(crate) fn wgsl(self) -> &'static str {
        self.info().wgsl
    }

    pub(crate) fn grad(self, x: &[Tensor], y: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        (self.info().grad)(x, y, dy)
    }

    /// The dtype of the result.
    pub fn dtype(self, inputs: &[DType]) -> Result<DType> {
        let info = self.info();
        let op = info.name;
        let bad = |i: usize, expected: &str| {
            Err(Error::DType { op, expected: expected.into(), found: inputs.get(i).copied().unwrap_or(DType::F32) })
        };
        if inputs.len() != info.arity {
            return Err(Error::shape(op, format!("{} inputs", info.arity), format!("{}", inputs.len())));
        }
        // All that halves can do is to be read as f32 and to be passed on.
        if !matches!(self, Func::ToF32 | Func::Identity | Func::Detach)
            && let Some(i) = inputs.iter().position(|&d| d == DType::F16)
        {
            return bad(i, "a dtype to compute in (f16 is storage only)");
        }
        let first = inputs[0];
        let differs = inputs.iter().position(|&d| d != first);
        match info.kind {
            Kind::Real | Kind::Test => match inputs.iter().position(|&d| d != DType::F32) {
                Some(i) => bad(i, "f32"),
                None => Ok(if info.kind == Kind::Real { DType::F32 } else { DType::Bool }),
            },
            Kind::Same if first == DType::Bool => bad(0, "f32, u32 or i32"),
            Kind::Bits if first == DType::F32 => bad(0, "u32, i32 or bool"),
            Kind::Word if inputs.iter().any(|&d| d != DType::U32) => {
                bad(inputs.iter().position(|&d| d != DType::U32).unwrap_or(0), "u32")
            }
            Kind::Same | Kind::Bits | Kind::Word | Kind::Compare => match differs {
                Some(i) => bad(i, &first.to_string()),
                None => Ok(if info.kind == Kind::Compare { DType::Bool } else { first }),
            },
            Kind::Select if first != DType::Bool => bad(0, "bool"),
            Kind::Select if inputs[1] != inputs[2] => bad(2, &inputs[1].to_string()),
            Kind::Select => Ok(inputs[1]),
            Kind::Cast(DType::F16) if first != DType::F32 => bad(0, "f32"),
            Kind::Cast(to) => Ok(to),
            Kind::Any => Ok(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_philox_known_answers() {
        assert_eq!(philox([0; 2], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 2], [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }
}
