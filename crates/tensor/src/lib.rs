//! Where data lives and how work runs: devices, lazy tensors, the graph and its transforms, plans, engines.

pub mod core_op;
pub mod device;
pub mod dtype;
pub mod engine;
pub mod error;
mod eval;
pub mod expr;
mod methods;
pub mod op;
pub mod oracle;
pub mod plan;
pub mod profile;
pub mod reading;
pub mod real;
pub mod shape;
pub mod tensor;
pub mod transform;

pub use device::{Autotune, Caps, Device, DeviceInfo, DeviceOptions, EngineKind, Passes, Stats};
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use half::f16;
pub use op::{Kernel, Op, record, record_one};
pub use plan::usage::PlanMemory;
pub use profile::{Peaks, Profile};
pub use reading::Reading;
pub use real::Real;
pub use shape::{Shape, Spec};
pub use tensor::Tensor;
pub use transform::compile::{Compiled, compile};
pub use transform::grad::{grad, grad_with};
pub use transform::tree::Tree;
pub use transform::vmap::vmap;
