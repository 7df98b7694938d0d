//! Labels from the host, checked.

use std::ops::Deref;

use acclimate_tensor::{Device, Result as TensorResult, Tensor, Tree};

use crate::data::DataError;
use crate::error::{Error, Result};

/// Class labels as a u32 tensor `[n]`, each below the number of classes.
#[derive(Clone, Debug)]
pub struct Labels {
    tensor: Tensor,
    n_classes: u32,
}

impl Labels {
    /// Checks each label and uploads them. Fails on an empty list and at the first label that names no class.
    ///
    /// ```
    /// use acclimate_tensor::Device;
    /// use acclimate_train::loss::Labels;
    ///
    /// assert!(Labels::new(&Device::cpu(), &[0, 9], 10).is_ok());
    /// let error = Labels::new(&Device::cpu(), &[0, 10], 10).unwrap_err();
    /// assert!(error.to_string().starts_with("labels: label of item 1: expected a class below 10, found 10"));
    /// ```
    pub fn new(device: &Device, labels: &[u32], n_classes: u32) -> Result<Self> {
        if labels.is_empty() {
            return Err(Error::argument("labels", "at least one", "an empty batch"));
        }
        if let Some(index) = labels.iter().position(|&label| label >= n_classes) {
            return Err(DataError::Label { path: "labels".into(), index, found: labels[index], n_classes }.into());
        }
        Ok(Labels { tensor: Tensor::from_slice(device, labels, &[labels.len()])?, n_classes })
    }

    /// How many classes there are.
    pub fn n_classes(&self) -> u32 {
        self.n_classes
    }

    /// The labels as a tensor, for what takes tensors only.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
}

impl Deref for Labels {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

impl Tree for Labels {
    type Form = u32;
    fn take_apart(self, leaves: &mut Vec<Tensor>) -> u32 {
        leaves.push(self.tensor);
        self.n_classes
    }
    fn put_together(form: &u32, leaves: &mut dyn Iterator<Item = Tensor>) -> TensorResult<Self> {
        Ok(Labels { tensor: Tensor::put_together(&(), leaves)?, n_classes: *form })
    }
}
