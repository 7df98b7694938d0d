//! Random numbers with keys.
//!
//! A draw is a function of a key and a shape: the same twice gives the same, on every device (words bit for bit). Two
//! draws that shall differ need two keys: [`Key::split`] or [`Key::fold_in`] first. Keys are tensors, so they are inputs
//! of compiled steps, and `vmap` maps them: a slot draws what it would draw alone.
//!
//! Words are Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011), the first word of the counter (c0, c1, 0, 0):
//!
//! | What | c0 | c1 |
//! |---|---|---|
//! | element i of [`bits`], [`uniform`], [`bernoulli`] | i | 0 |
//! | element i of [`normal`] | i | 0 for the radius, 1 for the angle |
//! | word w of key `fold_in(i)` | i | 0xF01D + w |
//! | word w of key number i of `split` | i | 0x5B17 + w |

use acclimate_tensor::{DType, Device, Error, Result, Tensor, Tree, record_one};

use crate::ops::poisson::Poisson;
use crate::ops::sort::sort;

/// Where the counters of folded keys begin.
const FOLD: u32 = 0xF01D;
/// Where the counters of split keys begin.
const SPLIT: u32 = 0x5B17;

/// A key of random numbers: two words, as a tensor u32 `[2]`.
#[derive(Clone, Debug)]
pub struct Key(Tensor);

/// What can be folded into a key: a number, or a tensor u32 of one element.
pub trait Fold {
    /// As a tensor `[1]` on the device.
    fn counter(&self, device: &Device) -> Result<Tensor>;
}

impl Fold for u32 {
    fn counter(&self, device: &Device) -> Result<Tensor> {
        Tensor::full_u32(device, &[1], *self)
    }
}

impl Fold for &Tensor {
    fn counter(&self, _: &Device) -> Result<Tensor> {
        self.spec().require_dtype("fold_in", DType::U32)?;
        if self.numel() != 1 {
            return Err(Error::shape("fold_in", "one number", format!("shape {}", self.shape())));
        }
        self.reshape(&[1])
    }
}

impl Key {
    /// The key of a seed: its lower and its upper word.
    ///
    /// ```
    /// # use acclimate_tensor::{Device, Result};
    /// use acclimate_kernels::random::{Key, uniform};
    /// # fn main() -> Result<()> {
    /// let key = Key::new(&Device::cpu(), 7)?;
    /// let (a, b) = (uniform(&key.fold_in(0)?, &[3])?, uniform(&key.fold_in(1)?, &[3])?);
    /// assert_ne!(a.to_vec::<f32>()?, b.to_vec::<f32>()?);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn new(device: &Device, seed: u64) -> Result<Key> {
        let words = [(seed & u64::from(u32::MAX)) as u32, (seed >> 32) as u32];
        Ok(Key(Tensor::from_slice(device, &words, &[2])?))
    }

    /// A key from its tensor, u32 `[2]`.
    pub fn from_tensor(words: Tensor) -> Result<Key> {
        words.spec().require_dtype("key", DType::U32)?;
        if words.dims() != [2] {
            return Err(Error::shape("key", "two words, shape [2]", format!("shape {}", words.shape())));
        }
        Ok(Key(words))
    }

    /// The key's tensor, u32 `[2]`.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// The two words, each [1].
    fn words(&self) -> Result<(Tensor, Tensor)> {
        Ok((self.0.narrow(0, 0, 1)?, self.0.narrow(0, 1, 1)?))
    }

    /// Another key for each number: the same number gives the same key, different ones give unrelated keys. What is
    /// folded in may be a tensor (a step count, the number of an input).
    #[track_caller]
    pub fn fold_in(&self, data: impl Fold) -> Result<Key> {
        let (k0, k1) = self.words()?;
        let c0 = data.counter(self.0.device())?;
        let c1 = self.lanes(FOLD)?;
        Ok(Key(Tensor::philox(&k0, &k1, &c0, &c1)?))
    }

    /// `n` keys, unrelated to each other and to this one, as a tensor u32 [n, 2] to map over.
    #[track_caller]
    pub fn split_stacked(&self, n: usize) -> Result<Tensor> {
        let device = self.0.device();
        let (k0, k1) = self.words()?;
        Tensor::philox(&k0, &k1, &Tensor::iota(device, &[n, 1], 0)?, &self.lanes(SPLIT)?.reshape(&[1, 2])?)
    }

    /// `n` keys, unrelated to each other and to this one.
    ///
    /// ```
    /// # use acclimate_tensor::{Device, Result};
    /// use acclimate_kernels::random::Key;
    /// # fn main() -> Result<()> {
    /// let keys = Key::new(&Device::cpu(), 7)?.split(2)?;
    /// assert_ne!(keys[0].tensor().to_vec::<u32>()?, keys[1].tensor().to_vec::<u32>()?);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn split(&self, n: usize) -> Result<Vec<Key>> {
        let all = self.split_stacked(n)?;
        (0..n).map(|i| Ok(Key(all.narrow(0, i, 1)?.reshape(&[2])?))).collect()
    }

    /// first, first + 1.
    fn lanes(&self, first: u32) -> Result<Tensor> {
        let device = self.0.device();
        Tensor::iota(device, &[2], 0)?.add(&Tensor::full_u32(device, &[1], first)?)
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

/// Words of one stream of a key, in a shape.
#[track_caller]
fn stream(key: &Key, dims: &[usize], number: u32) -> Result<Tensor> {
    let device = key.0.device();
    let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| u32::try_from(n).is_ok());
    let n = n.ok_or_else(|| Error::TooLarge { op: "random", shape: format!("{dims:?}") })?;
    let (k0, k1) = key.words()?;
    let c1 = Tensor::full_u32(device, &[1], number)?;
    Tensor::philox(&k0, &k1, &Tensor::iota(device, &[n], 0)?, &c1)?.reshape(dims)
}

