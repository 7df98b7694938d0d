//! Counter-based random numbers: a key and a position give the same number on every device, in every slot.
//!
//! Numbers are words of Philox4x32-10 (Salmon et al. 2011) under the key (k₀, k₁) at counter (element, stream, 0, 0).

use acclimate_tensor::{DType, Device, Error, Result, Tensor, Tree};

/// Streams of one key, so that what is drawn for one purpose never meets what is drawn for another.
const SPLIT: u32 = 0xF01D;
const BITS: u32 = 0;
const SECOND: u32 = 1;

/// A random key: two u32, a tensor. Keys are split and folded, never changed.
#[derive(Clone, Debug)]
pub struct Key(Tensor);

impl Key {
    /// From a seed.
    pub fn new(device: &Device, seed: u64) -> Result<Self> {
        Ok(Key(Tensor::from_slice(device, &[seed as u32, (seed >> 32) as u32], &[2])?))
    }

    /// From a tensor of two u32.
    pub fn from_tensor(words: Tensor) -> Result<Self> {
        words.spec().require_dtype("key", DType::U32)?;
        if words.dims() != [2] {
            return Err(Error::shape("key", "shape [2]", format!("{}", words.shape())));
        }
        Ok(Key(words))
    }

    /// The two words, [2].
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// Another key for each `i`: words 2i and 2i + 1 of the key's own stream.
    pub fn fold_in(&self, i: u32) -> Result<Self> {
        let base = Tensor::full_u32(self.0.device(), &[2], i)?;
        let two = Tensor::full_u32(self.0.device(), &[2], 2)?;
        let counter = base.mul(&two)?.add(&Tensor::iota(self.0.device(), &[2], 0)?)?;
        Ok(Key(self.words(&counter, SPLIT)?))
    }

    /// `n` keys.
    pub fn split(&self, n: u32) -> Result<Vec<Self>> {
        (0..n).map(|i| self.fold_in(i)).collect()
    }

    fn words(&self, counter: &Tensor, stream: u32) -> Result<Tensor> {
        let word = |i: usize| self.0.narrow(0, i, 1)?.reshape(&vec![1; counter.rank()])?.broadcast_to(counter.shape());
        let stream = Tensor::full_u32(self.0.device(), counter.dims(), stream)?;
        Tensor::philox(&word(0)?, &word(1)?, counter, &stream)
    }

    /// One word for each element.
    fn bits(&self, dims: &[usize], stream: u32) -> Result<Tensor> {
        let n = dims.iter().product();
        self.words(&Tensor::iota(self.0.device(), &[n], 0)?, stream)?.reshape(dims)
    }
}

impl Tree for Key {
    type Form = ();
    fn take_apart(self, leaves: &mut Vec<Tensor>) {
        leaves.push(self.0);
    }
    fn put_together(form: &(), leaves: &mut dyn Iterator<Item = Tensor>) -> Result<Self> {
        Ok(Key(Tensor::put_together(form, leaves)?))
    }
}

/// Random words (u32).
pub fn bits(key: &Key, dims: &[usize]) -> Result<Tensor> {
    key.bits(dims, BITS)
}

fn unit(words: &Tensor) -> Result<Tensor> {
    let eight = Tensor::full_u32(words.device(), words.dims(), 8)?;
    words.shr(&eight)?.cast(DType::F32)?.mul_scalar(1.0 / 16_777_216.0)
}

/// Uniform in [0, 1): multiples of 2⁻²⁴.
pub fn uniform(key: &Key, dims: &[usize]) -> Result<Tensor> {
    unit(&key.bits(dims, BITS)?)
}

/// Standard normal, by Box and Muller 1958.
pub fn normal(key: &Key, dims: &[usize]) -> Result<Tensor> {
    let (u, v) = (unit(&key.bits(dims, BITS)?)?, unit(&key.bits(dims, SECOND)?)?);
    // 1 − u lies in (0, 1], so the logarithm is finite.
    let radius = (1.0 - &u).ln()?.mul_scalar(-2.0)?.sqrt()?;
    radius.mul(&v.mul_scalar(std::f32::consts::TAU)?.cos()?)
}

/// True with probability `p`.
pub fn bernoulli(key: &Key, p: f32, dims: &[usize]) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::argument("bernoulli", "p", "a probability in [0, 1]", p));
    }
    let u = uniform(key, dims)?;
    u.lt(&u.full_like(p)?)
}
