//! Test-time template adjustment (Iwasawa and Matsuo 2021, T3A): the classifier's rows are replaced by the mean direction
//! of the surest inputs seen of each class. No gradient; the answers are scores without a temperature.

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::Tensor;
use acclimate_train::layer::join;
use acclimate_train::{Layer, Params, Pass, loss};
use serde::Serialize;

use super::state::Carried;
use crate::error::Error;

/// What T3A is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Prototypes {
    /// How many of the surest supports of each class are kept.
    pub keep: usize,
}

/// Features of the supports by class, f32 [c, keep, d], and their entropies, f32 [c, keep]; infinite where there is none.
pub(super) const SUPPORTS: [&str; 2] = ["supports", "support_entropy"];
/// Stands for the entropy of a place that no support fills.
const EMPTY: f32 = f32::MAX;

impl Prototypes {
    /// No supports: for classes, and features of some width.
    pub(super) fn empty(&self, like: &Tensor, classes: usize, width: usize) -> Result<[Tensor; 2], Error> {
        Ok([
            Tensor::zeros(like.device(), &[classes, self.keep, width])?,
            Tensor::full(like.device(), &[classes, self.keep], EMPTY)?,
        ])
    }

    /// The supports with some rows added, each to the class that its logits name, and the surest kept.
    pub(super) fn add(&self, old: [&Tensor; 2], features: &Tensor, logits: &Tensor) -> Result<[Tensor; 2], Error> {
        let ([n, c], m) = ([logits.dims()[0], logits.dims()[1]], self.keep);
        let (device, d) = (logits.device(), features.dims()[1]);
        let class = logits.argmax(1)?.reshape(&[1, n])?;
        let own = Tensor::iota(device, &[c, n], 0)?.eq(&class)?;
        let h = loss::entropy(logits)?.reshape(&[1, n])?.expand(&[c, n])?;
        let new = own.select(&h, &h.full_like(EMPTY)?)?;
        let (entropies, order) = concat(&[old[1], &new], 1)?.topk(m, false)?; // [c, m], indices into m + n
        // Rows of one table: the old supports of every class, then the new rows.
        let table = concat(&[&old[0].reshape(&[c * m, d])?, features], 0)?;
        let to_u32 = |x: usize| u32::try_from(x).map_err(|_| Error::size("supports", "fewer than 2^32", x));
        let split = Tensor::full_u32(device, &[c, m], to_u32(m)?)?;
        let of_class = Tensor::iota(device, &[c, m], 0)?;
        let own_row = of_class.mul(&split)?.add(&order)?;
        let new_row = order.sub(&split)?.add(&Tensor::full_u32(device, &[c, m], to_u32(c * m)?)?)?;
        let index = order.lt(&split)?.select(&own_row, &new_row)?;
        let supports = table.take(&index.reshape(&[c * m])?)?.reshape(&[c, m, d])?;
        Ok([supports, entropies])
    }

    /// Scores of rows by the supports: features · (Σ of unit supports of each class, of length 1): [n, d] → [n, c].
    pub fn score(&self, supports: [&Tensor; 2], features: &Tensor) -> Result<Tensor, Error> {
        let there = supports[1].lt(&supports[1].full_like(EMPTY)?)?.unsqueeze(2)?;
        let unit = unit(supports[0], 2)?;
        let sum = there.broadcast_to(unit.shape())?.select(&unit, &unit.zeros_like()?)?.sum(&[1])?;
        Ok(features.matmul_nt(&self::unit(&sum, 1)?)?)
    }

    /// The state with the batch's rows among the supports, and their scores by them.
    pub(super) fn answer(
        &self,
        state: Carried,
        features: &Tensor,
        logits: &Tensor,
    ) -> Result<(Carried, Tensor), Error> {
        let old = [state.memory(SUPPORTS[0])?, state.memory(SUPPORTS[1])?];
        let [supports, entropies] = self.add(old, features, logits)?;
        let scores = self.score([&supports, &entropies], features)?;
        Ok((state.remember(SUPPORTS[0], supports).remember(SUPPORTS[1], entropies), scores))
    }
}

/// Divided by its length along an axis; zeros stay zeros.
fn unit(x: &Tensor, axis: isize) -> Result<Tensor, Error> {
    let length = x.square()?.sum_keep(&[axis])?.sqrt()?;
    Ok(x.div(&length.maximum(&length.full_like(1e-12)?)?)?)
}

impl Prototypes {
    /// The supports before the first input, and their entropies: the rows of the classifier (the last linear layer), each
    /// under the class that the classifier itself gives it. `dims`: of an image.
    pub fn initial(&self, model: &dyn Layer, params: &Params, [c, h, w]: [usize; 3]) -> Result<[Tensor; 2], Error> {
        let mut pass = Pass::infer();
        // Recorded for its paths and shapes; nothing runs.
        model.apply(params, &Tensor::zeros(params.device(), &[1, c, h, w])?, &mut pass)?;
        let (path, _) = pass.take_features().ok_or(Error::Empty { what: "the linear layers of this model" })?;
        let weight = params.get(&join(&path, "weight"))?;
        let logits = weight.matmul_nt(&weight)?;
        let logits = match params.get(&join(&path, "bias")) {
            Ok(bias) => logits.add(&bias)?,
            Err(_) => logits,
        };
        let [classes, width] = [weight.dims()[0], weight.dims()[1]];
        let empty = self.empty(&weight, classes, width)?;
        self.add([&empty[0], &empty[1]], &weight, &logits)
    }
}
