//! One channel of an image, read with borders, and the number conversions of positions.

/// A view of a plane of height x width values.
#[derive(Clone, Copy)]
pub(super) struct Plane<'a> {
    values: &'a [f64],
    height: usize,
    width: usize,
}

impl<'a> Plane<'a> {
    pub(super) fn new(values: &'a [f64], height: usize, width: usize) -> Self {
        Self { values, height, width }
    }

    /// The value at (row, column), which lies inside.
    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.width + column]
    }

    /// The value at (row, column); beyond the border mirrored at the outermost pixel, which is not repeated.
    pub(super) fn reflected(&self, row: isize, column: isize) -> f64 {
        self.values[reflect(row, self.height) * self.width + reflect(column, self.width)]
    }
}

/// Mirrors a position into 0..n: −1 → 1, n → n − 2, and so on with period 2n − 2. A single pixel is its own mirror.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "n is the side of an image held in memory, below isize::MAX"
)]
fn reflect(position: isize, n: usize) -> usize {
    let last = n as isize - 1;
    if last < 1 {
        return 0;
    }
    let folded = position.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}

/// Repeats the outermost value: the position nearest to `position` in 0..n.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "n is the side of an image held in memory, below isize::MAX"
)]
pub(super) fn clamp(position: isize, n: usize) -> usize {
    position.clamp(0, n as isize - 1) as usize
}

/// Mirrors a position into 0..n with the outermost value repeated: −1 → 0, n → n − 1, and so on with period 2n.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "n is the side of an image held in memory, below isize::MAX"
)]
pub(super) fn mirror(position: isize, n: usize) -> usize {
    let n = n as isize;
    let folded = position.rem_euclid(2 * n);
    folded.min(2 * n - 1 - folded) as usize
}

/// A whole number of pixels held as f64.
#[expect(clippy::cast_possible_truncation, reason = "floors of small kernel radii and of positions in an image")]
pub(super) fn whole(x: f64) -> isize {
    x as isize
}

#[expect(clippy::cast_precision_loss, reason = "offsets and sides of images, far below 2^53")]
pub(super) fn real(i: isize) -> f64 {
    i as f64
}

#[expect(clippy::cast_possible_wrap, reason = "sides of images held in memory, below isize::MAX")]
pub(super) fn signed(n: usize) -> isize {
    n as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_mirrored() {
        let found: Vec<usize> = (-5..8).map(|i| reflect(i, 4)).collect();
        assert_eq!(found, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!((reflect(-3, 1), reflect(7, 1)), (0, 0));
        let found: Vec<usize> = (-5..8).map(|i| mirror(i, 4)).collect();
        assert_eq!(found, [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0]);
        assert_eq!((mirror(-3, 1), mirror(7, 1)), (0, 0));
        assert_eq!((clamp(-3, 4), clamp(2, 4), clamp(9, 4)), (0, 2, 3));
    }
}
