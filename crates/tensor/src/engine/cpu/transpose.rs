//! Transposes of blocks of a matrix, four by four in registers.
#![allow(unsafe_code)] // vectors by intrinsics

/// `to[c · to_stride + r] = from[r · from_stride + c]` for `rows` × `columns` numbers. What does not fit leaves `to` as it
/// is (debug builds assert).
pub fn transpose(from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize, rows: usize, columns: usize) {
    let fits = |stride: usize, width: usize, n: usize, len: usize| {
        width <= stride && n.checked_mul(stride).and_then(|end| (end + width).checked_sub(stride)) <= Some(len)
    };
    if rows == 0 || columns == 0 {
        return;
    }
    let ok = fits(from_stride, columns, rows, from.len()) && fits(to_stride, rows, columns, to.len());
    debug_assert!(ok, "invariant: the caller has laid out both blocks");
    if !ok {
        return;
    }
    let (whole_rows, whole_columns) = (rows & !3, columns & !3);
    let mut block = |r: usize, c: usize| {
        // SAFETY: rows `r .. r + 4` and columns `c .. c + 4` lie inside both blocks (`fits`).
        unsafe {
            let from = from.as_ptr().add(r * from_stride + c);
            four(from, from_stride, to.as_mut_ptr().add(c * to_stride + r), to_stride);
        }
    };
    // Whole lines of memory on the side whose rows lie further apart.
    if to_stride > from_stride {
        (0..whole_columns).step_by(4).for_each(|c| (0..whole_rows).step_by(4).for_each(|r| block(r, c)));
    } else {
        (0..whole_rows).step_by(4).for_each(|r| (0..whole_columns).step_by(4).for_each(|c| block(r, c)));
    }
    for r in 0..rows {
        let first = if r < whole_rows { whole_columns } else { 0 };
        for c in first..columns {
            to[c * to_stride + r] = from[r * from_stride + c];
        }
    }
}

/// Four by four.
///
/// # Safety
/// Four numbers can be read at each of four rows of `from`, and written at each of four rows of `to`.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
unsafe fn four(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's; every x86-64 has SSE.
    unsafe {
        let mut rows: [__m128; 4] = std::array::from_fn(|i| _mm_loadu_ps(from.add(i * from_stride)));
        let [a, b, c, d] = &mut rows;
        _MM_TRANSPOSE4_PS(a, b, c, d);
        rows.iter().enumerate().for_each(|(i, &row)| _mm_storeu_ps(to.add(i * to_stride), row));
    }
}

/// Four by four.
///
/// # Safety
/// Four numbers can be read at each of four rows of `from`, and written at each of four rows of `to`.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
unsafe fn four(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    for (r, c) in (0..4).flat_map(|r| (0..4).map(move |c| (r, c))) {
        // SAFETY: the caller's.
        unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn every_number_arrives_and_nothing_else_is_touched() {
        for (rows, columns) in [(0, 3), (1, 1), (3, 5), (4, 4), (7, 9), (16, 32), (5, 8)] {
            let (from_stride, to_stride) = (columns + 2, rows + 3);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * to_stride];
            transpose(&from, from_stride, &mut to, to_stride, rows, columns);
            for (i, &got) in to.iter().enumerate() {
                let (c, r) = (i / to_stride, i % to_stride);
                let expected = if r < rows { from[r * from_stride + c] } else { -1.0 };
                assert!(got == expected, "{rows} x {columns}: ({r}, {c}) is {got}, not {expected}");
            }
        }
    }
}
