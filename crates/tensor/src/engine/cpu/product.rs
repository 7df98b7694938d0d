//! Matrix products through the crate `gemm`, behind one safe function that checks every extent.

use gemm::Parallelism;

/// A matrix in a slice: element (i, j) at `i·row + j·col`.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// Distance of neighbors in a column.
    pub row: usize,
    /// Distance of neighbors in a row.
    pub col: usize,
}

impl Strides {
    /// Row-major with `n_cols` columns.
    pub fn rows(n_cols: usize) -> Self {
        Strides { row: n_cols, col: 1 }
    }

    /// The transpose of a row-major matrix whose rows have `n_cols` elements.
    pub fn transposed(n_cols: usize) -> Self {
        Strides { row: 1, col: n_cols }
    }

    /// Elements that a matrix of `m` by `n` needs.
    fn extent(self, m: usize, n: usize) -> Option<usize> {
        if m == 0 || n == 0 {
            return Some(0);
        }
        (m - 1).checked_mul(self.row)?.checked_add((n - 1).checked_mul(self.col)?)?.checked_add(1)
    }
}

/// Whether a product may use all threads, or runs on this one (as inside a parallel loop).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// All, where the product is large enough.
    All,
    /// This one.
    One,
}

/// `c = a·b`, or `c += a·b` if `add`, with `a` of m × k, `b` of k × n and `c` of m × n. Matrices that do not fit into their
/// slices leave `c` as it is (an op's shape rule has checked them; debug builds assert).
#[allow(clippy::too_many_arguments)] // the arguments of every gemm
pub fn gemm(
    (m, n, k): (usize, usize, usize),
    a: &[f32],
    a_strides: Strides,
    b: &[f32],
    b_strides: Strides,
    c: &mut [f32],
    c_strides: Strides,
    add: bool,
    threads: Threads,
) {
    let fits = |s: Strides, m, n, len| s.extent(m, n).is_some_and(|e| e <= len && e <= isize::MAX as usize);
    let distinct = c_strides.row >= c_strides.col.saturating_mul(n) || c_strides.col >= c_strides.row.saturating_mul(m);
    let ok = fits(a_strides, m, k, a.len()) && fits(b_strides, k, n, b.len()) && fits(c_strides, m, n, c.len());
    debug_assert!(ok && (distinct || m * n <= 1), "invariant: the shape rule has checked the extents");
    if !ok || !(distinct || m <= 1 || n <= 1) || m == 0 || n == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::All if m * n * k > 48 * 48 * 256 => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    // SAFETY: every element of the three matrices lies inside its slice (`fits`), `c` is borrowed mutably and thus
    // overlaps neither `a` nor `b`, and different (i, j) are different elements of `c` (`distinct`, or a vector).
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            c_strides.col as isize,
            c_strides.row as isize,
            add,
            a.as_ptr(),
            a_strides.col as isize,
            a_strides.row as isize,
            b.as_ptr(),
            b_strides.col as isize,
            b_strides.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
