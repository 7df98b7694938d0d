//! Scaled dot-product attention.
//!
//! o\[b,i,:\] = Σ_j w_ij · v\[b,j,:\] with w_i = softmax_j(scale · ⟨q\[b,i,:\], k\[b,j,:\]⟩) over the keys j that query i may look at,
//! and lse\[b,i\] = ln Σ_j exp(scale · ⟨q, k⟩), which the gradient needs.
//! Shapes: q [b, n, d], k [b, m, d], v [b, m, e] → [b, n, e] and [b, n]; d, m ≥ 1. A mask (bool) is [b / s, n, m]: s entries
//! of the batch, heads for example, share one. `causal`: query i looks at keys 0 ..= i. A query that may look at nothing
//! gets zeros, and lse 0.
//!
//! Neither pass has the weights in memory: keys are taken in blocks, and what was summed is scaled down where a larger score
//! appears (Milakov and Gimelshein 2018; Dao et al. 2022, FlashAttention).

use acclimate_shaders::shaders;
use acclimate_tensor::engine::cpu::product::{Strides, Threads, gemm};
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Shape, Spec, Tensor, record};
use rayon::prelude::*;

use crate::composite::stack;
use crate::ops::attention_grad::AttentionGrad;

/// Queries and keys that the CPU takes at a time.
pub(crate) const BLOCK: [usize; 2] = [64, 256];

/// Attention: inputs q, k, v and, if there is one, the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Whether query i looks at keys 0 ..= i alone.
    pub causal: bool,
    /// What scores are multiplied by, as bits.
    pub scale: u32,
}

/// How to attend; by default every query looks at every key.
#[derive(Clone, Debug, Default)]
pub struct Attend {
    /// Whether query i looks at keys 0 ..= i alone.
    pub causal: bool,
    /// What scores are multiplied by; 1/√d if nobody says.
    pub scale: Option<f32>,
    /// Which keys (last axis) a query (the axis before) may look at, bool; axes in front broadcast.
    pub mask: Option<Tensor>,
}

/// Sizes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub batch: usize,
    /// Queries.
    pub n: usize,
    /// Keys.
    pub m: usize,
    /// Width of queries and keys.
    pub d: usize,
    /// Width of values.
    pub e: usize,
    /// Entries of the batch that share a mask; 0 without one.
    pub share: usize,
}

impl Sizes {
    /// Of q, k, v and a mask that fit together.
    pub fn of(op: &'static str, q: &Spec, k: &Spec, v: &Spec, mask: Option<&Spec>) -> Result<Self> {
        for spec in [q, k, v] {
            spec.require_dtype(op, DType::F32)?;
        }
        let (&[batch, n, d], &[kb, m, kd], &[vb, vm, e]) = (&*q.shape, &*k.shape, &*v.shape) else {
            let found = format!("{}, {} and {}", q.shape, k.shape, v.shape);
            return Err(Error::shape(op, "queries [b, n, d], keys [b, m, d] and values [b, m, e]", found));
        };
        if (kb, vb, kd, vm) != (batch, batch, d, m) || d == 0 || m == 0 {
            let expected = format!("keys [{batch}, m, {d}] and values [{batch}, m, e] for queries {}, m ≥ 1", q.shape);
            return Err(Error::shape(op, expected, format!("{} and {}", k.shape, v.shape)));
        }
        let mut share = 0;
        if let Some(mask) = mask {
            mask.require_dtype(op, DType::Bool)?;
            match *mask.shape {
                [entries, mn, mm] if mn == n && mm == m && entries > 0 && batch % entries == 0 => {
                    share = (batch / entries).max(1);
                }
                _ => {
                    let expected = format!("a mask [b, {n}, {m}] whose b divides {batch}");
                    return Err(Error::shape(op, expected, format!("{}", mask.shape)));
                }
            }
        }
        Ok(Sizes { batch, n, m, d, e, share })
    }

