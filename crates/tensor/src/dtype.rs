//! Element types.

use std::fmt;

/// The type of an element. `f32`, `u32`, `i32` and `bool` take a 32-bit word each; `f16` is storage only, two to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision, storage: `cast` to `F32` to compute. Products take halves as they are.
    F16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// Truth value, stored as a word of 0 or 1.
    Bool,
}

impl DType {
    /// Bytes of `n` elements in a buffer (whole words).
    pub fn bytes(self, n: usize) -> usize {
        match self {
            DType::F16 => n.div_ceil(2) * 4,
            _ => n * 4,
        }
    }

    /// Whether the type stands for real numbers.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16)
    }

    /// The type's name in WGSL, for word types.
    pub fn wgsl(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::I32 => "i32",
            DType::F16 | DType::U32 | DType::Bool => "u32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::Bool => "bool",
        })
    }
}

/// A Rust type that a tensor can be made from and read into.
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The tensor's dtype.
    const DTYPE: DType;
}
impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}
impl Element for i32 {
    const DTYPE: DType = DType::I32;
}
impl Element for half::f16 {
    const DTYPE: DType = DType::F16;
}
