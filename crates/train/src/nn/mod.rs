//! Layers and networks.

mod activation;
mod attention;
mod conv;
mod dropout;
mod embedding;
mod linear;
mod masked;
mod mlp;
mod norm;
mod pool;
mod residual;
mod scale;
mod sequential;
mod small_cnn;
mod taught;
mod ttt;
mod two_heads;
pub mod zoo;

pub use activation::Activation;
pub use attention::MultiHeadAttention;
pub use conv::Conv2d;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use linear::Linear;
pub use masked::{Masked, Masks, mask_loss};
pub use mlp::Mlp;
pub use norm::{BatchNorm, GroupNorm, LayerNorm, Norm};
pub use pool::{AvgPool2d, Flatten, GlobalAvgPool2d, MaxPool2d, PixelShuffle};
pub use residual::{Residual, Shortcut};
pub use scale::Standardize;
pub use sequential::Sequential;
pub use small_cnn::SmallCnn;
pub use taught::Taught;
pub use ttt::{Form as TttForm, Inner as TttInner, Ttt};
pub use two_heads::{TwoHeads, quarter_turns, turn_loss};
