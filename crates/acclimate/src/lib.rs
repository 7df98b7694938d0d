//! Acclimate: train models, and go on optimizing them while they are in use, on any GPU or none.
//!
//! This crate only re-exports: [`tensor`] (devices, tensors, `grad`, `vmap`, `compile`), [`kernels`] (every op),
//! [`train`] (parameters, layers, optimizers, data) and [`infer`] (sessions that adapt to each input, with receipts).
//! [`prelude`] has what most programs need.
//!
//! ```
//! use std::sync::Arc;
//!
//! use acclimate::prelude::*;
//!
//! let device = Device::cpu(); // Device::auto()? takes the best adapter
//! let model = Arc::new(SmallCnn::new("digits", [1, 16, 16], &[8, 16], 4)?);
//! let params = model.init(&device, 7)?;
//! let optimizer = optim::adam(1e-3);
//! let state = optimizer.init(&params)?;
//!
//! // A step records a graph. It is planned once and replayed; what is moved in is updated in place.
//! let (net, adam) = (model.clone(), optimizer.clone());
//! let step = compile(move |(params, state, x, y, rate): (Params, State, Tensor, Tensor, Tensor)| {
//!     let loss = loss::cross_entropy(&net.forward(&params, &x)?, &y)?;
//!     let grads = params.grad(&loss)?;
//!     Ok::<_, acclimate::train::Error>((adam.step(params, &grads, state, &StepCx::new(&rate))?, loss))
//! });
//! let images: Vec<f32> = (0..8 * 256).map(|i| (i % 97) as f32 / 96.0).collect();
//! let x = Tensor::from_slice(&device, &images, &[8, 1, 16, 16])?;
//! let y = Labels::new(&device, &[0, 1, 2, 3, 0, 1, 2, 3], 4)?;
//! let rate = optimizer.rate_tensor(&device, 0)?;
//! let ((params, _state), loss) = step.call((params, state, x, y.tensor().clone(), rate))?;
//! assert!(loss.item()?.is_finite());
//!
//! // Each image of a batch alone, with weights of its own, in one submission.
//! let mut session = Session::new(model, params, memo_affine(4, 5e-3))?.slots(8);
//! for answer in session.answer(&images, [1, 16, 16])? {
//!     println!("{}  {}", answer.label(), answer.receipt); // what moved, how far, did it help, or why not
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
