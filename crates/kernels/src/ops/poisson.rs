//! Poisson counts.
//!
//! P(out = k) = exp(−λ) λᵏ / k!, for each λ of the input; NaN where λ is negative or not finite.
//! Below λ = 10 the number of uniform factors whose product stays above exp(−λ) (Knuth), else transformed rejection
//! (PTRS, Hörmann 1993). Words are Philox4x32-10 of counter [i, block, 0, 0] under the key, i being the element's
//! position among those of its key: by product, word q mod 4 of block ⌊q/4⌋ is number q; by rejection, try number d
//! takes words 0 and 1 of block d. All in f32 whatever the reference runs in: a count has no rounding to compare.
//! Shapes: rate [..] (f32), key `[2]` or [k, 2] (u32, k divides the elements of rate) → that of rate.

use acclimate_shaders::shaders;
use acclimate_tensor::expr::philox;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, arity};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Spec, Tensor, record_one};
use rayon::prelude::*;

/// Poisson counts: inputs rate and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Poisson;

/// A number in (0, 1) from the upper 23 bits of a word.
fn open_uniform(word: u32) -> f32 {
    ((word >> 9) as f32 + 0.5) * f32::EPSILON
}

fn by_product(words: impl Fn(u32) -> [u32; 4], rate: f32) -> f32 {
    let stop = (-rate).exp();
    let mut product = 1.0;
    // With λ < 10 no more than 80 factors are ever needed; 200 is a guard.
    for q in 0..50u16 {
        for (word, j) in words(u32::from(q)).into_iter().zip(0..) {
            product *= open_uniform(word);
            if product <= stop {
                return f32::from(4 * q + j);
            }
        }
    }
    200.0
}

/// ln of exp(−λ) λᵏ / k!, by Stirling's series, written so that no two large numbers are subtracted.
fn log_probability(k: f32, rate: f32) -> f32 {
    if k == 0.0 {
        return -rate;
    }
    let d = (rate - k) / k;
    // ln(1 + d) − d
    let bend = if d.abs() < 0.2 {
        (2..=12u8).rev().fold(0.0, |bend, j| 1.0 / f32::from(j) - d * bend) * -d * d
    } else {
        (1.0 + d).ln() - d
    };
    let r = 1.0 / (k * k);
    k * bend - 0.5 * (std::f32::consts::TAU * k).ln() - (1.0 / 12.0 - r * (1.0 / 360.0 - r / 1260.0)) / k
}

fn by_rejection(words: impl Fn(u32) -> [u32; 4], rate: f32) -> f32 {
    let b = 0.931 + 2.53 * rate.sqrt();
    let a = -0.059 + 0.02483 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let squeeze = 0.9277 - 3.6224 / (b - 2.0);
    // More than 9 tries in 10 are taken, so 64 do not fail in any life.
    for d in 0..64 {
        let block = words(d);
        let (u, v) = (open_uniform(block[0]) - 0.5, open_uniform(block[1]));
        let edge = 0.5 - u.abs();
        let k = ((2.0 * a / edge + b) * u + rate + 0.43).floor();
        if edge >= 0.07 && v <= squeeze {
            return k;
        }
        if k < 0.0 || (edge < 0.013 && v > edge) {
            continue;
        }
        if (v * inverse_alpha / (a / (edge * edge) + b)).ln() <= log_probability(k, rate) {
            return k;
        }
    }
    rate.floor()
}

fn draw(rate: f32, key: [u32; 2], i: u32) -> f32 {
    let words = |block| philox(key, [i, block, 0, 0]);
    match rate {
        _ if !rate.is_finite() || rate < 0.0 => f32::NAN,
        _ if rate < 10.0 => by_product(words, rate),
        _ => by_rejection(words, rate),
    }
}

/// How many elements share a key.
fn per_key(rate: &Spec, key: &Spec) -> usize {
    (rate.numel() / (key.numel() / 2).max(1)).max(1)
}

