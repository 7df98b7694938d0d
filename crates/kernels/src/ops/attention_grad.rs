//! Gradient of attention by queries, keys and values.
//!
//! With w_ij = exp(scale · ⟨q_i, k_j⟩ − lse_i) where query i may look at key j and 0 elsewhere, and
//! s_ij = scale · w_ij · (⟨dy_i, v_j⟩ − D_i): dq_i = Σ_j s_ij · k_j, dk_j = Σ_i s_ij · q_i, dv_j = Σ_i w_ij · dy_i.
//! Shapes: q [b, n, d], k [b, m, d], v [b, m, e], dy [b, n, e], stats [b, n, 2] (lse and D), a mask as attention has it →
//! dq, dk, dv as q, k, v. Weights are computed again block by block; they are never in memory as a whole.

use acclimate_shaders::shaders;
use acclimate_tensor::engine::cpu::product::{Strides, Threads, gemm};
use acclimate_tensor::expr::Func;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Spec, Tensor, grad_with, record};
use rayon::prelude::*;

use crate::TensorOps;
use crate::ops::attention::{Attention, BLOCK, Sizes, merged};

/// Gradient of attention: inputs q, k, v, dy, stats and, if there is one, the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionGrad(pub Attention);

impl AttentionGrad {
    fn sizes(&self, inputs: &[Spec]) -> Result<Sizes> {
        let [q, k, v, dy, stats, mask @ ..] = inputs else {
            return Err(Error::shape(Self::NAME, "q, k, v, dy, stats and perhaps a mask", format!("{}", inputs.len())));
        };
        if mask.len() > 1 {
            return Err(Error::shape(Self::NAME, "one mask", format!("{}", mask.len())));
        }
        let s = Sizes::of(Self::NAME, q, k, v, mask.first())?;
        for (spec, dims) in [(dy, [s.batch, s.n, s.e]), (stats, [s.batch, s.n, 2])] {
            spec.require_dtype(Self::NAME, DType::F32)?;
            if *spec.shape != dims {
                let expected = format!("dy [{}, {}, {}] and stats [.., 2]", s.batch, s.n, s.e);
                return Err(Error::shape(Self::NAME, expected, format!("{} and {}", dy.shape, stats.shape)));
            }
        }
        Ok(s)
    }

    /// The same as graph of small steps, with the weights in memory: what gradients of gradients are made of.
    fn composite(&self, x: &[Tensor]) -> Result<[Tensor; 3]> {
        let (q, k, v, dy, stats) = (&x[0], &x[1], &x[2], &x[3], &x[4]);
        let scores = q.matmul_nt(k)?.mul_scalar(f32::from_bits(self.0.scale))?.sub(&stats.narrow(2, 0, 1)?)?;
        let mut weights = scores.clone();
        let seen = self.seen(scores.dims(), x)?;
        if let Some(seen) = &seen {
            // Twice: what is not seen may be infinite, and its slope then no number.
            weights = seen.select(&scores, &scores.zeros_like()?)?;
        }
        weights = weights.exp()?;
        if let Some(seen) = &seen {
            weights = seen.select(&weights, &weights.zeros_like()?)?;
        }
        let slopes = weights.mul(&dy.matmul_nt(v)?.sub(&stats.narrow(2, 1, 1)?)?)?;
        let slopes = slopes.mul_scalar(f32::from_bits(self.0.scale))?;
        Ok([slopes.matmul(k)?, slopes.matmul_tn(q)?, weights.matmul_tn(dy)?])
    }

    /// Which of the scores [b, n, m] count; none: all.
    fn seen(&self, dims: &[usize], x: &[Tensor]) -> Result<Option<Tensor>> {
        let mut seen = None;
        if self.0.causal {
            let place = |axis| Tensor::iota(x[0].device(), &[1, dims[1], dims[2]], axis);
            seen = Some(place(2)?.le(&place(1)?)?.expand(dims)?);
        }
        if let Some(mask) = x.get(5) {
            let (entries, share) = (mask.dims()[0], dims[0] / mask.dims()[0].max(1));
            let each = mask.unsqueeze(1)?.expand(&[entries, share, dims[1], dims[2]])?.reshape(dims)?;
            seen = Some(match seen {
                Some(causal) => causal.and(&each)?,
                None => each,
            });
        }
        Ok(seen)
    }

