//! Gradient descent on all parameters of each input without a copy of the weights for each.
//!
//! The gradient of a weight is Σ_t δ_t x_tᵀ: over the rows t that a layer saw, its input x_t and the gradient δ_t of its
//! output. So after a step of plain gradient descent the layer computes W'x = Wx − rate·Σ_t δ_t (x_t · x): the weight stays
//! shared, and what each input has of its own are the pairs (δ_t, x_t). That is exact, not an approximation, and smaller than the
//! weight [o, i] where t·(i + o) < i·o. Further steps append pairs. Of a convolution the rows are the patches under its
//! kernel. What is no such weight, or would need more room as pairs, moves as it is.

use std::collections::BTreeMap;

use acclimate_kernels::{Conv2d, TensorOps, concat, stack};
use acclimate_tensor::{Tensor, grad};
use acclimate_train::layer::Product;
use acclimate_train::{Kind, Params};
use serde::Serialize;

use crate::error::Error;
use crate::overlay::Overlay;

/// As what a session keeps the steps of an input until it has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As Δ, one number for each that moves.
    #[default]
    Delta,
    /// As pairs of a layer's inputs and its outputs' gradients, for weights of linear layers and of convolutions of one
    /// group where the pairs are smaller than the weight. For plain gradient descent on single inputs. A weight that goes by
    /// pairs must have no other reader than such layers: what others do with it enters no pair.
    Pairs,
    /// As pairs wherever there can be pairs, even if they are larger: to compare with.
    AllPairs,
}

/// Parameters of one input after steps of plain gradient descent.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// What is added to parameters that move as they are.
    whole: BTreeMap<String, Tensor>,
    /// Of weights: rows that the layer saw [t, ..], and −rate·δ [o, t].
    pairs: BTreeMap<String, (Tensor, Tensor)>,
    /// θ₀ and all of this: what layers read. Whatever moves is in it as a tensor of its own, to take gradients by.
    pub params: Params,
}

impl Pairs {
    /// Before the first step.
    pub fn none(base: &Params, overlay: &Overlay) -> Result<Self, Error> {
        Self { whole: BTreeMap::new(), pairs: BTreeMap::new(), params: base.clone() }.applied(base, overlay)
    }

    fn applied(mut self, base: &Params, overlay: &Overlay) -> Result<Self, Error> {
        let mut own = Vec::with_capacity(overlay.entries().len());
        for e in overlay.entries() {
            let start = base.get(&e.path)?;
            let value = self.whole.get(&e.path).map_or(Ok(start.clone()), |add| start.add(add))?;
            own.push((e.path.clone(), value));
        }
        let pairs = self.pairs.iter().map(|(path, (seen, up))| (path.clone(), seen.clone(), up.clone()));
        self.params = base.with_overrides(own)?.with_low_rank(pairs)?;
        Ok(self)
    }

    /// After a step that lowers `objective`. `products`: of every forward pass that the objective depends on.
    pub fn step(
        self,
        base: &Params,
        overlay: &Overlay,
        products: &[Product],
        objective: &Tensor,
        (rate, form): (f32, Form),
    ) -> Result<Self, Error> {
        let mut of: BTreeMap<&str, Vec<&Product>> = BTreeMap::new();
        products.iter().for_each(|p| of.entry(&p.path).or_default().push(p));
        // Which weights go by pairs, and what the gradient is asked of.
        let (mut by_pairs, mut as_they_are) = (Vec::new(), Vec::new());
        for e in overlay.entries() {
            let used = of.remove(e.path.as_str()).unwrap_or_default();
            let has_pairs = base.index().get(&e.path).is_some_and(|e| e.kind == Kind::Weight);
            let one_group = |p: &&Product| p.sliding.is_none_or(|s| s.groups == 1);
            let rows: usize = used.iter().map(|p| p.y.numel() / e.dims[0].max(1)).sum();
            let pays = form == Form::AllPairs || rows * (e.dims[0] + e.len() / e.dims[0].max(1)) < e.len();
            if has_pairs && pays && !used.is_empty() && used.iter().all(one_group) {
                by_pairs.push((e, used));
            } else {
                as_they_are.push(&e.path);
            }
        }
        let mut targets = Vec::new();
        targets.extend(by_pairs.iter().flat_map(|(_, used)| used.iter().map(|p| p.y.clone())));
        for path in &as_they_are {
            targets.push(self.params.get(path)?);
        }
        let mut gradients = grad(objective, targets)?.into_iter();
        let mut next = || gradients.next().ok_or(Error::Empty { what: "the gradients of this step" });
        let Pairs { mut whole, mut pairs, .. } = self;
        for (e, used) in &by_pairs {
            let (mut seen, mut up) = (Vec::new(), Vec::new());
            if let Some((s, u)) = pairs.remove(&e.path) {
                (seen, up) = (vec![s], vec![u]);
            }
            for p in used {
                let (rows, delta) = pair(p, &next()?, &e.dims)?;
                seen.push(rows.detach()?);
                up.push(delta.detach()?.mul_scalar(-rate)?);
            }
            let joined = |parts: &[Tensor], axis| concat(&parts.iter().collect::<Vec<_>>(), axis);
            pairs.insert(e.path.clone(), (joined(&seen, 0)?, joined(&up, 1)?));
        }
        for path in as_they_are {
            let step = next()?.detach()?.mul_scalar(-rate)?;
            let sum = whole.get(path).map_or(Ok(step.clone()), |before| before.add(&step))?;
            whole.insert(path.clone(), sum);
        }
        Pairs { whole, pairs, params: base.clone() }.applied(base, overlay)
    }

