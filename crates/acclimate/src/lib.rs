//! Train models and go on optimizing them while they are in use, on any GPU and on the processor.
//!
//! This package gathers the others under one name: [`tensor`] (devices, lazy tensors, plans, engines), [`kernels`]
//! (ops), [`train`] (parameters, optimizers, data, the loop, checkpoints) and [`infer`] (adaptation at inference time,
//! receipts, reports). `use acclimate::prelude::*` brings in what most programs need.
#![forbid(unsafe_code)]

pub use acclimate_infer as infer;
pub use acclimate_kernels as kernels;
pub use acclimate_tensor as tensor;
pub use acclimate_train as train;

/// What most programs need.
pub mod prelude {
    pub use acclimate_kernels::TensorOps;
    pub use acclimate_tensor::{DType, Device, Tensor, Tree, compile, grad, vmap};
    pub use acclimate_train::data::{Batches, Images, Scaling, Table, Tail};
    pub use acclimate_train::fit::{Convergence, EarlyStop, Ended, Fit, Progress, Training};
    pub use acclimate_train::optim::{Optimizer, Schedule, State, StepCx};
    pub use acclimate_train::{Params, checkpoint, data, fit, optim, shift};
}