    /// One entry of the batch; the gradients hold zeros before.
    fn entry(&self, s: Sizes, entry: usize, x: [&[f32]; 5], mask: &[u32], to: [&mut [f32]; 3], threads: Threads) {
        let ([q, k, v, dy, stats], [dq, dk, dv]) = (x, to);
        let scale = f32::from_bits(self.0.scale);
        let size = BLOCK[0].min(s.n) * BLOCK[1].min(s.m);
        let (mut weights, mut slopes) = (vec![0.0; size], vec![0.0; size]);
        let (by_d, by_e) = (Strides::rows(s.d), Strides::rows(s.e));
        for first in (0..s.n).step_by(BLOCK[0]) {
            let rows = BLOCK[0].min(s.n - first);
            let end = if self.0.causal { s.m.min(first + rows) } else { s.m };
            for key in (0..end).step_by(BLOCK[1]) {
                let n_keys = BLOCK[1].min(end - key);
                let (weights, slopes) = (&mut weights[..rows * n_keys], &mut slopes[..rows * n_keys]);
                let (q, k) = (&q[first * s.d..], &k[key * s.d..]);
                let (dy, v) = (&dy[first * s.e..], &v[key * s.e..]);
                let (square, turned) = (Strides::rows(n_keys), Strides::transposed(n_keys));
                gemm((rows, n_keys, s.d), q, by_d, k, Strides::transposed(s.d), weights, square, false, threads);
                gemm((rows, n_keys, s.e), dy, by_e, v, Strides::transposed(s.e), slopes, square, false, threads);
                let blocks = weights.chunks_exact_mut(n_keys).zip(slopes.chunks_exact_mut(n_keys));
                for (i, (weights, slopes)) in blocks.enumerate() {
                    let (lse, inner) = (stats[2 * (first + i)], stats[2 * (first + i) + 1]);
                    for (j, (w, slope)) in weights.iter_mut().zip(slopes).enumerate() {
                        let seen = s.sees(self.0.causal, mask, entry, first + i, key + j);
                        *w = if seen { (*w * scale - lse).exp() } else { 0.0 };
                        *slope = if seen { scale * *w * (*slope - inner) } else { 0.0 };
                    }
                }
                let (dk, dv) = (&mut dk[key * s.d..], &mut dv[key * s.e..]);
                gemm((n_keys, s.e, rows), weights, turned, dy, by_e, dv, by_e, true, threads);
                gemm((n_keys, s.d, rows), slopes, turned, q, by_d, dk, by_d, true, threads);
                gemm((rows, s.d, n_keys), slopes, square, k, by_d, &mut dq[first * s.d..], by_d, true, threads);
            }
        }
    }
}

impl Kernel for AttentionGrad {
    const NAME: &'static str = "attention_grad";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        self.sizes(inputs)?;
        Ok(inputs[..3].to_vec())
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let Ok(s) = self.sizes(call.in_specs) else { return };
        let (q, k, v, dy, stats) = (call.real(0), call.real(1), call.real(2), call.real(3), call.real(4));
        let mask = call.word(5);
        let scale = R::of(f64::from(f32::from_bits(self.0.scale)));
        let dot = |a: &[R], b: &[R]| a.iter().zip(b).map(|(&a, &b)| a * b).sum::<R>();
        let add = |to: &mut [R], by: R, x: &[R]| to.iter_mut().zip(x).for_each(|(to, &x)| *to += by * x);
        let [dq, dk, dv] = call.outs_real();
        [&mut *dq, &mut *dk, &mut *dv].into_iter().for_each(|x| x.fill(R::ZERO));
        for row in 0..s.batch * s.n {
            let (b, i) = (row / s.n, row % s.n);
            let (q, dy) = (&q[row * s.d..][..s.d], &dy[row * s.e..][..s.e]);
            for j in (0..s.m).filter(|&j| s.sees(self.0.causal, mask, b, i, j)) {
                let key = b * s.m + j;
                let (k, v) = (&k[key * s.d..][..s.d], &v[key * s.e..][..s.e]);
                let w = (scale * dot(q, k) - stats[2 * row]).exp();
                let slope = scale * w * (dot(dy, v) - stats[2 * row + 1]);
                add(&mut dq[row * s.d..][..s.d], slope, k);
                add(&mut dk[key * s.d..][..s.d], slope, q);
                add(&mut dv[key * s.e..][..s.e], w, dy);
            }
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let Ok(s) = self.sizes(call.in_specs) else { return };
        let (q, k, v, dy, stats) = (call.real(0), call.real(1), call.real(2), call.real(3), call.real(4));
        let mask = call.word(5);
        if s.n * s.e == 0 {
            return self.reference(call);
        }
        let [dq, dk, dv] = call.outs_real();
        [&mut *dq, &mut *dk, &mut *dv].into_iter().for_each(|x| x.fill(0.0));
        // Few entries share the threads inside their products.
        let threads = if s.batch < 4 { Threads::All } else { Threads::One };
        let (by_q, by_k, by_v) = (s.n * s.d, s.m * s.d, s.m * s.e);
        let one = |(b, ((dq, dk), dv)): (usize, ((&mut [f32], &mut [f32]), &mut [f32]))| {
            let x = [&q[b * by_q..], &k[b * by_k..], &v[b * by_v..], &dy[b * s.n * s.e..], &stats[2 * b * s.n..]];
            self.entry(s, b, x, mask, [dq, dk, dv], threads);
        };
        if threads == Threads::All {
            let entries = dq.chunks_mut(by_q).zip(dk.chunks_mut(by_k)).zip(dv.chunks_mut(by_v)).enumerate();
            entries.for_each(one);
        } else {
            let entries = dq.par_chunks_mut(by_q).zip(dk.par_chunks_mut(by_k)).zip(dv.par_chunks_mut(by_v));
            entries.enumerate().for_each(one);
        }
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let s = self.sizes(inputs)?;
        // Without a mask nobody reads it.
        let mask = Bind::In(if s.share == 0 { 0 } else { 5 });
        let mut ins: Vec<Bind> = (0..5).map(Bind::In).collect();
        ins.push(mask);
        let launch = |shader, tiles: usize, outs: &[usize]| {
            let outs = outs.iter().map(|&i| Bind::Out(i));
            s.params(Launch::new(shader, s.batch * tiles), self.0)
                .bind(&ins.iter().copied().chain(outs).collect::<Vec<_>>())
        };
        let by_q = launch(&shaders::ATTENTION_GRAD_Q, s.n.div_ceil(64) * s.d.div_ceil(64), &[0]);
        let by_kv = launch(&shaders::ATTENTION_GRAD_KV, s.m.div_ceil(64) * s.d.max(s.e).div_ceil(64), &[1, 2]);
        Ok(Launches { scratch: Vec::new(), list: vec![by_q, by_kv] })
    }