    /// ‖Δ‖² of each entry: [number of entries]. Of pairs it is Σ_{t,u} (δ_t·δ_u)(x_t·x_u), rate included, where that is the
    /// smaller table.
    pub fn square_norms(&self, overlay: &Overlay) -> Result<Tensor, Error> {
        let mut norms = Vec::with_capacity(overlay.entries().len());
        for e in overlay.entries() {
            let mut norm = match self.whole.get(&e.path) {
                Some(add) => add.square()?.sum(&[])?.reshape(&[1])?,
                None => Tensor::zeros(self.params.device(), &[1])?,
            };
            if let Some((seen, up)) = self.pairs.get(&e.path) {
                let rows = seen.dims()[0];
                let flat = seen.reshape(&[rows, e.len() / e.dims[0].max(1)])?;
                let square = match rows.saturating_mul(rows) < e.len() {
                    true => flat.matmul_nt(&flat)?.mul(&up.matmul_tn(up)?)?,
                    false => up.matmul(&flat)?.square()?,
                };
                norm = norm.add(&square.sum(&[])?.reshape(&[1])?)?;
            }
            norms.push(norm);
        }
        Ok(concat(&norms.iter().collect::<Vec<_>>(), 0)?)
    }

    /// Everything a step added, times a factor of one element.
    pub fn scaled(self, factor: &Tensor, base: &Params, overlay: &Overlay) -> Result<Self, Error> {
        let Pairs { mut whole, mut pairs, .. } = self;
        for add in whole.values_mut() {
            *add = add.mul(factor)?;
        }
        for (_, up) in pairs.values_mut() {
            *up = up.mul(factor)?;
        }
        Pairs { whole, pairs, params: base.clone() }.applied(base, overlay)
    }
}

/// What a layer saw, one row for each that its weight of these sizes was multiplied with, and the rows' gradients as
/// columns: [t, ..] and [o, t].
fn pair(p: &Product, delta: &Tensor, dims: &[usize]) -> Result<(Tensor, Tensor), Error> {
    let (o, fan_in) = (dims[0], dims[1..].iter().product::<usize>());
    let Some(sliding) = p.sliding else {
        let t = p.x.numel() / fan_in.max(1);
        return Ok((p.x.reshape(&[t, fan_in])?, delta.reshape(&[t, o])?.transpose(0, 1)?));
    };
    let (seen, t) = (patches(&p.x, &sliding, dims, delta.dims())?, delta.numel() / o.max(1));
    Ok((seen, delta.permute(&[1, 0, 2, 3])?.reshape(&[o, t])?))
}

/// The pixels under the kernel at each place: x [n, c, h, w] → [n·oh·ow, c, kh, kw]. `y`: sizes of the output.
fn patches(x: &Tensor, sliding: &Conv2d, kernel: &[usize], y: &[usize]) -> Result<Tensor, Error> {
    let [[top, bottom], [left, right]] = sliding.padding;
    let padded = x.pad(&[(0, 0), (0, 0), (top, bottom), (left, right)])?;
    let (&[n, c, ..], &[_, _, kh, kw], &[_, _, oh, ow]) = (x.dims(), kernel, y) else {
        return Err(Error::size("a convolution's sizes", "four axes", format!("{kernel:?} on {}", x.shape())));
    };
    let step = sliding.stride.map(|s| isize::try_from(s).unwrap_or(1));
    let mut taps = Vec::with_capacity(kh * kw);
    for v in 0..kh {
        for u in 0..kw {
            let start = [0, 0, v * sliding.dilation[0], u * sliding.dilation[1]];
            taps.push(padded.strided_slice(&start, &[1, 1, step[0], step[1]], &[n, c, oh, ow])?);
        }
    }
    let taps = stack(&taps.iter().collect::<Vec<_>>(), 0)?;
    Ok(taps.permute(&[1, 3, 4, 2, 0])?.reshape(&[n * oh * ow, c, kh, kw])?)
}
