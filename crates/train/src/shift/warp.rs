//! Images drawn at other positions: zoom and rubber. Between pixels, values are linear.

use super::Size;
use super::optics::{Beyond, normal_blur};
use super::plane::{Plane, mirror, real, signed, whole};
use crate::data::rng::Stream;

/// The middle of a plane enlarged by `factor` ≥ 1 to the plane's size: a detail of ceil(n / factor) pixels is drawn
/// over round(factor · detail) pixels, outermost pixel on outermost pixel, and cut to n around the middle.
pub(super) fn zoomed(plane: &[f64], height: usize, width: usize, factor: f64) -> Vec<f64> {
    let axis = |n: usize| -> Vec<(usize, usize, f64)> {
        let detail = count((real(signed(n)) / factor).ceil()).clamp(1, n);
        let drawn = count((real(signed(detail)) * factor).round_ties_even()).max(n);
        let step = if drawn > 1 { real(signed(detail - 1)) / real(signed(drawn - 1)) } else { 0.0 };
        let (top, trimmed) = ((n - detail) / 2, (drawn - n) / 2);
        (0..n)
            .map(|i| {
                let position = real(signed(i + trimmed)) * step;
                let below = count(position.floor()).min(detail - 1);
                (top + below, top + (below + 1).min(detail - 1), position - real(signed(below)))
            })
            .collect()
    };
    let (rows, columns) = (axis(height), axis(width));
    let mut out = Vec::with_capacity(plane.len());
    for &(above, below, down) in &rows {
        for &(left, right, across) in &columns {
            let line = |row: usize| mix(plane[row * width + left], plane[row * width + right], across);
            out.push(mix(line(above), line(below), down));
        }
    }
    out
}

/// The mean of the image and `n_zooms` zooms of it, by 1, 1.01, 1.02, …
pub(super) fn zoom_blur(image: &mut [f64], size: Size, n_zooms: u32) {
    for plane in image.chunks_exact_mut(size.plane_len()) {
        let mut sum = plane.to_vec();
        for i in 0..n_zooms {
            let zoom = zoomed(plane, size.height, size.width, 1.0 + f64::from(i) / 100.0);
            sum.iter_mut().zip(zoom).for_each(|(sum, x)| *sum += x);
        }
        plane.iter_mut().zip(sum).for_each(|(x, sum)| *x = sum / f64::from(n_zooms + 1));
    }
}

/// Rubber: a random affine map, then a smooth random displacement. Lengths are shares of the shorter side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Elastic {
    /// Size of the displacement, before it is smoothed.
    pub strength: f64,
    /// Standard deviation of the kernel that smooths it.
    pub smooth: f64,
    /// How far the three corners of the affine map may move.
    pub corners: f64,
}

/// Applies [`Elastic`]. Draws: six for the corners, then one for each pixel's x, then one for each pixel's y.
/// The affine map mirrors at the outermost pixel, the displacement beside it, as the generator does.
pub(super) fn elastic(image: &mut Vec<f64>, size: Size, rubber: Elastic, stream: &mut Stream) {
    let side = size.height.min(size.width);
    let reach = rubber.corners * real(signed(side));
    let mut draw = |reach: f64| reach * (2.0 * stream.uniform_f64() - 1.0);
    let middle = (real(signed(size.width / 2)), real(signed(size.height / 2)));
    let third = real(signed(side / 3));
    let from = [(third, third), (third, -third), (-third, -third)].map(|(x, y)| (middle.0 + x, middle.1 + y));
    let to = from.map(|(x, y)| (x + draw(reach), y + draw(reach)));
    let mut field = |_| -> Vec<f64> {
        let mut field: Vec<f64> = (0..size.plane_len()).map(|_| draw(1.0)).collect();
        normal_blur(&mut field, size, rubber.smooth * real(signed(side)), 3.0, Beyond::Mirrored);
        field.iter_mut().for_each(|x| *x *= rubber.strength * real(signed(side)));
        field
    };
    let [dx, dy] = [0, 1].map(&mut field);
    // Where in the image a pixel of the result comes from.
    if let Some(back) = affine(&to, &from) {
        *image = resampled(image, size, |plane, row, column| {
            let (x, y) = back(column, row);
            linear(x, y, |row, column| plane.reflected(row, column))
        });
    }
    *image = resampled(image, size, |plane, row, column| {
        let i = count(row) * size.width + count(column);
        linear(column + dx[i], row + dy[i], |row, column| {
            plane.at(mirror(row, size.height), mirror(column, size.width))
        })
    });
}