    /// Whether query i of an entry may look at key j.
    pub fn sees(&self, causal: bool, mask: &[u32], entry: usize, i: usize, j: usize) -> bool {
        let open = || mask[(entry / self.share.max(1) * self.n + i) * self.m + j] != 0;
        !(causal && j > i) && (self.share == 0 || open())
    }

    /// The parameters that all shaders of attention have.
    pub fn params(&self, launch: Launch, how: Attention) -> Launch {
        let launch = launch.u32s(&[self.batch, self.n, self.m, self.d, self.e, self.share]);
        launch.u32(usize::from(how.causal)).f32(f32::from_bits(how.scale))
    }
}

impl Kernel for Attention {
    const NAME: &'static str = "attention";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let s = self.sizes(inputs)?;
        Ok(vec![Spec::f32(&[s.batch, s.n, s.e])?, Spec::f32(&[s.batch, s.n])?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let Ok(s) = self.sizes(call.in_specs) else { return };
        let (q, k, v, mask) = (call.real(0), call.real(1), call.real(2), call.word(3));
        let scale = R::of(f64::from(f32::from_bits(self.scale)));
        let [o, lse] = call.outs_real();
        let mut w = vec![R::ZERO; s.m];
        for row in 0..s.batch * s.n {
            let (b, i) = (row / s.n, row % s.n);
            for (j, w) in w.iter_mut().enumerate() {
                let pairs = q[row * s.d..][..s.d].iter().zip(&k[(b * s.m + j) * s.d..][..s.d]);
                let score = scale * pairs.map(|(&q, &k)| q * k).sum::<R>();
                *w = if s.sees(self.causal, mask, b, i, j) { score } else { R::NEG_INFINITY };
            }
            let peak = w.iter().copied().fold(R::NEG_INFINITY, R::max_nan);
            let out = &mut o[row * s.e..][..s.e];
            out.fill(R::ZERO);
            lse[row] = R::ZERO;
            if peak == R::NEG_INFINITY {
                continue;
            }
            w.iter_mut().for_each(|w| *w = (*w - peak).exp());
            let total: R = w.iter().copied().sum();
            lse[row] = peak + total.ln();
            for (j, &w) in w.iter().enumerate().filter(|(j, _)| s.sees(self.causal, mask, b, i, *j)) {
                out.iter_mut().zip(&v[(b * s.m + j) * s.e..]).for_each(|(o, &v)| *o += w / total * v);
            }
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let Ok(s) = self.sizes(call.in_specs) else { return };
        let (q, k, v, mask) = (call.real(0), call.real(1), call.real(2), call.word(3));
        let [o, lse] = call.outs_real();
        if s.n * s.e == 0 {
            return self.reference(call);
        }
        // Blocks of queries are cut by shape alone.
        let entries = o.par_chunks_mut(s.n * s.e).zip(lse.par_chunks_mut(s.n)).enumerate();
        entries.for_each(|(b, (o, lse))| {
            let (q, k, v) = (&q[b * s.n * s.d..], &k[b * s.m * s.d..], &v[b * s.m * s.e..]);
            let blocks = o.par_chunks_mut(BLOCK[0] * s.e).zip(lse.par_chunks_mut(BLOCK[0])).enumerate();
            blocks.for_each(|(at, (o, lse))| self.block(s, b, at * BLOCK[0], (q, k, v, mask), o, lse));
        });
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let s = self.sizes(inputs)?;
        let launch = Launch::new(&shaders::ATTENTION, s.batch * s.n.div_ceil(64) * s.e.div_ceil(64));
        // Without a mask nobody reads it.
        let mask = Bind::In(if s.share == 0 { 0 } else { 3 });
        let binds = [Bind::In(0), Bind::In(1), Bind::In(2), mask, Bind::Out(0), Bind::Out(1)];
        Ok(s.params(launch, *self).bind(&binds).into())
    }

    fn flop(&self, inputs: &[Spec], _: &[Spec]) -> u64 {
        self.sizes(inputs).map_or(0, |s| 2 * (s.batch * s.n * s.m * (s.d + s.e)) as u64)
    }

    // With w as above and D_i = ⟨dy_i, o_i⟩ − dlse_i: dv = wᵀ·dy, ds = w ⊙ (dy·vᵀ − D), dq = scale · ds·k, dk = scale · dsᵀ·q.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (o, lse) = (&cx.outputs[0], &cx.outputs[1]);
        let dy = cx.upstream()?;
        let mut inner = dy.mul(o)?.sum(&[-1])?;
        if let Some(dlse) = &cx.upstream[1] {
            inner = inner.sub(dlse)?;
        }
        let stats = stack(&[lse, &inner], 2)?;
        let mut inputs = vec![cx.input(0), cx.input(1), cx.input(2), &dy, &stats];
        inputs.extend(cx.inputs.get(3));
        let mut grads: Vec<Option<Tensor>> = record(AttentionGrad(*self), &inputs)?.into_iter().map(Some).collect();
        grads.resize(cx.inputs.len(), None);
        Ok(grads)
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let inputs = merged(cx, 3)?;
        record(*self, &inputs.iter().collect::<Vec<_>>())?.iter().map(|y| cx.split(y)).collect()
    }
}

/// The inputs with slots as more entries of the batch; the mask, if there is one, is input `mask`.
pub(crate) fn merged(cx: &BatchCx<'_>, mask: usize) -> Result<Vec<Tensor>> {
    let one = |i: usize| {
        // One mask for all serves all slots too.
        if i == mask && !cx.is_each(i) && cx.raw(i).dims().first() == Some(&1) {
            return Ok(cx.raw(i).clone());
        }
        cx.merged(i)
    };
    (0..cx.inputs.len()).map(one).collect()
}

impl Attention {
    fn sizes(&self, inputs: &[Spec]) -> Result<Sizes> {
        match inputs {
            [q, k, v] => Sizes::of(Self::NAME, q, k, v, None),
            [q, k, v, mask] => Sizes::of(Self::NAME, q, k, v, Some(mask)),
            _ => Err(Error::shape(Self::NAME, "q, k, v and perhaps a mask", format!("{} inputs", inputs.len()))),
        }
    }

