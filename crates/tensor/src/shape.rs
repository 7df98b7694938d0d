//! Shapes, broadcasting and specs.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::dtype::DType;
use crate::error::{Error, Result};

/// The sizes of a tensor's axes, outermost first. Rank 0 is a scalar. The number of elements fits `usize` (and its bytes `isize`).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 6]>);

impl Shape {
    /// A shape, refused when its number of bytes overflows.
    pub fn new(dims: &[usize]) -> Result<Self> {
        let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        // The product of the non-zero sizes must fit too, so that strides never overflow.
        let strides = dims.iter().filter(|&&d| d > 0).try_fold(1usize, |n, &d| n.checked_mul(d));
        match (n, strides) {
            (Some(_), Some(n)) if n <= isize::MAX as usize / 8 => Ok(Shape(dims.into())),
            _ => Err(Error::TooLarge { op: "shape", shape: format!("{dims:?}") }),
        }
    }

    pub(crate) fn raw(dims: impl IntoIterator<Item = usize>) -> Self {
        Shape(dims.into_iter().collect())
    }

    /// The scalar shape.
    pub fn scalar() -> Self {
        Shape::default()
    }

    /// The sizes.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.0.iter().product()
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> SmallVec<[isize; 6]> {
        let mut strides: SmallVec<[isize; 6]> = SmallVec::from_elem(0, self.rank());
        let mut step = 1usize;
        for d in (0..self.rank()).rev() {
            strides[d] = step as isize;
            step *= self.0[d].max(1);
        }
        strides
    }

    /// The axis as a position; negative counts from the end.
    pub fn axis(&self, op: &'static str, axis: isize) -> Result<usize> {
        let rank = self.rank();
        let at = if axis < 0 { axis + rank as isize } else { axis };
        if at < 0 || at >= rank as isize {
            return Err(Error::Axis { op, axis, rank });
        }
        Ok(at as usize)
    }

    /// The shape with `size` put in front.
    pub fn with_leading(&self, size: usize) -> Result<Shape> {
        let mut dims = SmallVec::<[usize; 8]>::new();
        dims.push(size);
        dims.extend_from_slice(&self.0);
        Shape::new(&dims)
    }

    /// The shape that both broadcast to, by the rules of NumPy.
    pub fn broadcast(op: &'static str, left: &Shape, right: &Shape) -> Result<Shape> {
        let rank = left.rank().max(right.rank());
        let mut dims = SmallVec::<[usize; 6]>::from_elem(1, rank);
        let at = |s: &Shape, d: usize| if d + s.rank() >= rank { s.0[d + s.rank() - rank] } else { 1 };
        for (d, out) in dims.iter_mut().enumerate() {
            let (a, b) = (at(left, d), at(right, d));
            *out = match (a, b) {
                _ if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return Err(Error::Broadcast { op, left: left.to_string(), right: right.to_string() }),
            };
        }
        Shape::new(&dims)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_slice())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_slice())
    }
}

/// Shape and dtype of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Shape.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Spec {
    /// A spec.
    pub fn new(shape: Shape, dtype: DType) -> Self {
        Spec { shape, dtype }
    }

    /// An f32 spec of these sizes.
    pub fn f32(dims: &[usize]) -> Result<Self> {
        Ok(Spec::new(Shape::new(dims)?, DType::F32))
    }

    /// The same shape with another dtype.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Spec::new(self.shape.clone(), dtype)
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// Bytes in a buffer.
    pub fn bytes(&self) -> usize {
        self.dtype.bytes(self.numel())
    }

    /// Fails unless the dtype is `dtype`.
    pub fn require_dtype(&self, op: &'static str, dtype: DType) -> Result<&Self> {
        if self.dtype != dtype {
            return Err(Error::DType { op, expected: dtype.to_string(), found: self.dtype });
        }
        Ok(self)
    }

    /// Fails unless the rank is `rank`; `layout` names the axes, as in `"[n, c, h, w]"`.
    pub fn require_rank(&self, op: &'static str, rank: usize, layout: &str) -> Result<&Self> {
        if self.shape.rank() != rank {
            return Err(Error::shape(op, format!("rank {rank} {layout}"), format!("shape {}", self.shape)));
        }
        Ok(self)
    }

    /// The tensor as rows of its last axis: (number of rows, size of the last axis).
    pub fn as_rows(&self) -> (usize, usize) {
        let n_cols = self.shape.last().copied().unwrap_or(1);
        (self.numel().checked_div(n_cols).unwrap_or(0), n_cols)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
