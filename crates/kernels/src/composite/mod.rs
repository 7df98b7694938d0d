//! Functions that are only calls to other ops: no shader, no rules of their own.

mod activation;
mod order;
mod place;
mod softmax;
mod statistics;

pub use activation::{clamp, gelu, gelu_tanh, relu6, silu, softplus};
pub use order::{cumsum, index_select, topk};
pub use place::{concat, stack};
pub use softmax::{log_softmax, logsumexp, softmax};
pub use statistics::{argmax, argmin, mean, mean_keep, var, var_keep};
