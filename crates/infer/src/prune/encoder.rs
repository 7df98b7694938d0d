//! A small transformer encoder for images whose blocks may pass on fewer tokens.

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{Error as TensorError, Tensor};
use acclimate_train::error::InLayer;
use acclimate_train::layer::{Init, Start, join};
use acclimate_train::nn::{Activation, LayerNorm, Linear};
use acclimate_train::params::Kind;
use acclimate_train::{Error, Layer, Params, Pass, Result};

use super::tokens::{Tokens, attention, class_attention, keep_attended, merge_similar};

/// What a block does to the number of tokens, between its attention and its perceptron.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Reduction {
    /// Nothing.
    #[default]
    None,
    /// Keeps this share of the tokens, those that the class token attends to most, and makes one of the rest
    /// ([`keep_attended`]).
    Keep(f32),
    /// Merges so many pairs of the most alike ([`merge_similar`]); attention then counts tokens by their sizes.
    Merge(usize),
}

/// A vision transformer (Dosovitskiy et al. 2021): patches of `patch` × `patch` pixels as tokens, a class token, learned
/// positions, blocks [LN, attention, +, reduction, LN, perceptron 4 × as wide with GELU, +], LN, a linear layer on the class
/// token: [n, c, h, w] → [n, classes]. Reductions need no parameters: one set serves every setting.
#[derive(Clone, Debug)]
pub struct TokenEncoder {
    path: String,
    image: [usize; 3],
    patch: usize,
    width: usize,
    heads: usize,
    blocks: Vec<Reduction>,
    classes: usize,
}

impl TokenEncoder {
    /// For images [channels, height, width]. Without reductions.
    ///
    /// # Errors
    /// If patches do not tile the image or heads do not divide the width.
    pub fn new(
        path: impl Into<String>,
        image: [usize; 3],
        patch: usize,
        [width, heads, blocks]: [usize; 3],
        classes: usize,
    ) -> Result<Self> {
        let tiles = patch > 0 && image[1].is_multiple_of(patch) && image[2].is_multiple_of(patch);
        if !tiles || heads == 0 || !width.is_multiple_of(heads) {
            let found = format!("{image:?} in patches of {patch}, {heads} heads of {width}");
            return Err(Error::argument(
                "token encoder",
                "patches that tile the image, heads that divide the width",
                found,
            ));
        }
        let blocks = vec![Reduction::None; blocks];
        Ok(TokenEncoder { path: path.into(), image, patch, width, heads, blocks, classes })
    }

    /// The same network with a reduction after the attention of some blocks: the knob.
    #[must_use]
    pub fn reducing(&self, blocks: &[usize], reduction: Reduction) -> Self {
        let mut network = self.clone();
        for &block in blocks {
            if let Some(b) = network.blocks.get_mut(block) {
                *b = reduction;
            }
        }
        network
    }

    /// How many tokens each block's perceptron sees, the class token included.
    pub fn tokens(&self) -> Vec<usize> {
        let mut t = 1 + self.patches();
        self.blocks
            .iter()
            .map(|reduction| {
                t = match *reduction {
                    Reduction::None => t,
                    Reduction::Keep(share) => {
                        let keep = kept(share, t);
                        1 + keep + usize::from(keep < t - 1)
                    }
                    Reduction::Merge(pairs) => t - pairs.min(t.div_ceil(2).saturating_sub(1)),
                };
                t
            })
            .collect()
    }

    fn patches(&self) -> usize {
        self.image[1] / self.patch * (self.image[2] / self.patch)
    }

    fn name(&self, what: &str) -> String {
        join(&self.path, what)
    }

    fn linear(&self, what: &str, from: usize, to: usize) -> Linear {
        Linear::new(self.name(what), from, to)
    }

    fn layers(&self, block: usize) -> ([LayerNorm; 2], [Linear; 4]) {
        let (d, name) = (self.width, |what: &str| format!("block{block}.{what}"));
        let norms = ["norm1", "norm2"].map(|what| LayerNorm::new(self.name(&name(what)), &[d]));
        let sizes = [("qkv", d, 3 * d), ("out", d, d), ("fc1", d, 4 * d), ("fc2", 4 * d, d)];
        (norms, sizes.map(|(what, from, to)| self.linear(&name(what), from, to)))
    }

