//! Edges of a gray image, distances to them, and the flat histogram: the parts that water on a lens is made of.
//! Whole numbers and rounding as in the generator's image library.

use std::collections::VecDeque;

use super::plane::{clamp, signed};

/// One channel of bytes, height x width.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gray {
    pub values: Vec<u8>,
    pub height: usize,
    pub width: usize,
}

impl Gray {
    fn repeated(&self, row: isize, column: isize) -> i32 {
        i32::from(self.values[clamp(row, self.height) * self.width + clamp(column, self.width)])
    }
}

/// Where the edges are (J. Canny: A computational approach to edge detection, 1986): pixels whose slope |dx| + |dy|
/// (3 x 3 Sobel) is above `low` and largest across the edge, and that hang together with one above `high`.
pub(super) fn canny(image: &Gray, low: i32, high: i32) -> Vec<bool> {
    let (height, width) = (signed(image.height), signed(image.width));
    let slope = |row: isize, column: isize| -> (i32, i32) {
        let at = |i: isize, j: isize| image.repeated(row + i, column + j);
        let dx = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1);
        let dy = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1);
        (dx, dy)
    };
    let slopes: Vec<(i32, i32)> =
        (0..height).flat_map(|row| (0..width).map(move |column| (row, column))).map(|(r, c)| slope(r, c)).collect();
    let index = |row: isize, column: isize| -> Option<usize> {
        let inside = (0..height).contains(&row) && (0..width).contains(&column);
        inside.then(|| row.unsigned_abs() * image.width + column.unsigned_abs())
    };
    let size = |row: isize, column: isize| index(row, column).map_or(0, |i| slopes[i].0.abs() + slopes[i].1.abs());
    // tan(22.5°) in 15-bit fixed point.
    const TAN: i64 = 13_573;
    let is_ridge = |row: isize, column: isize, m: i32, (dx, dy): (i32, i32)| -> bool {
        let (x, y) = (i64::from(dx.abs()), i64::from(dy.abs()) << 15);
        if y < x * TAN {
            m > size(row, column - 1) && m >= size(row, column + 1)
        } else if y > x * TAN + (x << 16) {
            m > size(row - 1, column) && m >= size(row + 1, column)
        } else {
            let lean = if (dx ^ dy) < 0 { -1 } else { 1 };
            m > size(row - 1, column - lean) && m > size(row + 1, column + lean)
        }
    };
    let mut candidates = vec![false; slopes.len()];
    let mut edges = vec![false; slopes.len()];
    let mut open = VecDeque::new();
    for row in 0..height {
        for column in 0..width {
            let Some(i) = index(row, column) else { continue };
            let m = size(row, column);
            candidates[i] = m > low && is_ridge(row, column, m, slopes[i]);
            if candidates[i] && m > high {
                edges[i] = true;
                open.push_back((row, column));
            }
        }
    }
    while let Some((row, column)) = open.pop_front() {
        for (di, dj) in (-1..=1).flat_map(|i| (-1..=1).map(move |j| (i, j))) {
            if let Some(i) = index(row + di, column + dj).filter(|&i| candidates[i] && !edges[i]) {
                edges[i] = true;
                open.push_back((row + di, column + dj));
            }
        }
    }
    edges
}

/// Distance of each pixel to the nearest edge, at most `most`: the 5 x 5 chamfer distance with steps 1, 1.4 and 2.1969
/// (G. Borgefors: Distance transformations in digital images, 1986). Without an edge everything is `most` away.
pub(super) fn distances(edges: &[bool], height: usize, width: usize, most: f64) -> Vec<f64> {
    const STRAIGHT: i64 = 65_536;
    const DIAGONAL: i64 = 91_750;
    const KNIGHT: i64 = 143_976;
    const FAR: i64 = i64::MAX / 2;
    const BEFORE: [(isize, isize, i64); 8] = [
        (-2, -1, KNIGHT),
        (-2, 1, KNIGHT),
        (-1, -2, KNIGHT),
        (-1, -1, DIAGONAL),
        (-1, 0, STRAIGHT),
        (-1, 1, DIAGONAL),
        (-1, 2, KNIGHT),
        (0, -1, STRAIGHT),
    ];
    let mut steps: Vec<i64> = edges.iter().map(|&edge| if edge { 0 } else { FAR }).collect();
    // Once from the first pixel on, once from the last back.
    for turn in [1, -1] {
        for position in 0..steps.len() {
            let i = if turn == 1 { position } else { steps.len() - 1 - position };
            let (row, column) = (signed(i / width), signed(i % width));
            for (di, dj, step) in BEFORE {
                let (r, c) = (row + turn * di, column + turn * dj);
                if (0..signed(height)).contains(&r) && (0..signed(width)).contains(&c) {
                    let near = steps[r.unsigned_abs() * width + c.unsigned_abs()];
                    steps[i] = steps[i].min(near.saturating_add(step));
                }
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "rounded to a distance of at most `most`")]
    steps.iter().map(|&step| (step as f64 / STRAIGHT as f64).min(most)).collect()
}

/// Bytes stretched so that each is about as frequent as the others.
pub(super) fn equalized(values: &[u8]) -> Vec<u8> {
    let mut counts = [0usize; 256];
    values.iter().for_each(|&value| counts[usize::from(value)] += 1);
    let first = counts.iter().position(|&n| n > 0).unwrap_or(0);
    if counts[first] == values.len() {
        return values.to_vec();
    }
    // In f32, like the generator's library, whose rounding is to be met.
    let scale = 255.0 / (values.len() - counts[first]) as f32;
    let mut levels = [0u8; 256];
    let mut sum = 0;
    for value in first + 1..256 {
        sum += counts[value];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 255, rounded")]
        let level = (sum as f32 * scale).round_ties_even().min(255.0) as u8;
        levels[value] = level;
    }
    values.iter().map(|&value| levels[usize::from(value)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_of_a_square_is_an_edge() {
        let value = |i: usize| if (3..9).contains(&(i / 12)) && (3..9).contains(&(i % 12)) { 255 } else { 0 };
        let square = Gray { values: (0..144).map(value).collect(), height: 12, width: 12 };
        let edges = canny(&square, 50, 150);
        let n = edges.iter().filter(|edge| **edge).count();
        // A closed line around 6 x 6 pixels, one pixel thick.
        assert!((18..=28).contains(&n), "{n}");
        assert!(!edges[5 * 12 + 5] && !edges[0]);
        let flat = Gray { values: vec![7; 144], ..square };
        assert!(canny(&flat, 50, 150).iter().all(|edge| !edge));
    }

    #[test]
    fn distances_by_hand() {
        let mut edges = vec![false; 49];
        edges[24] = true;
        let found = distances(&edges, 7, 7, 20.0);
        for (row, column, expected) in [(3, 3, 0.0), (3, 6, 3.0), (0, 0, 4.2), (1, 2, 2.1969), (0, 1, 3.5969)] {
            assert!((found[row * 7 + column] - expected).abs() < 1e-4, "{row} {column}: {}", found[row * 7 + column]);
        }
        assert!(distances(&[false; 6], 2, 3, 20.0).iter().all(|&x| x == 20.0));
    }

    #[test]
    fn equalized_bytes_span_the_range() {
        assert_eq!(equalized(&[3, 3, 3]), [3, 3, 3]);
        assert_eq!(equalized(&[10, 20, 30, 40]), [0, 85, 170, 255]);
    }
}
