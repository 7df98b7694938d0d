//! Known networks, with PyTorch's parameter names.

mod cifar_resnet;

pub use cifar_resnet::{CifarResNet, IMAGENET_DEVIATION, IMAGENET_MEAN};