impl Kernel for Poisson {
    const NAME: &'static str = "poisson";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [rate, key] = arity(Self::NAME, inputs)?;
        rate.require_dtype(Self::NAME, DType::F32)?;
        key.require_dtype(Self::NAME, DType::U32)?;
        let n_keys = match *key.shape.dims() {
            [2] => 1,
            [k, 2] if k > 0 => k,
            _ => return Err(Error::shape(Self::NAME, "a key [2] or keys [k, 2]", format!("shape {}", key.shape))),
        };
        if rate.numel() % n_keys != 0 {
            let expected = format!("as many keys as divide the {} elements", rate.numel());
            return Err(Error::shape(Self::NAME, expected, format!("{n_keys} keys")));
        }
        Ok(vec![rate.clone()])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (rate, key, n) = (call.real(0), call.word(1), per_key(&call.in_specs[0], &call.in_specs[1]));
        let groups = rate.chunks(n).zip(call.out_real(0).chunks_mut(n)).zip(key.chunks_exact(2));
        for ((rate, out), key) in groups {
            for ((out, rate), i) in out.iter_mut().zip(rate).zip(0..) {
                *out = R::of(f64::from(draw(rate.f64() as f32, [key[0], key[1]], i)));
            }
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (rate, key, n) = (call.real(0), call.word(1), per_key(&call.in_specs[0], &call.in_specs[1]));
        let out = call.out_real(0);
        let one = |(i, (out, &rate)): (usize, (&mut f32, &f32))| {
            let at = i / n * 2;
            *out = draw(rate, [key[at], key[at + 1]], (i % n) as u32);
        };
        if out.len() < 1024 {
            out.iter_mut().zip(rate).enumerate().for_each(one);
        } else {
            out.par_iter_mut().zip(rate).enumerate().with_min_len(512).for_each(one);
        }
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].numel();
        let launch = Launch::threads(&shaders::POISSON, n).u32s(&[n, per_key(&inputs[0], &inputs[1])]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]).into())
    }

    fn grad(&self, _: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![None, None])
    }

    // A key of each slot; a shared one is repeated, so that each slot draws what it would draw alone.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let keys = cx.leading(1)?;
        let keys = keys.reshape(&[keys.numel() / 2, 2])?;
        Ok(vec![record_one(*self, &[&cx.leading(0)?, &keys])?])
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order, Values};
    let build = |x: &[Tensor]| Ok(vec![record_one(Poisson, &[&x[0], &x[1]])?]);
    let mut cases = Vec::new();
    for (dims, low, high) in [(&[1][..], 0.0, 1.0), (&[33], 0.0, 9.0), (&[3, 5, 7], 0.0, 40.0), (&[1025], 10.0, 500.0)]
    {
        let inputs = [Input::uniform(dims, low, high), Input::index(&[2], u32::MAX)];
        cases.push(Case::new(format!("{dims:?} from {low} to {high}"), inputs, build).order(Order::None));
    }
    let inputs = [Input::uniform(&[5, 3], 0.0, 40.0), Input::index(&[5, 2], u32::MAX)];
    cases.push(Case::new("a key of each row", inputs, build).order(Order::None));
    let odd = vec![0.0, -1.0, f32::NAN, f32::INFINITY, 9.999, 10.0, 1e6];
    let odd = [Input::new(&[7], Values::List(odd)), Input::index(&[2], u32::MAX)];
    cases.push(Case::new("rates that are none", odd, build).order(Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("no key", &["poisson", "key [2]", "[3]"], |d| {
            record_one(Poisson, &[&Tensor::zeros(d, &[4])?, &Tensor::full_u32(d, &[3], 0)?])
        }),
        Reject::new("too many keys", &["poisson", "4 elements", "3 keys"], |d| {
            record_one(Poisson, &[&Tensor::zeros(d, &[4])?, &Tensor::full_u32(d, &[3, 2], 0)?])
        }),
        Reject::new("words for rates", &["poisson", "f32", "u32"], |d| {
            record_one(Poisson, &[&Tensor::full_u32(d, &[4], 1)?, &Tensor::full_u32(d, &[2], 0)?])
        }),
    ]
}
