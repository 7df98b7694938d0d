//! JPEG: what a round trip through a baseline file of some quality leaves of an image.
//!
//! ITU-T T.81 (1992). The entropy code loses nothing, so it is left out: colors are rotated, chroma is halved, blocks
//! are transformed, rounded to multiples of the quantization tables, and everything is undone. All of it in whole
//! numbers, with the rounding, the chroma filters and the table scaling of the library that practically everybody uses
//! (IJG: averages with alternating bias down, a triangle filter up, cosines of 13 bits), so that the bytes are its.

use super::plane::{clamp, signed};
use super::{Size, truncated};

/// Luma and chroma tables of the standard's annex K, row by row, for quality 50.
const LUMA_TABLE: [i32; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMA_TABLE: [i32; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

/// One channel of whole numbers.
struct Grid {
    values: Vec<i32>,
    height: usize,
    width: usize,
}

impl Grid {
    fn filled(height: usize, width: usize, value: impl Fn(usize, usize) -> i32) -> Self {
        let value = &value;
        Self {
            values: (0..height).flat_map(|row| (0..width).map(move |column| value(row, column))).collect(),
            height,
            width,
        }
    }

    /// The value at (row, column); beyond the border the outermost one.
    fn at(&self, row: isize, column: isize) -> i32 {
        self.values[clamp(row, self.height) * self.width + clamp(column, self.width)]
    }
}

/// An image of one channel (gray) or three (red, green, blue) after a round trip at `quality` (1 to 100).
pub(super) fn jpeg(image: &mut [f64], size: Size, quality: i32) {
    let n = size.plane_len();
    let bytes: Vec<i32> = image.iter().map(|&x| i32::from(truncated(x))).collect();
    let grid = |channel: usize| {
        Grid::filled(size.height, size.width, |row, column| bytes[channel * n + row * size.width + column])
    };
    let planes = if size.channels == 3 {
        let [r, g, b] = [0, 1, 2].map(grid);
        let rotated = |weights: [f64; 3], offset: i32, round: i32| {
            let [wr, wg, wb] = weights.map(fixed);
            Grid::filled(size.height, size.width, |row, column| {
                let i = row * size.width + column;
                (wr * r.values[i] + wg * g.values[i] + wb * b.values[i] + (offset << 16) + round) >> 16
            })
        };
        let y = rounded_trip(&rotated([0.299, 0.587, 0.114], 0, 1 << 15), &scaled(&LUMA_TABLE, quality));
        let table = scaled(&CHROMA_TABLE, quality);
        // The offset 128 carries the rounding, a hair less than half, so that 255.5 does not become 256.
        let chroma = |weights| doubled(&rounded_trip(&halved(&rotated(weights, 128, (1 << 15) - 1)), &table), size);
        let cb = chroma([-0.168_735_892, -0.331_264_108, 0.5]);
        let cr = chroma([0.5, -0.418_687_589, -0.081_312_411]);
        let mixed = |red: f64, blue: f64| {
            let (red, blue) = (fixed(red), fixed(blue));
            let shade = |i: usize| (red * (cr.values[i] - 128) + blue * (cb.values[i] - 128) + (1 << 15)) >> 16;
            (0..n).map(|i| y.values[i] + shade(i)).collect::<Vec<_>>()
        };
        [mixed(1.402, 0.0), mixed(-0.714_136_286, -0.344_136_286), mixed(0.0, 1.772)].concat()
    } else {
        rounded_trip(&grid(0), &scaled(&LUMA_TABLE, quality)).values
    };
    image.iter_mut().zip(planes).for_each(|(x, value)| *x = f64::from(value.clamp(0, 255)) / 255.0);
}

/// A weight in 16-bit fixed point.
#[expect(clippy::cast_possible_truncation, reason = "weights below 2 in magnitude")]
fn fixed(weight: f64) -> i32 {
    (weight * 65_536.0 + 0.5).floor() as i32
}

/// A table for a quality: 50 is the table itself, every value stays within 1..255.
fn scaled(table: &[i32; 64], quality: i32) -> [i32; 64] {
    let quality = quality.clamp(1, 100);
    let percent = if quality < 50 { 5_000 / quality } else { 200 - 2 * quality };
    table.map(|value| ((value * percent + 50) / 100).clamp(1, 255))
}

/// Means of 2 x 2 pixels; halves and three quarters go down in even columns and up in odd ones.
fn halved(grid: &Grid) -> Grid {
    Grid::filled(grid.height.div_ceil(2), grid.width.div_ceil(2), |row, column| {
        let (r, c) = (signed(2 * row), signed(2 * column));
        let sum = grid.at(r, c) + grid.at(r, c + 1) + grid.at(r + 1, c) + grid.at(r + 1, c + 1);
        let bias = if column % 2 == 0 { 1 } else { 2 };
        (sum + bias) >> 2
    })
}

/// Twice as large: every new pixel takes 9/16 of the nearest pixel, 3/16 of either neighbor and 1/16 of the farthest.
fn doubled(grid: &Grid, size: Size) -> Grid {
    Grid::filled(size.height, size.width, |row, column| {
        let (near, far) = (signed(row / 2), if row % 2 == 0 { signed(row / 2) - 1 } else { signed(row / 2) + 1 });
        let line = |c: isize| 3 * grid.at(near, c) + grid.at(far, c);
        let c = signed(column / 2);
        if column % 2 == 0 { (3 * line(c) + line(c - 1) + 8) >> 4 } else { (3 * line(c) + line(c + 1) + 7) >> 4 }
    })
}

/// The cosine transform times √8 in 13-bit fixed point: row k is wave k. Entries that should be equal differ in the last
/// place, because the library's fast algorithm (Loeffler, Ligtenberg, Moschytz 1989) rounds its factors and not these.
const WAVES: [[i64; 8]; 8] = [
    [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
    [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
    [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
    [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
    [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
    [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
    [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
    [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
];

/// Blocks of 8 x 8 to waves, rounded to multiples of the table, and back to 0..255.
fn rounded_trip(grid: &Grid, table: &[i32; 64]) -> Grid {
    let waves = WAVES;
    let turned = transposed(&waves);
    let mut out = Grid::filled(grid.height, grid.width, |_, _| 0);
    for top in (0..grid.height).step_by(8) {
        for left in (0..grid.width).step_by(8) {
            let block = std::array::from_fn(|row| {
                std::array::from_fn(|column| i64::from(grid.at(signed(top + row), signed(left + column)) - 128))
            });
            // Rows, then columns. Two bits more than the 13 stay between the passes; what comes out is 8 times the wave.
            let mut heights = product(&waves, &product(&block, &turned, 11), 15);
            for (row, steps) in heights.iter_mut().zip(table.chunks_exact(8)) {
                for (height, &step) in row.iter_mut().zip(steps) {
                    let step = i64::from(step);
                    *height = height.signum() * ((height.abs() + 4 * step) / (8 * step)) * step;
                }
            }
            // Columns, then rows.
            let block = product(&product(&turned, &heights, 11), &waves, 18);
            for (row, line) in block.iter().enumerate().take(grid.height - top) {
                for (column, &value) in line.iter().enumerate().take(grid.width - left) {
                    let byte = u8::try_from((value + 128).clamp(0, 255)).unwrap_or(u8::MAX);
                    out.values[(top + row) * grid.width + left + column] = i32::from(byte);
                }
            }
        }
    }
    out
}

/// The product of two matrices over 2^`bits`, rounded, halves up.
fn product(a: &[[i64; 8]; 8], b: &[[i64; 8]; 8], bits: u32) -> [[i64; 8]; 8] {
    let entry = |i: usize, j: usize| (0..8).map(|k| a[i][k] * b[k][j]).sum::<i64>();
    std::array::from_fn(|i| std::array::from_fn(|j| (entry(i, j) + (1 << (bits - 1))) >> bits))
}

fn transposed(a: &[[i64; 8]; 8]) -> [[i64; 8]; 8] {
    std::array::from_fn(|i| std::array::from_fn(|j| a[j][i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_scale_with_quality() {
        assert_eq!(scaled(&LUMA_TABLE, 50), LUMA_TABLE);
        assert_eq!(scaled(&LUMA_TABLE, 100), [1; 64]);
        assert_eq!(scaled(&LUMA_TABLE, 25)[..3], [32, 22, 20]);
    }

    #[test]
    fn waves_are_cosines() {
        for (k, wave) in WAVES.iter().enumerate() {
            for (i, &found) in wave.iter().enumerate() {
                let scale = if k == 0 { 8192.0 } else { 8192.0 * 2f64.sqrt() };
                let angle = ((2 * i + 1) * k) as f64 * std::f64::consts::PI / 16.0;
                // An entry is a sum of up to four rounded factors.
                assert!((found as f64 - scale * angle.cos()).abs() <= 2.0, "wave {k} at {i}: {found}");
            }
        }
    }

    #[test]
    fn the_best_quality_changes_a_gray_image_by_a_rounding_only() {
        let size = Size { channels: 1, height: 13, width: 19 };
        let image: Vec<f64> = (0..size.plane_len()).map(|i| ((i * i) % 256) as f64 / 255.0).collect();
        let mut through = image.clone();
        jpeg(&mut through, size, 100);
        // Rounding 64 waves to whole numbers moves a pixel by at most 8 · 0.5 (their norm), plus its own rounding.
        assert!(image.iter().zip(&through).all(|(a, b)| 255.0 * (a - b).abs() < 4.5 + 1e-9));
        // The mean square of such errors is 1/12, plus 1/12 of the pixels' own.
        let square: f64 = image.iter().zip(&through).map(|(a, b)| (255.0 * (a - b)).powi(2)).sum();
        assert!(square / 247.0 < 0.25, "{}", square / 247.0);
    }
}
