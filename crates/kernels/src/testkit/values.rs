//! Inputs of cases: sizes and kinds of values, drawn from a seed.

use acclimate_tensor::{DType, Device, Result, Tensor};

/// Sizes that hit the edges of vectors, workgroups and tiles.
pub const ODD_SIZES: [usize; 11] = [1, 2, 3, 7, 31, 32, 33, 255, 256, 257, 1025];

/// What an input holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Normal with standard deviation 1.
    Normal,
    /// Uniform in [low, high).
    Uniform(f32, f32),
    /// Multiples of 1/16 in random order, none of them zero, all different: no ties, no kinks at zero.
    Distinct,
    /// One value everywhere.
    Constant(f32),
    /// Exactly these, repeated as often as needed.
    List(Vec<f32>),
    /// u32 below a bound.
    Index(u32),
    /// Exactly these words (u32), repeated as often as needed.
    Words(Vec<u32>),
    /// Booleans, true with this probability.
    Bool(f32),
}

/// An input of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Sizes.
    pub dims: Vec<usize>,
    /// Values.
    pub values: Values,
}

impl Input {
    /// An input of these sizes and values.
    pub fn new(dims: &[usize], values: Values) -> Self {
        Input { dims: dims.to_vec(), values }
    }

    /// Normal values.
    pub fn normal(dims: &[usize]) -> Self {
        Input::new(dims, Values::Normal)
    }

    /// Uniform values in [low, high).
    pub fn uniform(dims: &[usize], low: f32, high: f32) -> Self {
        Input::new(dims, Values::Uniform(low, high))
    }

    /// Values without ties.
    pub fn distinct(dims: &[usize]) -> Self {
        Input::new(dims, Values::Distinct)
    }

    /// u32 below a bound.
    pub fn index(dims: &[usize], below: u32) -> Self {
        Input::new(dims, Values::Index(below))
    }

    /// Whether it holds real numbers, which gradients are taken of.
    pub fn is_real(&self) -> bool {
        self.dtype() == DType::F32
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        match self.values {
            Values::Index(_) | Values::Words(_) => DType::U32,
            Values::Bool(_) => DType::Bool,
            _ => DType::F32,
        }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.dims.iter().product()
    }

    /// The real values for this seed; empty if it holds words.
    pub fn reals(&self, seed: u64) -> Vec<f32> {
        let n = self.numel();
        let mut draw = Draw::new(seed);
        match &self.values {
            Values::Normal => (0..n).map(|_| draw.normal()).collect(),
            Values::Uniform(low, high) => (0..n).map(|_| low + (high - low) * draw.uniform()).collect(),
            Values::Distinct => distinct(n, &mut draw),
            Values::Constant(c) => vec![*c; n],
            Values::List(list) => list.iter().copied().cycle().take(n).collect(),
            Values::Index(_) | Values::Words(_) | Values::Bool(_) => Vec::new(),
        }
    }

    /// The words for this seed; empty if it holds real numbers.
    pub fn words(&self, seed: u64) -> Vec<u32> {
        let n = self.numel();
        let mut draw = Draw::new(seed);
        match &self.values {
            Values::Index(below) => (0..n).map(|_| draw.below(*below)).collect(),
            Values::Words(list) => list.iter().copied().cycle().take(n).collect(),
            Values::Bool(p) => (0..n).map(|_| u32::from(draw.uniform() < *p)).collect(),
            _ => Vec::new(),
        }
    }

    /// The tensor for this seed.
    pub fn tensor(&self, device: &Device, seed: u64) -> Result<Tensor> {
        match self.dtype() {
            DType::F32 => Tensor::from_slice(device, &self.reals(seed), &self.dims),
            DType::Bool => {
                let truths: Vec<bool> = self.words(seed).iter().map(|&w| w != 0).collect();
                Tensor::from_bools(device, &truths, &self.dims)
            }
            _ => Tensor::from_slice(device, &self.words(seed), &self.dims),
        }
    }
}

/// ±(i + 1) / 16 in random order: different, exact in f32, not zero.
fn distinct(n: usize, draw: &mut Draw) -> Vec<f32> {
    let mut values: Vec<f32> = (0..n)
        .map(|i| {
            let size = (i / 2 + 1) as f32 / 16.0;
            if i % 2 == 0 { size } else { -size }
        })
        .collect();
    for i in (1..n).rev() {
        values.swap(i, draw.below(u32::try_from(i + 1).unwrap_or(u32::MAX)) as usize);
    }
    values
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for test data.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// A stream of this seed.
    pub fn new(seed: u64) -> Self {
        Draw(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Below `n` (0 if `n` is 0).
    pub fn below(&mut self, n: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(n)) >> 32) as u32
    }

    /// Normal with standard deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f32 {
        let r = (-2.0 * (1.0 - f64::from(self.uniform())).ln()).sqrt();
        (r * (std::f64::consts::TAU * f64::from(self.uniform())).cos()) as f32
    }
}