/// Random words (u32).
///
/// ```
/// # use acclimate_tensor::{Device, Result};
/// use acclimate_kernels::random::{Key, bits};
/// # fn main() -> Result<()> {
/// let key = Key::new(&Device::cpu(), 7)?;
/// assert_eq!(bits(&key, &[2, 3])?.to_vec::<u32>()?, bits(&key, &[6])?.to_vec::<u32>()?);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn bits(key: &Key, dims: &[usize]) -> Result<Tensor> {
    stream(key, dims, 0)
}

/// The upper 24 bits as a number in [0, 1).
fn unit(words: &Tensor) -> Result<Tensor> {
    let shift = Tensor::full_u32(words.device(), &[], 8)?;
    words.shr(&shift)?.cast(DType::F32)?.mul_scalar(1.0 / 16_777_216.0)
}

/// Numbers uniform in [0, 1), multiples of 2⁻²⁴.
///
/// ```
/// # use acclimate_tensor::{Device, Result};
/// use acclimate_kernels::random::{Key, uniform};
/// # fn main() -> Result<()> {
/// let x = uniform(&Key::new(&Device::cpu(), 7)?, &[100])?.to_vec::<f32>()?;
/// assert!(x.iter().all(|x| (0.0..1.0).contains(x)));
/// # Ok(()) }
/// ```
#[track_caller]
pub fn uniform(key: &Key, dims: &[usize]) -> Result<Tensor> {
    unit(&bits(key, dims)?)
}

/// Numbers of the standard normal distribution, none beyond ±5.8 (Box and Muller 1958).
///
/// ```
/// # use acclimate_tensor::{Device, Result};
/// use acclimate_kernels::random::{Key, normal};
/// # fn main() -> Result<()> {
/// let x = normal(&Key::new(&Device::cpu(), 7)?, &[10_000])?;
/// assert!((x.square()?.sum(&[])?.item()? / 10_000.0 - 1.0).abs() < 0.05);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn normal(key: &Key, dims: &[usize]) -> Result<Tensor> {
    let words = bits(key, dims)?;
    // In (0, 1), so that the logarithm is finite.
    let shift = Tensor::full_u32(words.device(), &[], 9)?;
    let open = words.shr(&shift)?.cast(DType::F32)?.add_scalar(0.5)?.mul_scalar(f32::EPSILON)?;
    let radius = open.ln()?.mul_scalar(-2.0)?.sqrt()?;
    // Angles from −π to π, where WGSL vouches for the cosine.
    let turn = unit(&stream(key, dims, 1)?)?.add_scalar(-0.5)?;
    radius.mul(&turn.mul_scalar(std::f32::consts::TAU)?.cos()?)
}

/// True (bool) with probability `p`, which lies in [0, 1].
///
/// ```
/// # use acclimate_tensor::{Device, Result};
/// use acclimate_kernels::random::{Key, bernoulli};
/// # fn main() -> Result<()> {
/// let key = Key::new(&Device::cpu(), 7)?;
/// assert_eq!(bernoulli(&key, 1.0, &[2])?.to_vec::<u32>()?, [1, 1]);
/// assert!(bernoulli(&key, 1.5, &[2]).is_err());
/// # Ok(()) }
/// ```
#[track_caller]
pub fn bernoulli(key: &Key, p: f32, dims: &[usize]) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::argument("bernoulli", "p", "a probability from 0 to 1", p));
    }
    let x = uniform(key, dims)?;
    x.lt(&x.full_like(p)?)
}

/// Poisson counts (whole numbers as f32), one for each rate; NaN where a rate is negative or not finite. No gradient
/// flows through them.
///
/// ```
/// # use acclimate_tensor::{Device, Result, Tensor};
/// use acclimate_kernels::random::{Key, poisson};
/// # fn main() -> Result<()> {
/// let d = Device::cpu();
/// let rate = Tensor::from_slice(&d, &[0.0f32, 50.0], &[2])?;
/// let counts = poisson(&Key::new(&d, 7)?, &rate)?.to_vec::<f32>()?;
/// assert_eq!(counts[0], 0.0);
/// assert!((20.0..80.0).contains(&counts[1]));
/// # Ok(()) }
/// ```
#[track_caller]
pub fn poisson(key: &Key, rate: &Tensor) -> Result<Tensor> {
    record_one(Poisson, &[rate, &key.0])
}

/// The numbers 0 .. n in random order (u32).
///
/// ```
/// # use acclimate_tensor::{Device, Result};
/// use acclimate_kernels::random::{Key, permutation};
/// # fn main() -> Result<()> {
/// let mut order = permutation(&Key::new(&Device::cpu(), 7)?, 5)?.to_vec::<u32>()?;
/// order.sort();
/// assert_eq!(order, [0, 1, 2, 3, 4]);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn permutation(key: &Key, n: usize) -> Result<Tensor> {
    // Keys of 24 bits collide now and then; a second round orders those that did anew.
    let (_, first) = sort(&uniform(key, &[n])?, false)?;
    let (_, second) = sort(&unit(&stream(key, &[n], 1)?)?, false)?;
    crate::ops::gather::gather(&first, 0, &second)
}
