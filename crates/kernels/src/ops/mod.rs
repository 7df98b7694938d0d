//! The ops, a file each: formula, shape rule, reference, CPU kernel, launch, gradient, batching rule, cases. The step
//! rules of optimizers have a folder of their own, [`crate::step`].

use crate::registry::Entry;
#[cfg(feature = "testkit")]
use crate::step::{adagrad, adam, lion, rmsprop, sgd};

// Outside the macro, so that rustfmt finds the files; a test compares the folder with the list.
pub mod attention;
pub mod attention_grad;
pub mod avg_pool2d;
pub mod compact;
pub mod conv2d;
pub mod cumsum;
pub mod gather;
pub mod log_softmax;
pub mod log_softmax_grad;
pub mod matmul;
pub mod max_pool2d;
pub mod poisson;
pub mod scatter_add;
pub mod softmax;
pub mod softmax_grad;
pub mod sort;
pub mod take;
pub mod take_grad;

macro_rules! ops {
    ($($name:ident),* $(,)?) => {
        /// Every op.
        pub const ALL: &[Entry] = &[$(
            Entry {
                name: stringify!($name),
                #[cfg(feature = "testkit")]
                cases: $name::cases,
                #[cfg(feature = "testkit")]
                rejects: $name::rejects,
            }
        ),*];
    };
}

ops! {
    attention,
    attention_grad,
    avg_pool2d,
    compact,
    conv2d,
    cumsum,
    gather,
    log_softmax,
    log_softmax_grad,
    matmul,
    max_pool2d,
    poisson,
    scatter_add,
    softmax,
    softmax_grad,
    sort,
    take,
    take_grad,
    adagrad,
    adam,
    lion,
    rmsprop,
    sgd,
}