    /// A block of queries from `first` on, against all keys.
    fn block(
        &self,
        s: Sizes,
        entry: usize,
        first: usize,
        (q, k, v, mask): (&[f32], &[f32], &[f32], &[u32]),
        o: &mut [f32],
        lse: &mut [f32],
    ) {
        let rows = lse.len();
        let scale = f32::from_bits(self.scale);
        let mut scores = vec![0.0; rows * BLOCK[1].min(s.m)];
        let mut peaks = vec![f32::NEG_INFINITY; rows];
        let mut totals = vec![0.0f32; rows];
        o.fill(0.0);
        let end = if self.causal { s.m.min(first + rows) } else { s.m };
        for key in (0..end).step_by(BLOCK[1]) {
            let n_keys = BLOCK[1].min(end - key);
            let scores = &mut scores[..rows * n_keys];
            let (q, k) = (&q[first * s.d..], &k[key * s.d..]);
            let (by_rows, by_columns) = (Strides::rows(s.d), Strides::transposed(s.d));
            let size = (rows, n_keys, s.d);
            gemm(size, q, by_rows, k, by_columns, scores, Strides::rows(n_keys), false, Threads::One);
            for (i, row) in scores.chunks_exact_mut(n_keys).enumerate() {
                row.iter_mut().for_each(|x| *x *= scale);
                if self.causal || s.share > 0 {
                    for (j, x) in row.iter_mut().enumerate() {
                        if !s.sees(self.causal, mask, entry, first + i, key + j) {
                            *x = f32::NEG_INFINITY;
                        }
                    }
                }
                let peak = row.iter().copied().fold(peaks[i], f32::max_nan);
                if peak == f32::NEG_INFINITY {
                    row.fill(0.0);
                    continue;
                }
                let keep = (peaks[i] - peak).exp();
                let mut total = 0.0;
                for x in row.iter_mut() {
                    *x = (*x - peak).exp();
                    total += *x;
                }
                totals[i] = totals[i] * keep + total;
                o[i * s.e..][..s.e].iter_mut().for_each(|o| *o *= keep);
                peaks[i] = peak;
            }
            let v = &v[key * s.e..];
            let rows_of = Strides::rows;
            gemm((rows, s.e, n_keys), scores, rows_of(n_keys), v, rows_of(s.e), o, rows_of(s.e), true, Threads::One);
        }
        for (i, (lse, row)) in lse.iter_mut().zip(o.chunks_exact_mut(s.e)).enumerate() {
            if peaks[i] == f32::NEG_INFINITY {
                *lse = 0.0;
                continue;
            }
            *lse = peaks[i] + totals[i].ln();
            row.iter_mut().for_each(|o| *o /= totals[i]);
        }
    }
}

/// Attention over the last two axes: q [.., n, d], k [.., m, d], v [.., m, e] → [.., n, e], equal axes in front.
#[track_caller]
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, how: &Attend) -> Result<Tensor> {
    let parts = [q, k, v].map(|t| t.dims().split_at(t.rank().saturating_sub(2)));
    let front = parts[0].0;
    if parts.iter().any(|(f, matrix)| *f != front || matrix.len() != 2) {
        let found = format!("{}, {} and {}", q.shape(), k.shape(), v.shape());
        return Err(Error::shape(Attention::NAME, "q [.., n, d], k [.., m, d], v [.., m, e], equal in front", found));
    }
    let batch = front.iter().product();
    let flat = |t: &Tensor, m: &[usize]| t.reshape(&[batch, m[0], m[1]]);
    let mut inputs = vec![flat(q, parts[0].1)?, flat(k, parts[1].1)?, flat(v, parts[2].1)?];
    if let Some(mask) = &how.mask {
        inputs.push(flat_mask(mask, front, [parts[0].1[0], parts[1].1[0]])?);
    }
    let scale = how.scale.unwrap_or(1.0 / (parts[0].1[1].max(1) as f32).sqrt()).to_bits();
    let outputs = record(Attention { causal: how.causal, scale }, &inputs.iter().collect::<Vec<_>>())?;
    let dims: Vec<usize> = front.iter().copied().chain([parts[0].1[0], parts[2].1[1]]).collect();
    outputs[0].reshape(&dims)
}