    /// [n, c, h, w] → [n, patches, c·patch²].
    fn cut(&self, x: &Tensor) -> acclimate_tensor::Result<Tensor> {
        let ([c, h, w], p) = (self.image, self.patch);
        let &[n, ..] = x.dims() else {
            return Err(TensorError::shape("token encoder", format!("[n, {c}, {h}, {w}]"), "a scalar"));
        };
        if x.dims() != [n, c, h, w] {
            return Err(TensorError::shape("token encoder", format!("[n, {c}, {h}, {w}]"), format!("{}", x.shape())));
        }
        let tiles = x.reshape(&[n, c, h / p, p, w / p, p])?.permute(&[0, 2, 4, 1, 3, 5])?;
        tiles.reshape(&[n, self.patches(), c * p * p])
    }

    fn block(&self, at: usize, params: &Params, tokens: Tokens, pass: &mut Pass) -> Result<Tokens> {
        let ([norm1, norm2], [qkv, out, fc1, fc2]) = self.layers(at);
        let &[n, t, d] = tokens.x.dims() else {
            return Err(TensorError::shape("token encoder", "[n, t, d]", format!("{}", tokens.x.shape())).into());
        };
        let each = d / self.heads;
        let all = qkv.apply(params, &norm1.apply(params, &tokens.x, pass)?, pass)?;
        let all = all.reshape(&[n, t, 3, self.heads, each])?.permute(&[2, 0, 3, 1, 4])?;
        let part = |i: usize| all.narrow(0, i, 1)?.reshape(&[n, self.heads, t, each]);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let merging = self.blocks.iter().any(|b| matches!(b, Reduction::Merge(_)));
        let (y, weights) = attention(&q, &k, &v, merging.then_some(&tokens.size))?;
        let y = y.permute(&[0, 2, 1, 3])?.reshape(&[n, t, d])?;
        let x = tokens.x.add(&out.apply(params, &y, pass)?)?;
        let tokens = Tokens { x, ..tokens };
        let tokens = match self.blocks.get(at).copied().unwrap_or_default() {
            Reduction::None => tokens,
            Reduction::Keep(share) => keep_attended(&tokens, &class_attention(&weights)?, kept(share, t))?,
            Reduction::Merge(pairs) => {
                merge_similar(&tokens, &k.mean(&[1])?, pairs.min(t.div_ceil(2).saturating_sub(1)))?
            }
        };
        let hidden = fc1.apply(params, &norm2.apply(params, &tokens.x, pass)?, pass)?;
        let y = fc2.apply(params, &Activation::Gelu.of(&hidden)?, pass)?;
        Ok(Tokens { x: tokens.x.add(&y)?, ..tokens })
    }
}

/// Of t tokens, one of them the class token.
fn kept(share: f32, t: usize) -> usize {
    let others = t.saturating_sub(1);
    ((share.clamp(0.0, 1.0) * others as f32).ceil() as usize).min(others)
}

impl Layer for TokenEncoder {
    fn declare(&self, init: &mut Init) -> Result<()> {
        let d = self.width;
        self.linear("patch", self.image[0] * self.patch * self.patch, d).declare(init)?;
        init.param(self.name("class"), &[1, 1, d], Kind::Other, Start::Normal(0.02))?;
        init.param(self.name("position"), &[1, 1 + self.patches(), d], Kind::Other, Start::Normal(0.02))?;
        for block in 0..self.blocks.len() {
            let (norms, linears) = self.layers(block);
            norms.iter().try_for_each(|l| l.declare(init))?;
            linears.iter().try_for_each(|l| l.declare(init))?;
        }
        LayerNorm::new(self.name("norm"), &[d]).declare(init)?;
        self.linear("head", d, self.classes).declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let (d, t) = (self.width, 1 + self.patches());
        let patches = self.cut(x).in_layer(&self.path)?;
        let n = patches.dims()[0];
        let patches = self.linear("patch", patches.dims()[2], d).apply(params, &patches, pass)?;
        let class = params.get(&self.name("class"))?.expand(&[n, 1, d])?;
        let x = concat(&[&class, &patches], 1)?.add(&params.get(&self.name("position"))?)?;
        let size = Tensor::ones(x.device(), &[n, t])?;
        let mut tokens = Tokens { x, size, from: None };
        for block in 0..self.blocks.len() {
            tokens = self.block(block, params, tokens, pass).in_layer(&self.path)?;
        }
        let class = tokens.x.narrow(1, 0, 1)?.reshape(&[n, d])?;
        let class = LayerNorm::new(self.name("norm"), &[d]).apply(params, &class, pass)?;
        self.linear("head", d, self.classes).apply(params, &class, pass)
    }
}
