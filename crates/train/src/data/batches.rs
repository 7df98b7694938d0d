//! Which items go into which batch: a new order each epoch, the same on every platform.

use super::{DataError, rng::Philox};

/// What happens to the items at the end that do not fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// They make a last, smaller batch.
    Keep,
    /// They are left out in this epoch; batch normalization and compiled steps like batches of one size.
    Drop,
}

/// Shuffled batches of positions `0..n_items`; the order is a function of seed and epoch only.
///
/// ```
/// # use acclimate_train::data::{Batches, DataError, Tail};
/// # fn main() -> Result<(), DataError> {
/// let batches = Batches::new(10, 4, 7, Tail::Keep)?;
/// let sizes: Vec<usize> = batches.epoch(0).map(|batch| batch.len()).collect();
/// assert_eq!(sizes, [4, 4, 2]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    n_items: usize,
    batch_size: usize,
    seed: u64,
    tail: Tail,
}

impl Batches {
    /// Batches of `batch_size` out of `n_items`.
    ///
    /// # Errors
    /// [`DataError::Argument`] if there is no item, the batch size is 0, or nothing is left after dropping the tail.
    pub fn new(n_items: usize, batch_size: usize, seed: u64, tail: Tail) -> Result<Self, DataError> {
        if n_items == 0 {
            return Err(DataError::argument("batches", "at least one item", "none", "check the data set"));
        }
        if batch_size == 0 {
            return Err(DataError::argument("batch size", "at least 1", "0", "choose a size such as 64"));
        }
        let batches = Self { n_items, batch_size, seed, tail };
        if batches.per_epoch() == 0 {
            return Err(DataError::argument(
                "batch size",
                format!("at most {n_items}, the number of items"),
                batch_size,
                "choose smaller batches or keep the tail",
            ));
        }
        Ok(batches)
    }

    /// How many batches an epoch has.
    pub fn per_epoch(&self) -> usize {
        match self.tail {
            Tail::Keep => self.n_items.div_ceil(self.batch_size),
            Tail::Drop => self.n_items / self.batch_size,
        }
    }

    /// The batches of epoch `epoch`, each a list of positions.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        let mut order: Vec<usize> = (0..self.n_items).collect();
        Philox::from_seed(self.seed).fold_name("batches").stream(epoch).shuffle(&mut order);
        order.truncate(self.per_epoch().saturating_mul(self.batch_size));
        Epoch { order, batch_size: self.batch_size, n_given: 0 }
    }
}

/// The batches of one epoch. See [`Batches::epoch`].
#[derive(Clone, Debug)]
pub struct Epoch {
    order: Vec<usize>,
    batch_size: usize,
    n_given: usize,
}

impl Iterator for Epoch {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let batch = self.order.chunks(self.batch_size).nth(self.n_given)?;
        self.n_given += 1;
        Some(batch.to_vec())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.order.len().div_ceil(self.batch_size) - self.n_given;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch {}

/// Positions `0..n_items` in an order that depends on the seed only, cut in two: the first part has
/// `round(fraction · n_items)` positions. Both parts are sorted, so that file order survives.
pub(super) fn split_positions(n_items: usize, fraction: f64, seed: u64) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(DataError::argument("split", "a fraction between 0 and 1", fraction, "0.8 keeps four fifths"));
    }
    let mut order: Vec<usize> = (0..n_items).collect();
    Philox::from_seed(seed).fold_name("split").stream(0).shuffle(&mut order);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a fraction of a length, rounded to a whole number"
    )]
    let n_first = ((fraction * n_items as f64).round() as usize).min(n_items);
    let mut second = order.split_off(n_first);
    order.sort_unstable();
    second.sort_unstable();
    Ok((order, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_item_once() {
        let batches = Batches::new(103, 10, 1, Tail::Keep).unwrap();
        let epoch = batches.epoch(0);
        assert_eq!(epoch.len(), 11);
        let mut all: Vec<usize> = epoch.flatten().collect();
        assert_ne!(all, (0..103).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn dropping_the_tail_keeps_full_batches_only() {
        let epoch = Batches::new(103, 10, 1, Tail::Drop).unwrap().epoch(3);
        assert_eq!(epoch.len(), 10);
        assert!(epoch.into_iter().all(|batch| batch.len() == 10));
    }

    #[test]
    fn the_order_follows_seed_and_epoch() {
        let first = |seed, epoch| Batches::new(1000, 32, seed, Tail::Keep).unwrap().epoch(epoch).next();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
    }

    #[test]
    fn impossible_batches_are_refused() {
        for (n_items, batch_size, tail) in [(0, 4, Tail::Keep), (4, 0, Tail::Keep), (3, 4, Tail::Drop)] {
            let result = Batches::new(n_items, batch_size, 0, tail);
            assert!(matches!(result, Err(DataError::Argument { .. })), "{n_items} in {batch_size}");
        }
        assert_eq!(Batches::new(3, usize::MAX, 0, Tail::Keep).unwrap().epoch(0).next().unwrap().len(), 3);
    }

    #[test]
    fn a_split_is_a_partition() {
        let (first, second) = split_positions(932, 0.8, 42).unwrap();
        assert_eq!((first.len(), second.len()), (746, 186));
        let mut all = [first, second].concat();
        all.sort_unstable();
        assert_eq!(all, (0..932).collect::<Vec<_>>());
        for fraction in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(split_positions(10, fraction, 0).is_err());
        }
    }
}