/// The mask as [b, n, m]: axes of 1 behind all others are shared, not copied.
fn flat_mask(mask: &Tensor, front: &[usize], [n, m]: [usize; 2]) -> Result<Tensor> {
    let all: Vec<usize> = front.iter().copied().chain([n, m]).collect();
    Shape::broadcast(Attention::NAME, &Shape::new(mask.dims())?, &Shape::new(&all)?)?;
    let mut own = vec![1; all.len().saturating_sub(mask.rank())];
    own.extend_from_slice(mask.dims());
    if own.len() != all.len() {
        let found = format!("a mask {} for {front:?} in front", mask.shape());
        return Err(Error::shape(Attention::NAME, "a mask of no more axes than the queries", found));
    }
    let shared = own[..front.len()].iter().rev().take_while(|&&axis| axis == 1).count();
    let mut kept = all[..front.len() - shared].to_vec();
    let entries = kept.iter().product();
    kept.resize(front.len(), 1);
    kept.extend([n, m]);
    mask.reshape(&own)?.expand(&kept)?.reshape(&[entries, n, m])
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Scale, Tolerance, Values};
    // A score is a sum of d products, 8 in all at most as drawn here; its roundings move a weight by as many, and so do
    // those of the weights' sum, twice. exp is within 1 ulp on the CPU, 3 + 2·|x| in WGSL. Values are below 4.
    let tolerance = |m: usize, d: usize, exp: f64| Tolerance {
        k: 1.0,
        depth: 2.0 * (8.0 * (d + 2) as f64 + exp) + m as f64,
        scale: Scale::Fixed(4.0),
    };
    let mut cases = Vec::new();
    let mut case = |name: String, [b, n, m, d, e]: [usize; 5], causal: bool, mask: Option<Input>| {
        let mut inputs = vec![Input::normal(&[b, n, d]), Input::normal(&[b, m, d]), Input::normal(&[b, m, e])];
        inputs.extend(mask);
        let op = Attention { causal, scale: (1.0 / (d as f32).sqrt()).to_bits() };
        let build = move |x: &[Tensor]| record(op, &x.iter().collect::<Vec<_>>());
        let case = Case::new(name, inputs, build).tolerance(tolerance(m, d, 2.0)).gpu_tolerance(tolerance(m, d, 40.0));
        // With one key its weight is 1 whatever the score: nothing to differentiate.
        cases.push(if m == 1 { case.order(crate::testkit::Order::None) } else { case });
    };
    // Around the tile of 64 and the CPU's blocks; keys and values of other widths.
    for sizes in
        [[1, 1, 1, 1, 1], [2, 3, 7, 5, 2], [1, 2, 65, 3, 4], [1, 66, 5, 2, 3], [1, 3, 4, 17, 65], [1, 2, 257, 2, 1]]
    {
        case(format!("{sizes:?}"), sizes, false, None);
    }
    for sizes in [[2, 7, 7, 3, 2], [1, 3, 7, 2, 2], [1, 67, 66, 2, 3]] {
        case(format!("causal {sizes:?}"), sizes, true, None);
    }
    let mask = |dims: &[usize]| Some(Input::new(dims, Values::Bool(0.6)));
    case("a mask".into(), [2, 5, 7, 3, 2], false, mask(&[2, 5, 7]));
    case("a shared mask".into(), [4, 3, 7, 2, 2], false, mask(&[2, 3, 7]));
    case("one mask, causal".into(), [2, 5, 7, 2, 3], true, mask(&[1, 5, 7]));
    // Most queries see nothing.
    case(
        "a mask that closes nearly all".into(),
        [2, 31, 2, 3, 2],
        false,
        Some(Input::new(&[2, 31, 2], Values::Bool(0.1))),
    );
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("widths differ", &["attention", "[2, m, 4]", "[2, 5, 3]"], |d| {
            let (q, k) = (Tensor::zeros(d, &[2, 3, 4])?, Tensor::zeros(d, &[2, 5, 3])?);
            attention(&q, &k, &k, &Attend::default())
        }),
        Reject::new("other axes in front", &["attention", "equal in front"], |d| {
            let (q, k) = (Tensor::zeros(d, &[2, 3, 4])?, Tensor::zeros(d, &[1, 3, 4])?);
            attention(&q, &k, &k, &Attend::default())
        }),
        Reject::new("no keys", &["attention", "m ≥ 1"], |d| {
            let (q, k) = (Tensor::zeros(d, &[2, 3, 4])?, Tensor::zeros(d, &[2, 0, 4])?);
            attention(&q, &k, &k, &Attend::default())
        }),
        Reject::new("a mask of numbers", &["attention", "bool", "f32"], |d| {
            let q = Tensor::zeros(d, &[2, 3, 4])?;
            let mask = Some(Tensor::zeros(d, &[3, 3])?);
            attention(&q, &q, &q, &Attend { mask, ..Default::default() })
        }),
        Reject::new("a mask that does not fit", &["attention", "[2, 3, 3]"], |d| {
            let q = Tensor::zeros(d, &[2, 3, 4])?;
            let mask = Some(Tensor::from_bools(d, &[true; 8], &[2, 4])?);
            attention(&q, &q, &q, &Attend { mask, ..Default::default() })
        }),
    ]
}
