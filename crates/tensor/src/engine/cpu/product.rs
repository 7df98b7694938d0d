//! Matrix products through the crate `gemm`, behind one safe function that checks every extent. `gemm` takes the widest
//! vectors of the processor; where narrower ones were asked for, tiles of our own multiply.

use gemm::Parallelism;

use super::simd::Path;
use super::tile::{COLUMNS, ROWS, Steps, tile};

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
    if !Path::now().is_widest() {
        return by_tiles((m, n, k), a, a_strides, b, b_strides, c, c_strides, add);
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

/// The same on this thread, in tiles with the vectors of [`Path::now`].
#[allow(clippy::too_many_arguments)] // as above
fn by_tiles(
    (m, n, k): (usize, usize, usize),
    a: &[f32],
    a_strides: Strides,
    b: &[f32],
    b_strides: Strides,
    c: &mut [f32],
    c_strides: Strides,
    add: bool,
) {
    let steps: Vec<usize> = (0..k).map(|q| q * a_strides.col).collect();
    let mut panel = vec![0.0; k * COLUMNS];
    let mut sums = [0.0; ROWS * COLUMNS];
    for first in (0..n).step_by(COLUMNS) {
        let columns = (n - first).min(COLUMNS);
        for (q, row) in panel.chunks_exact_mut(COLUMNS).enumerate() {
            for (j, to) in row.iter_mut().take(columns).enumerate() {
                *to = b[q * b_strides.row + (first + j) * b_strides.col];
            }
        }
        for top in (0..m).step_by(ROWS) {
            let rows: [usize; ROWS] = std::array::from_fn(|r| (top + r).min(m - 1) * a_strides.row);
            tile(a, &rows, Steps::new(&steps), &panel, COLUMNS, &mut sums, false);
            for (r, row) in sums.chunks_exact(COLUMNS).take(m - top).enumerate() {
                for (j, &sum) in row.iter().take(columns).enumerate() {
                    let to = &mut c[(top + r) * c_strides.row + (first + j) * c_strides.col];
                    *to = if add { *to + sum } else { sum };
                }
            }
        }
    }
}
