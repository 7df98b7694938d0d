//! Looks at the rows of a window: forward passes under an overlay, and whose running statistics they use and move.

use acclimate_tensor::Tensor;
use acclimate_train::layer::Product;
use acclimate_train::{Params, Pass, Statistics};

use super::driver::Driver;
use super::state::Carried;
use super::{Form, Moves};
use crate::error::Error;
use crate::sensor;

/// Before the path of a running statistic among what is remembered.
pub(super) const BUFFER: &str = "buffer/";
/// The same of the teacher's.
pub(super) const TEACHER_BUFFER: &str = "teacher_buffer/";

/// The state with the running statistics that a look recorded, under a prefix.
pub(super) fn keep_running(state: Carried, seen: &Seen, prefix: &str) -> Carried {
    seen.running.iter().fold(state, |state, (path, t)| state.remember(&format!("{prefix}{path}"), t.clone()))
}

/// A forward pass over the rows of a window.
pub(super) struct Seen {
    pub logits: Tensor,
    /// Score of each row under the source statistics, if they are needed.
    pub score: Option<Tensor>,
    /// What the last linear layer saw.
    pub features: Option<Tensor>,
    /// New running statistics.
    pub running: Vec<(String, Tensor)>,
    /// Products with weights, where steps are kept as pairs.
    pub products: Vec<Product>,
}

/// Which look at a window a forward pass is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The first, which moves running statistics.
    First,
    /// Another.
    Again,
    /// The teacher's first, which moves running statistics of its own.
    TeacherFirst,
    /// Another of the teacher's.
    Teacher,
    /// Another, of the side head.
    SideHead,
}

impl Driver {
    /// A forward pass under parameters.
    pub(super) fn forward(&self, params: &Params, rows: &Tensor, statistics: Statistics) -> Result<Seen, Error> {
        let mut pass = Pass::infer().with_statistics(statistics);
        let score = self.source.as_ref().filter(|_| self.method.needs_source_statistics());
        if score.is_some() {
            pass = pass.with_taps();
        }
        if self.method.form != Form::Delta {
            pass = pass.with_products();
        }
        let logits = self.model.apply(params, rows, &mut pass)?;
        let score = score.map(|s| s.score(&pass.take_taps())).transpose()?;
        let features = pass.take_features().map(|(_, x)| x);
        let (running, products) = (pass.take_updates(), pass.take_products());
        Ok(Seen { logits, score, features, running, products })
    }

    /// What the side head says.
    fn forward_side(&self, params: &Params, rows: &Tensor, statistics: Statistics) -> Result<Seen, Error> {
        let mut pass = Pass::infer().with_statistics(statistics).with_side_head();
        if self.method.form != Form::Delta {
            pass = pass.with_products();
        }
        let logits = self.model.apply(params, rows, &mut pass)?;
        if !pass.had_side_head() {
            return Err(Error::Method {
                method: self.method.name().to_owned(),
                what: "a model without a side head".into(),
                expected: "`train::nn::TwoHeads`, trained jointly with `turn_loss`".into(),
            });
        }
        Ok(Seen { logits, score: None, features: None, running: Vec::new(), products: pass.take_products() })
    }

    /// The forward pass under an overlay. Running statistics move at the first look at a window alone; later ones use them
    /// as they are.
    pub(super) fn look(&self, state: &Carried, delta: &Tensor, rows: &Tensor, how: Look) -> Result<Seen, Error> {
        let running = matches!(self.method.statistics, Statistics::Ema(_) | Statistics::Robust(_));
        let moves = matches!(how, Look::First | Look::TeacherFirst);
        let statistics = if running && !moves { Statistics::Source } else { self.method.statistics };
        let mut params = self.params.clone();
        if running {
            let prefix = if matches!(how, Look::Teacher | Look::TeacherFirst) { TEACHER_BUFFER } else { BUFFER };
            let buffers = state.memories().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?, t)));
            params = params.with_overrides(buffers.map(|(path, t)| (path.to_owned(), t.clone())))?;
        }
        match self.method.moves {
            Moves::Nothing => self.forward(&params, rows, statistics),
            Moves::Sensor => {
                let dims = rows.dims().to_vec();
                // The rows of a window are views of one image and share its correction.
                let mut corrected = Vec::with_capacity(dims[0]);
                for i in 0..dims[0] {
                    corrected.push(sensor::correct(&rows.narrow(0, i, 1)?.squeeze(0)?, delta)?);
                }
                let rows = acclimate_kernels::stack(&corrected.iter().collect::<Vec<_>>(), 0)?;
                self.forward(&params, &rows, statistics)
            }
            _ => {
                let params = match state.pairs() {
                    Some(pairs) => pairs.params.clone(),
                    None => self.overlay.applied(&params, delta)?,
                };
                match how {
                    Look::SideHead => self.forward_side(&params, rows, statistics),
                    _ => self.forward(&params, rows, statistics),
                }
            }
        }
    }

    /// The state with the running statistics that a look recorded.
    pub(super) fn with_running(&self, state: Carried, seen: &Seen) -> Carried {
        keep_running(state, seen, BUFFER)
    }
}
