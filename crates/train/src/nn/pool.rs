//! Pooling, flattening and unfolding.

use acclimate_kernels::{Pool2d, TensorOps};
use acclimate_tensor::Tensor;

use crate::error::{Error, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::params::Params;

macro_rules! without_parameters {
    ($layer:ty, |$this:ident, $x:ident| $apply:expr, |$channels:ident| $out:expr) => {
        impl Layer for $layer {
            fn declare(&self, _: &mut Init) -> Result<()> {
                Ok(())
            }

            fn apply(&self, _: &Params, $x: &Tensor, _: &mut Pass) -> Result<Tensor> {
                let $this = self;
                $apply
            }

            fn narrowed(&self, _: &Kept, $channels: Option<Channels>) -> Result<Narrowed> {
                Narrowed::to(*self, $out)
            }
        }
    };
}

/// The largest value of each window: [n, c, h, w] → [n, c, h', w'].
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d(pub Pool2d);

/// The mean of each window: [n, c, h, w] → [n, c, h', w'].
#[derive(Clone, Copy, Debug)]
pub struct AvgPool2d(pub Pool2d);

/// The mean over the image: [n, c, h, w] → [n, c].
#[derive(Clone, Copy, Debug)]
pub struct GlobalAvgPool2d;

/// All axes but the first become one: [n, ..] → [n, m].
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

/// Each s² channels become one of s times the height and width: [n, c·s², h, w] → [n, c, h·s, w·s], channel c·s² + i·s + j
/// at row i and column j (Shi et al. 2016).
#[derive(Clone, Copy, Debug)]
pub struct PixelShuffle(pub usize);

without_parameters!(MaxPool2d, |this, x| Ok(x.max_pool2d(&this.0)?), |c| c);
without_parameters!(AvgPool2d, |this, x| Ok(x.avg_pool2d(&this.0)?), |c| c);
without_parameters!(GlobalAvgPool2d, |_this, x| Ok(x.global_avg_pool2d()?), |c| c);
without_parameters!(
    Flatten,
    |_this, x| {
        let Some((&n, rest)) = x.dims().split_first() else {
            return Err(Error::argument("flatten", "a leading axis", "a scalar"));
        };
        Ok(x.reshape(&[n, rest.iter().product()])?)
    },
    // What comes out is no channels any more, but their pixels.
    |_c| None
);
without_parameters!(
    PixelShuffle,
    |this, x| {
        let s = this.0;
        match x.dims() {
            &[n, c, h, w] if s > 0 && c.is_multiple_of(s * s) => {
                let apart = x.reshape(&[n, c / (s * s), s, s, h, w])?.permute(&[0, 1, 4, 2, 5, 3])?;
                Ok(apart.reshape(&[n, c / (s * s), h * s, w * s])?)
            }
            _ => {
                let expected = format!("[n, c, h, w] with c a multiple of the square of {s}, at least 1");
                Err(Error::argument("pixel shuffle", expected, x.shape()))
            }
        }
    },
    |_c| None
);
