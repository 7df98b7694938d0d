//! Fewer tokens in a transformer, for each input those that it can spare. The number that stays is a number of the plan, so
//! shapes are known; which ones is the input's own affair.
//!
//! Token 0 is the class token throughout; it always stays.

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{DType, Error as TensorError, Result, Tensor};

/// Tokens after a reduction, with what is known of them.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// [b, t, d].
    pub x: Tensor,
    /// How many of the input's tokens each stands for: [b, t].
    pub size: Tensor,
    /// Where each came from, for pictures: positions (u32) [b, t] for pruned tokens, none for merged ones.
    pub from: Option<Tensor>,
}

/// Sizes of [b, t, d] with at least one token behind the class token.
fn sizes(op: &'static str, x: &Tensor) -> Result<[usize; 3]> {
    match *x.dims() {
        [b, t, d] if t > 1 => Ok([b, t, d]),
        _ => Err(TensorError::shape(op, "tokens [b, t, d] with a class token and others", format!("{}", x.shape()))),
    }
}

/// Rows of `x` [b, t, d] at `index` [b, k] → [b, k, d].
fn rows(x: &Tensor, index: &Tensor) -> Result<Tensor> {
    let (&[b, k], &[_, _, d]) = (index.dims(), x.dims()) else {
        return Err(TensorError::shape("rows of tokens", "[b, t, d] and an index [b, k]", format!("{}", x.shape())));
    };
    x.gather(1, &index.reshape(&[b, k, 1])?.expand(&[b, k, d])?)
}

/// Attention that counts each token as many times as its `size` says, by adding ln(size) to its logits (Bolya et al. 2023,
/// "proportional attention"). Shapes: q, k, v [b, heads, t, d], size [b, t] or none → output [b, heads, t, d] and the
/// weights [b, heads, t, t].
///
/// # Errors
/// If shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, size: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let &[b, heads, t, d] = q.dims() else {
        return Err(TensorError::shape("attention", "queries [b, heads, t, d]", format!("{}", q.shape())));
    };
    let mut logits = q.mul_scalar(1.0 / (d as f32).sqrt())?.matmul_nt(k)?;
    if let Some(size) = size {
        logits = logits.add(&size.ln()?.reshape(&[b, 1, 1, t])?)?;
    }
    let weights = logits.softmax(-1)?;
    let out = weights.matmul(v)?;
    debug_assert_eq!(out.dims(), [b, heads, t, d]);
    Ok((out, weights))
}

/// How much the class token attends to each other token, the mean over heads: weights [b, heads, t, t] → [b, t − 1].
///
/// # Errors
/// If the weights have another shape.
pub fn class_attention(weights: &Tensor) -> Result<Tensor> {
    let &[b, heads, t, _] = weights.dims() else {
        return Err(TensorError::shape("class_attention", "[b, heads, t, t]", format!("{}", weights.shape())));
    };
    let of_class = weights.narrow(2, 0, 1)?.narrow(3, 1, t.saturating_sub(1))?;
    of_class.reshape(&[b, heads, t.saturating_sub(1)])?.mean(&[1])
}

/// The `keep` tokens that the class token attends to most, best first, behind the class token; the others become one,
/// Σ a_i·x_i over them, with the attention a as it is (Liang et al. 2022, EViT, equation 5; its code does not normalize
/// either). Shapes: x [b, t, d], attention [b, t − 1] → [b, 1 + keep + 1, d]; with keep = t − 1 all stay, in their order of
/// attention, and nothing is fused.
///
/// # Errors
/// If shapes do not fit or `keep` is more than there is.
pub fn keep_attended(tokens: &Tokens, attention: &Tensor, keep: usize) -> Result<Tokens> {
    let [b, t, d] = sizes("keep_attended", &tokens.x)?;
    if attention.dims() != [b, t - 1] {
        let expected = format!("attention of shape [{b}, {}]", t - 1);
        return Err(TensorError::shape("keep_attended", expected, format!("{}", attention.shape())));
    }
    if keep >= t {
        return Err(TensorError::argument("keep_attended", "keep", format!("at most {} tokens", t - 1), keep));
    }
    let (weight, order) = attention.sort(true)?;
    let order = order.add(&order.ones_like()?)?;
    let first = Tensor::full_u32(tokens.x.device(), &[b, 1], 0)?;
    let kept = concat(&[&first, &order.narrow(1, 0, keep)?], 1)?;
    let size_of = |index: &Tensor| tokens.size.gather(1, index);
    let (mut x, mut size, mut from) = (rows(&tokens.x, &kept)?, size_of(&kept)?, kept);
    let rest = t - 1 - keep;
    if rest > 0 {
        let gone = order.narrow(1, keep, rest)?;
        let weight = weight.narrow(1, keep, rest)?.reshape(&[b, rest, 1])?;
        let fused = rows(&tokens.x, &gone)?.mul(&weight)?.sum_keep(&[1])?;
        x = concat(&[&x, &fused.reshape(&[b, 1, d])?], 1)?;
        size = concat(&[&size, &size_of(&gone)?.sum_keep(&[1])?], 1)?;
        // Which is none: one behind the last.
        from = concat(&[&from, &Tensor::full_u32(from.device(), &[b, 1], u32::try_from(t).unwrap_or(u32::MAX))?], 1)?;
    }
    Ok(Tokens { x, size, from: Some(from) })
}

