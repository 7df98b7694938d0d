//! Linear least squares in closed form, in f64 on the host: what a trained linear model is compared with.

use crate::error::{Error, Result};

/// Coefficients c that minimize ‖X c − y‖², X [n, p] row by row, n ≥ p, by Householder's QR (Golub & Van Loan,
/// *Matrix Computations*, section 5.3): its error grows with the condition number of X, that of the normal equations
/// with its square.
///
/// # Errors
/// If sizes do not fit, or a column is (up to rounding) a combination of those before it.
pub fn least_squares(x: &[f64], n_columns: usize, y: &[f64]) -> Result<Vec<f64>> {
    let (n, p) = (y.len(), n_columns);
    if p == 0 || n < p || x.len() != n.saturating_mul(p) {
        let found = format!("{} numbers in {p} columns for {n} targets", x.len());
        return Err(Error::argument("least squares", "a matrix with a row for each target and no more columns", found));
    }
    // Columns, so that a reflection runs along memory; the target is one more.
    let mut columns: Vec<Vec<f64>> = (0..p).map(|j| (0..n).map(|i| x[i * p + j]).collect()).collect();
    columns.push(y.to_vec());
    let mut diagonal = Vec::with_capacity(p);
    for k in 0..p {
        let length = norm(&columns[k]);
        let (done, rest) = columns.split_at_mut(k + 1);
        let column = &mut done[k];
        let below = norm(&column[k..]);
        if below <= 1e-12 * length || !below.is_finite() {
            let found = format!("column {k}, which adds nothing to those before it");
            return Err(Error::argument("least squares", "independent columns of finite numbers", found));
        }
        // The sign that adds, so that nothing cancels.
        let image = if column[k] > 0.0 { -below } else { below };
        column[k] -= image;
        let v = &column[k..];
        let square: f64 = v.iter().map(|a| a * a).sum();
        for other in rest {
            let scale = 2.0 * v.iter().zip(&other[k..]).map(|(a, b)| a * b).sum::<f64>() / square;
            other[k..].iter_mut().zip(v).for_each(|(b, a)| *b -= scale * a);
        }
        diagonal.push(image);
    }
    let target = &columns[p];
    let mut solution = vec![0.0; p];
    for k in (0..p).rev() {
        let known: f64 = (k + 1..p).map(|j| columns[j][k] * solution[j]).sum();
        solution[k] = (target[k] - known) / diagonal[k];
    }
    Ok(solution)
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|a| a * a).sum::<f64>().sqrt()
}

/// Mean of (prediction − target)².
pub fn mean_squared_error(predictions: &[f64], targets: &[f64]) -> f64 {
    mean(predictions.iter().zip(targets).map(|(p, t)| (p - t).powi(2)))
}

/// 1 − Σ (prediction − target)² / Σ (target − mean)²: 1 for perfect predictions, 0 for the mean of these targets.
pub fn r_squared(predictions: &[f64], targets: &[f64]) -> f64 {
    let center = mean(targets.iter().copied());
    1.0 - mean_squared_error(predictions, targets) / mean(targets.iter().map(|t| (t - center).powi(2)))
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows")]
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut n) = (0.0, 0u64);
    for value in values {
        total += value;
        n += 1;
    }
    total / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Philox;

    #[test]
    fn an_exact_fit_is_found() {
        let mut draw = Philox::from_seed(3).stream(0);
        let x: Vec<f64> = (0..60).map(|_| draw.normal()).collect();
        let y: Vec<f64> = x.chunks(3).map(|r| 2.0 * r[0] - 0.5 * r[1] + 7.0 * r[2]).collect();
        let c = least_squares(&x, 3, &y).unwrap();
        assert!(c.iter().zip([2.0, -0.5, 7.0]).all(|(c, want)| (c - want).abs() < 1e-13), "{c:?}");
    }

    /// The residual of the solution is orthogonal to every column, and no neighbor is better.
    #[test]
    fn the_residual_is_orthogonal_to_the_columns() {
        let mut draw = Philox::from_seed(4).stream(0);
        // Columns of very different size, one nearly constant.
        let x: Vec<f64> = (0..50).flat_map(|_| [1.0, 1e4 + draw.normal(), 1e-3 * draw.normal()]).collect();
        let y: Vec<f64> = (0..50).map(|_| draw.normal()).collect();
        let c = least_squares(&x, 3, &y).unwrap();
        let predict = |c: &[f64]| x.chunks(3).map(|r| r.iter().zip(c).map(|(a, b)| a * b).sum()).collect::<Vec<f64>>();
        let best = mean_squared_error(&predict(&c), &y);
        for j in 0..3 {
            let column: Vec<f64> = x.chunks(3).map(|r| r[j]).collect();
            let inner: f64 = column.iter().zip(predict(&c)).zip(&y).map(|((a, p), t)| a * (p - t)).sum();
            assert!(inner.abs() < 1e-9 * norm(&column) * norm(&y), "{inner}");
            for sign in [-1.0, 1.0] {
                let mut other = c.clone();
                other[j] += sign * 1e-3 * other[j].abs();
                assert!(mean_squared_error(&predict(&other), &y) > best);
            }
        }
    }

    #[test]
    fn what_has_no_single_solution_is_refused() {
        assert!(least_squares(&[1.0, 2.0, 2.0, 4.0, 3.0, 6.0], 2, &[1.0, 2.0, 3.0]).is_err());
        assert!(least_squares(&[1.0, 2.0], 2, &[1.0]).is_err());
        assert!(least_squares(&[1.0, 2.0, 3.0], 2, &[1.0, 2.0]).is_err());
        assert!(least_squares(&[0.0, 0.0], 1, &[1.0, 2.0]).is_err());
        assert!(least_squares(&[f64::NAN, 1.0], 1, &[1.0, 2.0]).is_err());
        assert!(least_squares(&[], 0, &[]).is_err());
    }

    #[test]
    fn errors_of_simple_predictions() {
        assert_eq!(mean_squared_error(&[1.0, 3.0], &[2.0, 1.0]), 2.5);
        assert_eq!(r_squared(&[1.0, 2.0, 6.0], &[1.0, 2.0, 6.0]), 1.0);
        assert_eq!(r_squared(&[3.0, 3.0, 3.0], &[1.0, 2.0, 6.0]), 0.0);
    }
}
