//! A trunk with two heads: one for the task, one that learns without labels (Sun et al. 2020).

use std::sync::Arc;

use acclimate_kernels::concat;
use acclimate_tensor::{Error as TensorError, Tensor};

use crate::error::{Error, Result};
use crate::layer::{Channels, Init, Kept, Layer, Narrowed, Pass};
use crate::loss::{Labels, cross_entropy_rows, mean};
use crate::params::Params;

/// main(trunk(x)), or side(trunk(x)) in a pass that asks for the side head ([`Pass::with_side_head`]).
#[derive(Clone, Debug)]
pub struct TwoHeads {
    trunk: Arc<dyn Layer>,
    main: Arc<dyn Layer>,
    side: Arc<dyn Layer>,
}

impl TwoHeads {
    /// Of three layers with paths of their own.
    pub fn new(trunk: impl Layer + 'static, main: impl Layer + 'static, side: impl Layer + 'static) -> Self {
        TwoHeads { trunk: Arc::new(trunk), main: Arc::new(main), side: Arc::new(side) }
    }
}

impl Layer for TwoHeads {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.trunk.declare(init)?;
        self.main.declare(init)?;
        self.side.declare(init)
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let shared = self.trunk.apply(params, x, pass)?;
        if pass.enter_side_head() {
            return self.side.apply(params, &shared, pass);
        }
        self.main.apply(params, &shared, pass)
    }

    fn narrowed(&self, kept: &Kept, x: Option<Channels>) -> Result<Narrowed> {
        let trunk = self.trunk.narrowed(kept, x)?;
        let head = |head: &Arc<dyn Layer>| head.narrowed(kept, trunk.channels.clone());
        let (main, side) = (head(&self.main)?, head(&self.side)?);
        let (Some(trunk), Some(main_layer), Some(side)) = (trunk.layer, main.layer, side.layer) else {
            return Err(Error::argument("two heads to narrow", "a trunk and heads with channels left", "none left"));
        };
        Narrowed::to(TwoHeads { trunk, main: main_layer, side }, main.channels)
    }
}

/// Each image turned by 0, 90, 180 and 270 degrees: [n, c, s, s] → [4n, c, s, s], all images of one turn together.
/// Fails unless images are square.
pub fn quarter_turns(x: &Tensor) -> Result<Tensor> {
    let &[_, _, h, w] = x.dims() else {
        return Err(TensorError::shape("quarter_turns", "images [n, c, s, s]", format!("shape {}", x.shape())).into());
    };
    if h != w {
        return Err(TensorError::shape("quarter_turns", "square images", format!("{h} × {w}")).into());
    }
    let once = x.transpose(2, 3)?.flip(2)?;
    let twice = x.flip(2)?.flip(3)?;
    let thrice = x.transpose(2, 3)?.flip(3)?;
    Ok(concat(&[x, &once, &twice, &thrice], 0)?)
}

/// Mean cross-entropy of the side head's guess by how much each image was turned: logits [4n, 4] for the rows of
/// [`quarter_turns`] → scalar. Added to the task's loss, it trains both heads jointly.
pub fn turn_loss(logits: &Tensor) -> Result<Tensor> {
    let &[rows, 4] = logits.dims() else {
        let found = format!("shape {}", logits.shape());
        return Err(TensorError::shape("turn_loss", "logits [4n, 4] of a side head of four outputs", found).into());
    };
    if rows == 0 || !rows.is_multiple_of(4) {
        return Err(
            TensorError::shape("turn_loss", "four rows for each of at least one image", format!("{rows}")).into()
        );
    }
    let turns: Vec<u32> = (0..4).flat_map(|turn| std::iter::repeat_n(turn, rows / 4)).collect();
    let turns = Labels::new(logits.device(), &turns, 4)?;
    mean(&cross_entropy_rows(logits, &turns, 0.0)?)
}