    fn flop(&self, inputs: &[Spec], _: &[Spec]) -> u64 {
        self.sizes(inputs).map_or(0, |s| 2 * (s.batch * s.n * s.m * (3 * s.d + 2 * s.e)) as u64)
    }

    // Through the composite, of nodes of its own: what flows on to the inputs of this op is not what they depend on.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let own: Vec<Tensor> = cx
            .inputs
            .iter()
            .map(|x| if x.dtype() == DType::F32 { Tensor::map(Func::Identity, &[x]) } else { Ok(x.clone()) })
            .collect::<Result<_>>()?;
        let outputs = self.composite(&own)?;
        let pairs = outputs.into_iter().zip(cx.upstream).filter_map(|(y, dy)| Some((y, dy.clone()?)));
        let grads = grad_with(&pairs.collect::<Vec<_>>(), own[..5].to_vec())?;
        let mut grads: Vec<Option<Tensor>> = grads.into_iter().map(Some).collect();
        grads.resize(cx.inputs.len(), None);
        Ok(grads)
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let inputs = merged(cx, 5)?;
        record(*self, &inputs.iter().collect::<Vec<_>>())?.iter().map(|y| cx.split(y)).collect()
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Scale, Tolerance, Values};
    let mut cases = Vec::new();
    let mut case = |name: String, [b, n, m, d, e]: [usize; 5], causal: bool, mask: Option<Input>| {
        let mut inputs = vec![Input::normal(&[b, n, d]), Input::normal(&[b, m, d]), Input::normal(&[b, m, e])];
        // Logarithms of sums that scores like these come to.
        inputs.extend([Input::normal(&[b, n, e]), Input::uniform(&[b, n, 2], 1.0, 3.0)]);
        inputs.extend(mask);
        let op = AttentionGrad(Attention { causal, scale: (1.0 / (d as f32).sqrt()).to_bits() });
        let build = move |x: &[Tensor]| record(op, &x.iter().collect::<Vec<_>>());
        // A weight's error is that of its score, a sum of d products of 8 at most, and of exp; then a sum of e products
        // and one of n or m, whose terms are of the size of the result but for signs: 8 times it.
        let tolerance = |exp: f64| Tolerance {
            k: 8.0,
            depth: 8.0 * (d + 2) as f64 + exp + (e + n.max(m)) as f64,
            scale: Scale::Largest,
        };
        cases.push(Case::new(name, inputs, build).tolerance(tolerance(2.0)).gpu_tolerance(tolerance(40.0)));
    };
    for sizes in
        [[1, 1, 1, 1, 1], [2, 3, 7, 5, 2], [1, 2, 65, 3, 4], [1, 66, 5, 2, 3], [1, 3, 4, 17, 65], [1, 4, 3, 66, 2]]
    {
        case(format!("{sizes:?}"), sizes, false, None);
    }
    for sizes in [[2, 7, 7, 3, 2], [1, 3, 7, 2, 2], [1, 67, 66, 2, 3]] {
        case(format!("causal {sizes:?}"), sizes, true, None);
    }
    let mask = |dims: &[usize]| Some(Input::new(dims, Values::Bool(0.6)));
    case("a mask".into(), [2, 5, 7, 3, 2], false, mask(&[2, 5, 7]));
    case("a shared mask, causal".into(), [4, 3, 7, 2, 2], true, mask(&[2, 3, 7]));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![Reject::new("another dy", &["attention_grad", "[2, 3, 4]", "[2, 3, 5]"], |d| {
        let (x, dy) = (Tensor::zeros(d, &[2, 3, 4])?, Tensor::zeros(d, &[2, 3, 5])?);
        let op = AttentionGrad(Attention { causal: false, scale: 1f32.to_bits() });
        Ok(record(op, &[&x, &x, &x, &dy, &Tensor::zeros(d, &[2, 3, 2])?])?.swap_remove(0))
    })]
}
