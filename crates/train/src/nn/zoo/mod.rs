//! Known networks, with the parameter names of their published weights.

mod cifar_resnet;
mod efficientnet_lite;
mod known;

pub use cifar_resnet::{CifarResNet, IMAGENET_DEVIATION, IMAGENET_MEAN};
pub use efficientnet_lite::EfficientNetLite0;
pub use known::Network;
