//! Two methods on the same inputs: what one put right, what it spoiled, whether that can be chance, and what it missed.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::metrics::Paired;

/// A method against a baseline, input by input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// Inputs that both answered.
    pub n: usize,
    /// Wrong by the baseline, right by the method.
    pub helped: usize,
    /// Right by the baseline, wrong by the method.
    pub harmed: usize,
    /// Exact two-sided McNemar test: how likely so uneven a split is by chance.
    pub p_value: f64,
    /// Mean difference in accuracy.
    pub difference: f64,
    /// Standard error of that mean, from the paired differences.
    pub standard_error: f64,
}

impl Versus {
    /// Compares "was right" of each input.
    ///
    /// # Errors
    /// [`Error::Empty`] or [`Error::Size`].
    pub fn of(baseline: &[bool], method: &[bool]) -> Result<Self, Error> {
        let pairs = Paired::count(baseline, method)?;
        let n = baseline.len();
        let (helped, harmed) = (pairs.helped as f64, pairs.harmed as f64);
        let difference = (helped - harmed) / n as f64;
        // Differences are +1, −1 or 0, so the sum of their squares is the number of discordant pairs.
        let variance = (helped + harmed) / n as f64 - difference * difference;
        let standard_error = if n > 1 { (variance / (n - 1) as f64).sqrt() } else { f64::INFINITY };
        Ok(Self { n, helped: pairs.helped, harmed: pairs.harmed, p_value: pairs.p_value(), difference, standard_error })
    }
}

/// Benefit that a careful method missed: inputs that the baseline got wrong and on which the method did not act, but
/// that at least one of the `others` got right. Reported beside harm, because a guard that never acts harms nobody.
///
/// # Errors
/// [`Error::Size`] if the lists differ in length.
pub fn missed_benefit(baseline: &[bool], acted: &[bool], others: &[&[bool]]) -> Result<usize, Error> {
    for list in others.iter().chain([&acted]) {
        if list.len() != baseline.len() {
            return Err(Error::size("answers to compare", baseline.len(), list.len()));
        }
    }
    let missed = |i: &usize| !baseline[*i] && !acted[*i] && others.iter().any(|right| right[*i]);
    Ok((0..baseline.len()).filter(missed).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bools(text: &str) -> Vec<bool> {
        text.chars().map(|c| c == '1').collect()
    }

    #[test]
    fn a_comparison_by_hand() {
        let v = Versus::of(&bools("1100110000"), &bools("1011111110")).unwrap();
        assert_eq!((v.n, v.helped, v.harmed), (10, 5, 1));
        assert!((v.difference - 0.4).abs() < 1e-12);
        // Differences 0 −1 1 1 0 0 1 1 1 0: variance (6 − 10·0.16) / 9, of the mean a tenth of it.
        assert!((v.standard_error - (4.4f64 / 90.0).sqrt()).abs() < 1e-12);
        // Six discordant pairs, at most one against: 2 · (1 + 6) / 64.
        assert!((v.p_value - 14.0 / 64.0).abs() < 1e-9);
        assert!(Versus::of(&[true], &[true, false]).is_err());
        assert!(Versus::of(&[], &[]).is_err());
    }

    #[test]
    fn benefit_is_missed_where_somebody_was_right() {
        let (frozen, acted) = (bools("10000"), bools("00110"));
        let others = [bools("11010"), bools("01100")];
        let others: Vec<&[bool]> = others.iter().map(Vec::as_slice).collect();
        // Input 0 was right; 1 is missed; 2 and 3 were acted on; 4 nobody had.
        assert_eq!(missed_benefit(&frozen, &acted, &others).unwrap(), 1);
        assert_eq!(missed_benefit(&frozen, &acted, &[]).unwrap(), 0);
        assert!(missed_benefit(&frozen, &acted[1..], &others).is_err());
    }
}
