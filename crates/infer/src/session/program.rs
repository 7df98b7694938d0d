//! The rungs of a session, each a driver with a compiled step.

use std::sync::Arc;

use acclimate_kernels::random::Key;
use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{Compiled, Tensor, compile};
use acclimate_train::{Layer, Params};

use crate::adapt::driver::Driver;
use crate::adapt::{Adaptation, Carried, Form, Window};
use crate::budget::{Work, ladder};
use crate::error::Error;
use crate::source::SourceStatistics;

type PerInput = Compiled<(Tensor, Tensor), Tensor, Error>;
type PerBatch = Compiled<(Tensor, Tensor, Carried), (Tensor, Carried), Error>;

pub(super) enum Program {
    /// Each input with its own overlay, by `vmap`.
    Slots(PerInput),
    /// One overlay for the batch, carried on.
    Batch(PerBatch),
}

/// One rung of the budget's ladder.
pub(super) struct Rung {
    pub name: String,
    pub driver: Arc<Driver>,
    pub program: Arc<Program>,
    pub base_norms: Vec<f32>,
    /// Whether the frozen model answers, and the adapted answer is a proposal.
    pub shadow: bool,
}

impl Rung {
    pub fn work(&self, level: usize, inputs: usize) -> Work {
        let method = &self.driver.method;
        let views = if let Window::Views(views) = method.window { views.count } else { 1 };
        Work { level, steps: method.steps, views, inputs }
    }
}

/// All rungs over one model; rung 0 is the method, and behind the frozen one stands the method's shadow, which no budget
/// takes. Shared by the sessions that fork from one.
pub(super) struct Ladder {
    pub rungs: Vec<Rung>,
}

impl Ladder {
    pub fn new(
        model: &Arc<dyn Layer>,
        params: &Params,
        method: &Adaptation,
        source: &Option<SourceStatistics>,
    ) -> Result<Self, Error> {
        let rung = |(name, method): (String, Adaptation)| {
            let overlay = method.moves.overlay(params, method.name())?;
            let overlay = if method.form == Form::Delta { overlay } else { overlay.without_delta() };
            let base_norms = overlay.base_norms(params)?;
            let (model, params, source) = (model.clone(), params.clone(), source.clone());
            let driver = Arc::new(Driver { model, params, method, overlay, source });
            Ok(Rung { name, program: program(&driver).into(), driver, base_norms, shadow: false })
        };
        let mut rungs: Vec<Rung> = ladder::rungs(method).into_iter().map(rung).collect::<Result<_, Error>>()?;
        let full = &rungs[0];
        let (driver, program) = (full.driver.clone(), full.program.clone());
        rungs.push(Rung { name: "shadow".into(), driver, program, base_norms: full.base_norms.clone(), shadow: true });
        Ok(Ladder { rungs })
    }

    /// The rung of the method itself.
    pub fn full(&self) -> &Rung {
        // The ladder of every method has at least the method.
        &self.rungs[0]
    }

    /// The rung that moves nothing.
    pub fn frozen(&self) -> usize {
        self.rungs.len() - 2
    }

    /// The rung that adapts and answers with the frozen model.
    pub fn shadow(&self) -> usize {
        self.rungs.len() - 1
    }
}

fn program(driver: &Arc<Driver>) -> Program {
    let d = driver.clone();
    if driver.method.is_per_input() {
        Program::Slots(compile(move |(x, keys): (Tensor, Tensor)| {
            vmap_with(
                |(x, key): (Tensor, Tensor)| {
                    let image: [usize; 3] =
                        x.dims().try_into().map_err(|_| Error::size("an image", "[c, h, w]", x.shape()))?;
                    Ok::<_, Error>(d.adapt(&x, &Key::from_tensor(key)?, d.fresh(image)?)?.report)
                },
                (x, keys),
            )
        }))
    } else {
        Program::Batch(compile(move |(x, key, carried): (Tensor, Tensor, Carried)| {
            let o = d.adapt(&x, &Key::from_tensor(key)?, carried)?;
            Ok::<_, Error>((o.report, o.state))
        }))
    }
}