/// Merges the `remove` most similar pairs of tokens into one each, by bipartite matching (Bolya et al. 2023, ToMe): tokens
/// 0, 2, 4, .. each look for their most similar one among 1, 3, 5, ..; the `remove` best pairs become means weighted by size.
/// The class token is never merged away. Shapes: x [b, t, d], keys [b, t, c] (the mean over heads) → [b, t − remove, d]: what
/// is left of the even tokens in order, then the odd ones. `remove` is at most the number of even tokens but one.
///
/// # Errors
/// If shapes do not fit or `remove` is more than can be.
pub fn merge_similar(tokens: &Tokens, keys: &Tensor, remove: usize) -> Result<Tokens> {
    let [b, t, d] = sizes("merge_similar", &tokens.x)?;
    if keys.rank() != 3 || keys.dims()[..2] != [b, t] {
        let expected = format!("keys of shape [{b}, {t}, c]");
        return Err(TensorError::shape("merge_similar", expected, format!("{}", keys.shape())));
    }
    let (even, odd) = (t.div_ceil(2), t / 2);
    if remove >= even {
        return Err(TensorError::argument("merge_similar", "remove", format!("at most {} tokens", even - 1), remove));
    }
    if remove == 0 {
        return Ok(tokens.clone());
    }
    let half = |x: &Tensor, start: usize, n: usize| x.strided_slice(&[0, start, 0], &[1, 2, 1], &[b, n, x.dims()[2]]);
    let keys = keys.mul(&keys.square()?.sum_keep(&[2])?.rsqrt()?)?;
    let similar = half(&keys, 0, even)?.matmul_nt(&half(&keys, 1, odd)?)?;
    let best = similar.max(&[2])?;
    // The class token looks for nobody: it comes last, whatever it is like.
    let class = Tensor::iota(best.device(), &[b, even], 1)?.eq(&Tensor::full_u32(best.device(), &[b, even], 0)?)?;
    let best = class.select(&best.full_like(f32::NEG_INFINITY)?, &best)?;
    let partner = similar.argmax(2)?;
    let (_, order) = best.sort(true)?;
    let merged = order.narrow(1, 0, remove)?;
    // In their old order, the class token first.
    let (unmerged, _) = order.narrow(1, remove, even - remove)?.cast(DType::F32)?.sort(false)?;
    let unmerged = unmerged.cast(DType::U32)?;
    let to = partner.gather(1, &merged)?;
    let wide = |index: &Tensor, d: usize| {
        let k = index.dims()[1];
        index.reshape(&[b, k, 1])?.expand(&[b, k, d])
    };
    // Sums of everything that goes into a token; sizes are sums themselves.
    let summed = |x: &Tensor| {
        let d = x.dims()[2];
        let (a, into) = (half(x, 0, even)?, half(x, 1, odd)?);
        let left = a.gather(1, &wide(&unmerged, d)?)?;
        let into = into.scatter_add(1, &wide(&to, d)?, &a.gather(1, &wide(&merged, d)?)?)?;
        concat(&[&left, &into], 1)
    };
    let size = tokens.size.reshape(&[b, t, 1])?;
    let total = summed(&size)?;
    let x = summed(&tokens.x.mul(&size)?)?.div(&total)?;
    debug_assert_eq!(x.dims(), [b, t - remove, d]);
    Ok(Tokens { x, size: total.reshape(&[b, t - remove])?, from: None })
}
