//! A teacher's answers, asked for once.

use std::sync::Arc;

use acclimate_tensor::{Tensor, compile};
use acclimate_train::{Layer, Params};

use crate::error::Error;

/// The teacher's logits for inputs of `dims`, in order, computed in batches of `batch`: for students that meet the same
/// inputs many times, or for several students of one teacher. `shown` is told how many inputs are done.
///
/// # Errors
/// If the inputs are not of these sizes, and whatever the network fails with.
pub fn record(
    teacher: &Arc<dyn Layer>,
    params: &Params,
    inputs: &[f32],
    dims: &[usize],
    batch: usize,
    mut shown: impl FnMut(usize),
) -> Result<Vec<f32>, Error> {
    let size: usize = dims.iter().product();
    if size == 0 || inputs.is_empty() || !inputs.len().is_multiple_of(size) {
        return Err(Error::size("a teacher's inputs", format!("one or more of {dims:?}"), inputs.len()));
    }
    let model = teacher.clone();
    let forward = compile(move |(params, x): (Params, Tensor)| Ok::<_, Error>(model.forward(&params, &x)?));
    let (mut logits, mut done) = (Vec::new(), 0);
    for part in inputs.chunks(size * batch.max(1)) {
        let shape: Vec<usize> = std::iter::once(part.len() / size).chain(dims.iter().copied()).collect();
        done += shape[0];
        let x = Tensor::from_slice(params.device(), part, &shape)?;
        logits.extend(forward.call((params.clone(), x))?.to_vec::<f32>()?);
        shown(done);
    }
    Ok(logits)
}
