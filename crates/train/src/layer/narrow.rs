//! Narrower layers: the same network for parameters that keep only some of their channels.
//!
//! What is kept is said by path and axis ([`Kept`]); a layer answers with the layer that fits, and says which channels it
//! gives on ([`Narrowed`]), so that the next one can tell where its own come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Layer;
use crate::error::{Error, Result};
use crate::params::Named;

/// Which positions of which axes of which parameters and buffers stay. Axes that are not named keep all of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    axes: BTreeMap<String, BTreeMap<usize, Vec<usize>>>,
}

impl Kept {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// With these positions of an axis, which must ascend; none of them takes the parameter away.
    #[must_use]
    pub fn with(mut self, path: impl Into<String>, axis: usize, positions: Vec<usize>) -> Self {
        self.axes.entry(path.into()).or_default().insert(axis, positions);
        self
    }

    /// The positions of an axis that stay; none if the axis keeps all.
    pub fn of(&self, path: &str, axis: usize) -> Option<&[usize]> {
        self.axes.get(path)?.get(&axis).map(Vec::as_slice)
    }

    /// How many of the `full` positions of an axis stay.
    pub fn count(&self, path: &str, axis: usize, full: usize) -> usize {
        self.of(path, axis).map_or(full, <[usize]>::len)
    }

    /// The channels of an axis that stay, of `full`.
    pub fn channels(&self, path: &str, axis: usize, full: usize) -> Channels {
        match self.of(path, axis) {
            Some(kept) => Channels { kept: kept.to_vec(), full },
            None => Channels::all(full),
        }
    }

    /// The part of a value that stays; none if it keeps nothing of some axis.
    ///
    /// # Errors
    /// If an axis or a position is not the value's, or positions do not ascend.
    pub fn select(&self, (path, dims, values): &Named) -> Result<Option<Named>> {
        let (mut dims, mut values) = (dims.clone(), values.clone());
        for (&axis, kept) in self.axes.get(path).into_iter().flatten() {
            let size = dims.get(axis).copied().unwrap_or(0);
            let ascend = kept.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascend || kept.last().is_some_and(|&last| last >= size) || axis >= dims.len() {
                let expected = format!("ascending positions below {size} of axis {axis} of `{path}` {dims:?}");
                return Err(Error::argument("kept channels", expected, format!("{kept:?}")));
            }
            let inner: usize = dims[axis + 1..].iter().product();
            let mut taken = Vec::with_capacity(values.len() / size.max(1) * kept.len());
            for outer in values.chunks_exact((size * inner).max(1)) {
                kept.iter().for_each(|&k| taken.extend_from_slice(&outer[k * inner..(k + 1) * inner]));
            }
            dims[axis] = kept.len();
            values = taken;
        }
        Ok((!dims.contains(&0)).then(|| (path.clone(), dims, values)))
    }
}

/// The channels of a stream between layers that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Ascending positions among all.
    pub kept: Vec<usize>,
    /// How many there were.
    pub full: usize,
}

impl Channels {
    /// All of them.
    pub fn all(full: usize) -> Self {
        Channels { kept: (0..full).collect(), full }
    }
}

/// What [`Layer::narrowed`] answers.
#[derive(Clone, Debug)]
pub struct Narrowed {
    /// The narrower layer; none if nothing of it is left, so that it gives 0 whatever comes in.
    pub layer: Option<Arc<dyn Layer>>,
    /// The channels that come out of it, where they can be told.
    pub channels: Option<Channels>,
}

impl Narrowed {
    /// A layer, and what comes out of it.
    pub fn to(layer: impl Layer + 'static, channels: Option<Channels>) -> Result<Self> {
        Ok(Narrowed { layer: Some(Arc::new(layer)), channels })
    }

    /// A layer with weights [outputs, inputs, ..]: `layer` makes it of the numbers of both that stay.
    pub(crate) fn of_weight<L: Layer + 'static>(
        kept: &Kept,
        path: &str,
        [outputs, inputs]: [usize; 2],
        layer: impl FnOnce([usize; 2]) -> L,
    ) -> Self {
        let channels = kept.channels(path, 0, outputs);
        let size = [channels.kept.len(), kept.count(path, 1, inputs)];
        let layer = (!size.contains(&0)).then(|| Arc::new(layer(size)) as Arc<dyn Layer>);
        Narrowed { layer, channels: Some(channels) }
    }
}

#[cfg(test)]
mod tests {
    use acclimate_tensor::{Device, Tensor};

    use super::*;
    use crate::layer::{Init, Pass};
    use crate::nn::{Conv2d, Linear, Sequential, TwoHeads};
    use crate::params::Params;

    #[test]
    fn a_value_loses_positions_of_each_axis() {
        let named = ("w".to_owned(), vec![2, 3, 2], (0..12u8).map(f32::from).collect());
        let kept = Kept::all().with("w", 1, vec![0, 2]).with("w", 0, vec![1]);
        assert_eq!(kept.select(&named).unwrap(), Some(("w".into(), vec![1, 2, 2], vec![6.0, 7.0, 10.0, 11.0])));
        assert_eq!(Kept::all().select(&named).unwrap(), Some(named.clone()));
        assert_eq!(Kept::all().with("w", 2, vec![]).select(&named).unwrap(), None);
        for (axis, positions) in [(1, vec![3]), (3, vec![0]), (0, vec![1, 0]), (0, vec![1, 1])] {
            assert!(Kept::all().with("w", axis, positions).select(&named).is_err());
        }
    }

    #[test]
    fn heads_are_narrowed_with_their_trunk() {
        let (main, side) = (Linear::new("main", 6, 3), Linear::new("side", 6, 4));
        let model = TwoHeads::new(Linear::new("trunk", 5, 6), main, side);
        let stay = || vec![1, 4];
        let kept = ["main.weight", "side.weight"].iter().fold(Kept::all(), |k, path| k.with(*path, 1, stay()));
        let kept = kept.with("trunk.weight", 0, stay()).with("trunk.bias", 0, stay());
        let narrow = model.narrowed(&kept, None).unwrap().layer.unwrap();
        let params = narrow.init(&Device::cpu(), 0).unwrap();
        assert_eq!(params.get("trunk.weight").unwrap().dims(), [2, 5]);
        assert_eq!(params.get("side.weight").unwrap().dims(), [4, 2]);
    }

    #[test]
    fn who_does_not_say_how_is_not_narrowed() {
        #[derive(Debug)]
        struct Own;
        impl Layer for Own {
            fn declare(&self, _: &mut Init) -> Result<()> {
                Ok(())
            }
            fn apply(&self, _: &Params, x: &Tensor, _: &mut Pass) -> Result<Tensor> {
                Ok(x.clone())
            }
        }
        let error = Sequential::new().then(Own).narrowed(&Kept::all(), None).unwrap_err();
        assert!(error.to_string().contains("`Layer::narrowed`, found Own"), "{error}");
        // Groups that share nothing cannot lose a channel each.
        let grouped = Conv2d::new("c", 4, 6, 1).grouped(2);
        assert!(grouped.narrowed(&Kept::all(), None).is_ok());
        assert!(grouped.narrowed(&Kept::all().with("c.weight", 0, vec![0]), None).is_err());
    }
}
