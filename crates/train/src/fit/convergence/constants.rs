//! Constants of a problem, estimated along a run: how curved it is, how much a gradient says about the loss, and the rate
//! of convergence that they promise.

use serde::{Deserialize, Serialize};

/// Estimates from losses, parameters and gradients of gradient descent.
///
/// Smoothness L: ‖∇ₜ − ∇ₜ₋₁‖ / ‖θₜ − θₜ₋₁‖, an upper quantile. Polyak-Łojasiewicz μ: ½‖∇ₜ‖² / (fₜ − f*), its smallest value.
/// With both, gradient descent at the rate 1/L has fₜ − f* ≤ (1 − μ/L)ᵗ (f₀ − f*) (Polyak 1963; Karimi, Nutini, Schmidt 2016).
/// Both are of the part of the landscape that the run has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Constants {
    losses: Vec<f64>,
    gradients: Vec<f64>,
    curvatures: Vec<f64>,
    before: Option<(Vec<f64>, Vec<f64>)>,
}

impl Constants {
    /// Before the first step.
    pub fn new() -> Self {
        Constants::default()
    }

    /// Loss, parameters and gradient at one step.
    pub fn observe(&mut self, loss: f64, theta: &[f32], gradient: &[f32]) {
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let (theta, gradient) = (wide(theta), wide(gradient));
        if let Some((old, old_gradient)) = &self.before {
            let (moved, turned) = (distance(&theta, old), distance(&gradient, old_gradient));
            // Below so short a step the difference of gradients is rounding.
            if moved > 1e-6 * length(&theta).max(f64::MIN_POSITIVE) {
                self.curvatures.push(turned / moved);
            }
        }
        self.losses.push(loss);
        self.gradients.push(length(&gradient));
        self.before = Some((theta, gradient));
    }

    /// L̂: the curvature along the run below which a share `quantile` of the steps lies: 1, the largest, for exact
    /// gradients, each of which is a lower bound of L; .95 for those of mini-batches. `None` before two steps.
    pub fn smoothness(&self, quantile: f64) -> Option<f64> {
        let mut sorted = self.curvatures.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        // How many of the curvatures may lie above.
        let above = (0..n).take_while(|k| real(k + 1) <= (1.0 - quantile) * real(n)).count();
        sorted.get(n.checked_sub(1 + above)?).copied()
    }

    /// μ̂ for the smallest loss `minimum`; of losses within a ten-thousandth of the first one above it nothing is asked,
    /// because there rounding counts. `None` if there is no other.
    pub fn pl(&self, minimum: f64) -> Option<f64> {
        let first = self.losses.first()? - minimum;
        let each = self.losses.iter().zip(&self.gradients).filter(|(loss, _)| **loss - minimum > 1e-4 * first);
        each.map(|(loss, gradient)| gradient * gradient / 2.0 / (loss - minimum)).reduce(f64::min)
    }

    /// The factor by which fₜ − f* fell in each step, as the slope of its logarithm (least squares); of the part above a
    /// ten-thousandth of the first. `None` with fewer than two such steps.
    pub fn rate(&self, minimum: f64) -> Option<f64> {
        let first = self.losses.first()? - minimum;
        let above = self.losses.iter().take_while(|loss| **loss - minimum > 1e-4 * first);
        let points: Vec<(f64, f64)> = (0u32..).map(f64::from).zip(above.map(|loss| (loss - minimum).ln())).collect();
        if points.len() < 2 {
            return None;
        }
        let n = points.iter().map(|_| 1.0).sum::<f64>();
        let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
        let covariance: f64 = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
        let variance: f64 = points.iter().map(|p| (p.0 - mx).powi(2)).sum();
        Some((covariance / variance).exp())
    }

    /// The smallest squared gradient norm so far. For any function of smoothness L, T steps of gradient descent at 1/L find
    /// one of at most 2L(f₀ − f*)/T.
    pub fn smallest_square_gradient(&self) -> Option<f64> {
        self.gradients.iter().map(|g| g * g).reduce(f64::min)
    }

    /// The losses.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Gradient norms.
    pub fn gradients(&self) -> &[f64] {
        &self.gradients
    }

    /// Whether steps of this rate diverge along the steepest curvature seen: rate > 2/L̂.
    pub fn diverges_at(&self, rate: f64) -> bool {
        self.smoothness(1.0).is_some_and(|l| rate > super::line_search::largest_stable_rate(l))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of steps")]
fn real(n: usize) -> f64 {
    n as f64
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn distance(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f = ½(θ₁² + 10 θ₂²), gradient descent at 1/L = .1: θ₂ vanishes at once, θ₁ falls by .9 and so f by .81.
    #[test]
    fn constants_of_a_quadratic_are_found() {
        let mut constants = Constants::new();
        let mut theta = [2.0f32, 1.0];
        for _ in 0..40 {
            let gradient = [theta[0], 10.0 * theta[1]];
            let loss = 0.5 * (f64::from(theta[0]).powi(2) + 10.0 * f64::from(theta[1]).powi(2));
            constants.observe(loss, &theta, &gradient);
            theta = [theta[0] - 0.1 * gradient[0], theta[1] - 0.1 * gradient[1]];
        }
        let (l, mu, rate) =
            (constants.smoothness(1.0).unwrap(), constants.pl(0.0).unwrap(), constants.rate(0.0).unwrap());
        // The first step goes along (.2, 1), where the curvature is √(.2² + 10²)/√(.2² + 1); the others along (1, 0).
        assert!((l - (100.04f64 / 1.04).sqrt()).abs() < 1e-4, "{l}");
        assert!((constants.smoothness(0.95).unwrap() - 1.0).abs() < 1e-4);
        assert!((mu - 1.0).abs() < 1e-4, "{mu}");
        assert!((0.75..0.82).contains(&rate), "{rate}");
        assert!(
            constants.diverges_at(0.21) && !constants.diverges_at(0.19) && Constants::new().smoothness(1.0).is_none()
        );
        assert!(Constants::new().pl(0.0).is_none() && Constants::new().rate(0.0).is_none());
    }
}
