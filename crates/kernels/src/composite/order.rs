//! The best of the last axis, running sums along any axis, and slices picked by a list.

use acclimate_tensor::{Error, Result, Tensor, record_one};

use crate::composite::softmax::along_last;
use crate::ops::cumsum::Cumsum;
use crate::ops::sort::sort;
use crate::ops::take::take;

/// Running sum along an axis.
#[track_caller]
pub fn cumsum(x: &Tensor, axis: isize) -> Result<Tensor> {
    x.shape().axis("cumsum", axis)?;
    along_last(x, axis, |x| record_one(Cumsum { reverse: false }, &[x]))
}

/// The `k` largest (or smallest) of the last axis, best first, and their indices.
#[track_caller]
pub fn topk(x: &Tensor, k: usize, largest: bool) -> Result<(Tensor, Tensor)> {
    let n = x.dims().last().copied().unwrap_or(0);
    if k > n {
        return Err(Error::argument("topk", "k", format!("at most the last axis's size, {n}"), k));
    }
    let (values, index) = sort(x, largest)?;
    Ok((values.narrow(-1, 0, k)?, index.narrow(-1, 0, k)?))
}

/// What stands at the positions `index` `[m]` along an axis.
#[track_caller]
pub fn index_select(x: &Tensor, axis: isize, index: &Tensor) -> Result<Tensor> {
    let at = x.shape().axis("index_select", axis)?;
    index.spec().require_rank("index_select", 1, "[m]")?;
    let mut front: Vec<usize> = (0..x.rank()).collect();
    front.remove(at);
    front.insert(0, at);
    let mut back: Vec<usize> = (1..x.rank()).collect();
    back.insert(at, 0);
    take(&x.permute(&front)?, index)?.permute(&back)
}