/// The affine map that takes three points to three others; none if the points lie on a line.
fn affine(from: &[(f64, f64); 3], to: &[(f64, f64); 3]) -> Option<impl Fn(f64, f64) -> (f64, f64)> {
    let [a, b, c] = *from;
    let (ux, uy, vx, vy) = (b.0 - a.0, b.1 - a.1, c.0 - a.0, c.1 - a.1);
    let area = ux * vy - uy * vx;
    let [p, q, r] = *to;
    (area.abs() > 1e-9).then_some(move |x: f64, y: f64| {
        // (x, y) = a + s (b − a) + t (c − a)
        let (x, y) = (x - a.0, y - a.1);
        let (s, t) = ((x * vy - y * vx) / area, (ux * y - uy * x) / area);
        (p.0 + s * (q.0 - p.0) + t * (r.0 - p.0), p.1 + s * (q.1 - p.1) + t * (r.1 - p.1))
    })
}

/// Each pixel of each channel by a function of its (row, column).
fn resampled(image: &[f64], size: Size, value: impl Fn(&Plane<'_>, f64, f64) -> f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(image.len());
    for values in image.chunks_exact(size.plane_len()) {
        let plane = Plane::new(values, size.height, size.width);
        for row in 0..signed(size.height) {
            out.extend((0..signed(size.width)).map(|column| value(&plane, real(row), real(column))));
        }
    }
    out
}

/// The value between the four pixels around (x, y), read by (row, column).
fn linear(x: f64, y: f64, at: impl Fn(isize, isize) -> f64) -> f64 {
    let (left, top) = (x.floor(), y.floor());
    let (column, row) = (whole(left), whole(top));
    let line = |row: isize| mix(at(row, column), at(row, column + 1), x - left);
    mix(line(row), line(row + 1), y - top)
}

fn mix(a: f64, b: f64, share: f64) -> f64 {
    (1.0 - share) * a + share * b
}

/// A number of pixels held as f64.
fn count(x: f64) -> usize {
    whole(x).max(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Philox;

    #[test]
    fn a_zoom_keeps_linear_images_linear() {
        // Of 9 pixels, a zoom by 2 draws the middle 5 over 10 and keeps the first 9 of them.
        let row: Vec<f64> = (0..9).map(f64::from).collect();
        let zoom = zoomed(&row, 1, 9, 2.0);
        for (i, x) in zoom.iter().enumerate() {
            assert!((x - (2.0 + i as f64 * 4.0 / 9.0)).abs() < 1e-12, "{zoom:?}");
        }
        assert_eq!(zoomed(&row, 1, 9, 1.0), row);
    }

    #[test]
    fn an_affine_map_takes_its_points_where_they_belong() {
        let (from, to) = ([(1.0, 2.0), (3.0, 5.0), (-2.0, 0.5)], [(0.0, 0.0), (4.0, 1.0), (2.0, 7.0)]);
        let map = affine(&from, &to).unwrap();
        for ((x, y), (u, v)) in from.into_iter().zip(to) {
            let (found_u, found_v) = map(x, y);
            assert!((found_u - u).abs() < 1e-12 && (found_v - v).abs() < 1e-12);
        }
        assert!(affine(&[(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)], &to).is_none());
    }

    #[test]
    fn rubber_at_rest_is_the_image() {
        let size = Size { channels: 2, height: 7, width: 9 };
        let image: Vec<f64> = (0..126).map(|i| f64::from(i) / 126.0).collect();
        let mut moved = image.clone();
        let rest = Elastic { strength: 0.0, smooth: 0.1, corners: 0.0 };
        elastic(&mut moved, size, rest, &mut Philox::from_seed(1).stream(0));
        assert!(image.iter().zip(&moved).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
