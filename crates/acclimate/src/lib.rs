//! Acclimate: train models, and go on optimizing them while they are in use, on any GPU or none.
//!
//! This crate only re-exports: [`tensor`] (devices, tensors, `grad`, `vmap`, `compile`), [`kernels`] (every op),
//! [`train`] (parameters, layers, optimizers, data) and [`infer`] (sessions that adapt to each input, with receipts).
//! [`prelude`] has what most programs need.
#![forbid(unsafe_code)]

pub use acclimate_infer as infer;
pub use acclimate_kernels as kernels;
pub use acclimate_tensor as tensor;
pub use acclimate_train as train;

/// What most programs need.
pub mod prelude {
    pub use acclimate_infer::adapt::{calibrate, frozen, memo_affine, statistics, stretch, tent, vote};
    pub use acclimate_infer::evaluate::{Evaluation, Labelled, evaluate};
    pub use acclimate_infer::receipt::{Action, Inputs, Receipt, replay};
    pub use acclimate_infer::{
        Adaptation, Answer, Answered, Guard, Moves, Objective, Prepare, Reset, Session, SourceStatistics, Window,
    };
    pub use acclimate_kernels::TensorOps;
    pub use acclimate_kernels::random::{self, Key};
    pub use acclimate_tensor::{DType, Device, Element, Shape, Tensor, Tree, compile, grad, vmap};
    pub use acclimate_train::data::{Batches, Images, Scaling, Table, Tail};
    pub use acclimate_train::fit::{Convergence, EarlyStop, Ended, Fit, Progress, Training};
    pub use acclimate_train::loss::Labels;
    pub use acclimate_train::nn::{self, Mlp, SmallCnn};
    pub use acclimate_train::optim::{self, Optimizer, Schedule, State, StepCx};
    pub use acclimate_train::shift::{self, Family, Severity, Shift};
    pub use acclimate_train::{Layer, Params, Pass, Statistics, checkpoint, data, fit, loss};
}
