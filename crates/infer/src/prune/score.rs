//! How much a channel matters: a number for each channel of each group.

use acclimate_train::Params;
use acclimate_train::params::{Kind, Named};

use super::trace::{Dependencies, Place};
use crate::error::Error;

/// A score for each channel, `[group][channel]`; the smallest go first.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(pub Vec<Vec<f64>>);

impl Scores {
    /// Each group's divided by their mean, so that layers of different scales can be compared.
    #[must_use]
    pub fn relative(mut self) -> Self {
        for group in &mut self.0 {
            let mean = group.iter().sum::<f64>() / group.len().max(1) as f64;
            if mean > 0.0 {
                group.iter_mut().for_each(|s| *s /= mean);
            }
        }
        self
    }
}

/// Scores that need only the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Score {
    /// Σ |w| of the filters that make the channel (Li et al. 2017).
    L1,
    /// √Σ w² over everything that goes with the channel (Fang et al. 2023, DepGraph).
    GroupL2,
    /// |γ| of the normalization behind the channel, or their mean (Liu et al. 2017, network slimming). Train with
    /// [`slimming_penalty`] before, so that it means something. Channels without normalization get their L1 score.
    Scale,
}

/// Values of everything, and where a place lies in them.
struct Values {
    all: Vec<Named>,
}

impl Values {
    fn of(params: &Params) -> Result<Self, Error> {
        Ok(Values { all: params.all_to_named()? })
    }

    /// Positions of the elements of a place.
    fn positions(&self, place: &Place) -> impl Iterator<Item = usize> + use<> {
        let dims = &self.all[place.entry].1;
        let inner: usize = dims[place.axis + 1..].iter().product();
        let (size, outer) = (dims[place.axis], dims[..place.axis].iter().product::<usize>());
        let at = place.at;
        (0..outer).flat_map(move |o| (0..inner).map(move |i| (o * size + at) * inner + i))
    }

    fn fold(&self, place: &Place, f: impl Fn(f64) -> f64) -> f64 {
        let values = &self.all[place.entry].2;
        self.positions(place).map(|i| f(f64::from(values[i]))).sum()
    }
}

impl Dependencies {
    fn each(&self, score: impl Fn(&[Place]) -> f64) -> Scores {
        Scores(self.groups().iter().map(|g| g.channels.iter().map(|c| score(c)).collect()).collect())
    }

    fn is(&self, place: &Place, kind: Kind) -> bool {
        self.entries()[place.entry].1 == kind
    }

    /// Scores of parameters that these dependencies were found with.
    ///
    /// # Errors
    /// If the parameters cannot be read or are others.
    pub fn scores(&self, params: &Params, score: Score) -> Result<Scores, Error> {
        let values = Values::of(params)?;
        self.check(&values.all)?;
        let l1 = |c: &[Place]| -> f64 {
            c.iter().filter(|p| p.axis == 0 && self.is(p, Kind::Weight)).map(|p| values.fold(p, f64::abs)).sum()
        };
        Ok(match score {
            Score::L1 => self.each(l1),
            Score::GroupL2 => {
                let trained = |p: &&Place| !matches!(self.entries()[p.entry].1, Kind::RunningMean | Kind::RunningVar);
                self.each(|c| c.iter().filter(trained).map(|p| values.fold(p, |w| w * w)).sum::<f64>().sqrt())
            }
            Score::Scale => self.each(|c| {
                let scales: Vec<f64> =
                    c.iter().filter(|p| self.is(p, Kind::NormScale)).map(|p| values.fold(p, f64::abs)).collect();
                if scales.is_empty() { l1(c) } else { scales.iter().sum::<f64>() / scales.len() as f64 }
            }),
        })
    }

    /// What the loss would change by, to first order, if the channel were 0: the mean over `gradients` of (Σ w·g)²
    /// (Molchanov et al. 2019). The sum runs over the weights that read the channel, so that it is the derivative by a gate
    /// of 1 on the channel; where nothing reads it by a weight, over those that make it. Give the gradient of the loss of a
    /// few minibatches, one by one.
    ///
    /// # Errors
    /// What `gradients` fails with, none, or parameters that are others.
    pub fn taylor(
        &self,
        params: &Params,
        gradients: impl IntoIterator<Item = Result<Params, Error>>,
    ) -> Result<Scores, Error> {
        let values = Values::of(params)?;
        self.check(&values.all)?;
        let (mut total, mut n) = (self.each(|_| 0.0), 0u32);
        for gradient in gradients {
            let gradient = Values { all: gradient?.to_named()? };
            let through = |p: &Place| -> f64 {
                let (w, g) = (&values.all[p.entry].2, gradient.all.get(p.entry).map(|g| &g.2));
                let Some(g) = g else { return 0.0 };
                values.positions(p).map(|i| f64::from(w[i]) * f64::from(g[i])).sum()
            };
            let one = self.each(|c| {
                let weights = |reads: bool| c.iter().filter(move |p| self.is(p, Kind::Weight) && (p.axis > 0) == reads);
                let reading = weights(true).count() > 0;
                weights(reading).map(through).sum::<f64>().powi(2)
            });
            total.0.iter_mut().flatten().zip(one.0.into_iter().flatten()).for_each(|(t, s)| *t += s);
            n += 1;
        }
        if n == 0 {
            return Err(Error::Empty { what: "the list of gradients" });
        }
        total.0.iter_mut().flatten().for_each(|t| *t /= f64::from(n));
        Ok(total)
    }

    /// Fails unless values have the paths and shapes that the dependencies were found with.
    pub(super) fn check(&self, values: &[Named]) -> Result<(), Error> {
        let same = values.len() == self.entries().len()
            && values.iter().zip(self.entries()).all(|(v, e)| v.0 == e.0 && v.1 == e.2);
        if same {
            return Ok(());
        }
        let expected = "those that the dependencies were found with";
        Err(Error::prune("parameters", expected, format!("{} of other paths or shapes", values.len())))
    }
}

/// λ · Σ |γ| over the scales of all normalization layers, a scalar: added to a loss, it drives those of channels that matter
/// little to 0 (Liu et al. 2017; λ = 1e-4 there).
///
/// # Errors
/// If there is no normalization layer.
pub fn slimming_penalty(params: &Params, lambda: f32) -> Result<acclimate_tensor::Tensor, Error> {
    let scales = params.select(|_, kind| kind == Kind::NormScale);
    if scales.is_empty() {
        return Err(Error::Empty { what: "the list of normalization scales" });
    }
    Ok(params.subset(&scales)?.arena().abs()?.sum(&[])?.mul_scalar(lambda)?)
}
