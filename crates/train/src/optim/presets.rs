//! Optimizers by name, with PyTorch's defaults. The rate decides results, so it has none.

use acclimate_kernels::step::{AdagradConfig, AdamConfig, LionConfig, RmsPropConfig, SgdConfig};

use super::optimizer::Optimizer;
use super::schedule::Schedule;

/// Gradient descent; with [`Optimizer::momentum`] and [`Optimizer::nesterov`] what these say.
pub fn sgd(rate: impl Into<Schedule>) -> Optimizer {
    Optimizer::new(SgdConfig::default(), rate)
}

/// Adam (Kingma & Ba 2015): betas 0.9 and 0.999, eps 1e-8.
pub fn adam(rate: impl Into<Schedule>) -> Optimizer {
    Optimizer::new(AdamConfig::default(), rate)
}

/// Adam with decoupled decay (Loshchilov & Hutter 2019) of 0.01.
pub fn adamw(rate: impl Into<Schedule>) -> Optimizer {
    Optimizer::new(AdamConfig { decoupled: true, weight_decay: 0.01, ..AdamConfig::default() }, rate)
}

/// Adam whose second moment never falls (Reddi, Kale & Kumar 2018).
pub fn amsgrad(rate: impl Into<Schedule>) -> Optimizer {
    Optimizer::new(AdamConfig { amsgrad: true, ..AdamConfig::default() }, rate)
}

/// RMSprop (Hinton 2012): alpha 0.99, eps 1e-8.
pub fn rmsprop(rate: impl Into<Schedule>) -> Optimizer {
    Optimizer::new(RmsPropConfig::default(), rate)
}

/// Adagrad (Duchi, Hazan & Singer 2011): eps 1e-10.
pub fn adagrad(rate: impl Into<Schedule>) -> Optimizer {
    Optimizer::new(AdagradConfig::default(), rate)
}

/// Lion (Chen et al. 2023): betas 0.9 and 0.99, no decay. Its rate is a third to a tenth of Adam's.
pub fn lion(rate: impl Into<Schedule>) -> Optimizer {
    Optimizer::new(LionConfig::default(), rate)
}
