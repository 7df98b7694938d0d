//! The inner loop of direct convolutions: a tile of sums of products whose left factors are read where they lie.
//!
//! `out[r][c] (+)= Σ_q x[rows[r] + steps[q]] · b[q][c]`, 8 rows by 16 or 32 columns. With pixels as rows, taps as steps and
//! weights as `b` that is a convolution without columns of pixels; with taps as rows and pixels as steps, its gradient.
#![allow(unsafe_code)] // vectors by intrinsics, loads without checks of their own

use super::simd::Path;

/// Rows of a tile.
pub const ROWS: usize = 8;
/// Most columns of a tile.
pub const COLUMNS: usize = 32;

/// Positions relative to a row, and the largest of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps<'a> {
    list: &'a [usize],
    largest: usize,
}

impl<'a> Steps<'a> {
    /// Looks for the largest.
    pub fn new(list: &'a [usize]) -> Self {
        Steps { list, largest: list.iter().copied().max().unwrap_or(0) }
    }

    /// Some of them in a row.
    pub fn part(self, range: std::ops::Range<usize>) -> Self {
        Steps { list: self.list.get(range).unwrap_or_default(), largest: self.largest }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// One tile. `b` has a row of `width` (16 or 32) numbers for each step, `out` is [`ROWS`] rows of as many. What does not
/// fit leaves `out` as it is (debug builds assert).
#[inline]
pub fn tile(x: &[f32], rows: &[usize; ROWS], steps: Steps<'_>, b: &[f32], width: usize, out: &mut [f32], add: bool) {
    let highest = rows.iter().copied().max().unwrap_or(0);
    let inside = steps.is_empty() || highest.checked_add(steps.largest).is_some_and(|at| at < x.len());
    let fits = inside && b.len() >= steps.len() * width && out.len() >= ROWS * width;
    debug_assert!(fits && (width == 16 || width == COLUMNS), "invariant: the caller has laid out the tile");
    if !fits {
        return;
    }
    // SAFETY: every `rows[r] + steps[q]` lies inside `x`, every row of `b` and of `out` inside theirs (`fits`), and each
    // path runs only where `Path::now` found its features.
    unsafe {
        match (Path::now(), width) {
            #[cfg(target_arch = "x86_64")]
            (Path::Avx512, COLUMNS) => x86::avx512::<2>(x, rows, steps.list, b, out, add),
            #[cfg(target_arch = "x86_64")]
            (Path::Avx512, 16) => x86::avx512::<1>(x, rows, steps.list, b, out, add),
            #[cfg(target_arch = "x86_64")]
            (Path::Avx2, COLUMNS | 16) => x86::avx2(x, rows, steps.list, b, width, out, add),
            (_, COLUMNS | 16) => parts::<Four, 4, 2>(x, rows, steps.list, b, width, out, add),
            _ => {}
        }
    }
}

/// Numbers side by side.
trait Vector: Copy {
    const N: usize;
    fn zero() -> Self;
    /// # Safety
    /// `N` numbers can be read there.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// One number can be read there.
    unsafe fn splat(from: *const f32) -> Self;
    /// # Safety
    /// The processor has what the type needs.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// # Safety
    /// `N` numbers can be written there.
    unsafe fn store(self, to: *mut f32);
}

/// The tile in parts of `R` rows by `C` vectors, as many as registers hold.
///
/// # Safety
/// As in [`tile`], and the processor has what `V` needs.
#[inline(always)]
unsafe fn parts<V: Vector, const R: usize, const C: usize>(
    x: &[f32],
    rows: &[usize; ROWS],
    steps: &[usize],
    b: &[f32],
    width: usize,
    out: &mut [f32],
    add: bool,
) {
    for r in (0..ROWS).step_by(R) {
        for c in (0..width).step_by(C * V::N) {
            // SAFETY: `R` divides the rows and `C` vectors divide the width, so all lies inside the tile.
            unsafe {
                let from: [*const f32; R] = std::array::from_fn(|i| x.as_ptr().add(rows[r + i]));
                part::<V, R, C>(from, steps, b.as_ptr().add(c), width, out.as_mut_ptr().add(r * width + c), add);
            }
        }
    }
}

/// # Safety
/// As in [`tile`].
#[inline(always)]
unsafe fn part<V: Vector, const R: usize, const C: usize>(
    from: [*const f32; R],
    steps: &[usize],
    b: *const f32,
    width: usize,
    out: *mut f32,
    add: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::zero(); C]; R];
        let mut b = b;
        for &step in steps {
            let right: [V; C] = std::array::from_fn(|c| V::load(b.add(c * V::N)));
            for r in 0..R {
                let left = V::splat(from[r].add(step));
                for c in 0..C {
                    sums[r][c] = left.mul_add(right[c], sums[r][c]);
                }
            }
            b = b.wrapping_add(width);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, &sum) in sums.iter().enumerate() {
                let to = out.add(r * width + c * V::N);
                let sum = if add { one_more(V::load(to), sum) } else { sum };
                sum.store(to);
            }
        }
    }
}

/// a + b.
///
/// # Safety
/// The processor has what the type needs.
#[inline(always)]
unsafe fn one_more<V: Vector>(a: V, b: V) -> V {
    let one = 1.0f32;
    // SAFETY: the caller's; `one` is a number.
    unsafe { V::splat(&raw const one).mul_add(a, b) }
}

/// Four numbers, for every processor.
#[derive(Clone, Copy)]
struct Four([f32; 4]);

impl Vector for Four {
    const N: usize = 4;
    #[inline(always)]
    fn zero() -> Self {
        Four([0.0; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Four([unsafe { *from }; 4])
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{ROWS, Vector, parts};

    macro_rules! vector {
        ($t:ident, $n:literal, $zero:ident, $load:ident, $splat:ident, $fma:ident, $store:ident) => {
            impl Vector for $t {
                const N: usize = $n;
                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: all bits zero is a vector of zeros.
                    unsafe { std::mem::zeroed() }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller's.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn splat(from: *const f32) -> Self {
                    // SAFETY: the caller's.
                    unsafe { $splat(*from) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: the caller's.
                    unsafe { $fma(self, b, c) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the caller's.
                    unsafe { $store(to, self) }
                }
            }
        };
    }
    vector!(__m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps);
    vector!(__m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps);

    /// # Safety
    /// As in [`super::tile`]; `C` vectors are the width.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn avx512<const C: usize>(
        x: &[f32],
        rows: &[usize; ROWS],
        steps: &[usize],
        b: &[f32],
        out: &mut [f32],
        add: bool,
    ) {
        // SAFETY: the caller's.
        unsafe { parts::<__m512, ROWS, C>(x, rows, steps, b, C * 16, out, add) }
    }

    /// # Safety
    /// As in [`super::tile`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(
        x: &[f32],
        rows: &[usize; ROWS],
        steps: &[usize],
        b: &[f32],
        width: usize,
        out: &mut [f32],
        add: bool,
    ) {
        // SAFETY: the caller's.
        unsafe { parts::<__m256, 4, 2>(x, rows, steps, b, width, out, add) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_gives_the_sums_of_products() {
        let number = |i: usize| ((i * 7919 + 13) % 101) as f32 / 101.0 - 0.5;
        let x: Vec<f32> = (0..500).map(number).collect();
        for (depth, width, add) in [(0, 16, false), (1, 16, true), (27, 32, false), (65, 32, true), (9, 16, false)] {
            let b: Vec<f32> = (0..depth * width).map(|i| number(i + 3)).collect();
            let list: Vec<usize> = (0..depth).map(|q| q * 5 % 97).collect();
            let steps = Steps::new(&list);
            let rows = [0, 3, 1, 400, 17, 17, 90, 6];
            let before: Vec<f32> = (0..ROWS * width).map(|i| number(i + 11)).collect();
            for &path in Path::present() {
                Path::force(path);
                let mut out = before.clone();
                tile(&x, &rows, steps, &b, width, &mut out, add);
                for (i, &got) in out.iter().enumerate() {
                    let (r, c) = (i / width, i % width);
                    let product = |q: usize| f64::from(x[rows[r] + q * 5 % 97]) * f64::from(b[q * width + c]);
                    let sum: f64 = (0..depth).map(product).sum::<f64>() + if add { f64::from(before[i]) } else { 0.0 };
                    // Each of the roundings is of a number below a quarter of the depth and one.
                    let bound = f64::from(f32::EPSILON) * (depth as f64 + 1.0) * (depth as f64 / 4.0 + 1.0);
                    assert!((f64::from(got) - sum).abs() <= bound, "{path} {depth} {width}: {i} is {got}, not {sum}");
                }
            }
            Path::force(*Path::present().last().unwrap_or(&Path::Baseline));
        }
    }
}
