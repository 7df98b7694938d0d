//! A case: inputs, what is computed of them, and how exact the answer has to be.

use std::fmt;
use std::sync::Arc;

use acclimate_tensor::{Device, EngineKind, Result, Tensor};

use super::values::Input;

type Build = Arc<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync>;

/// How often a case may be differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Not at all.
    None,
    /// Once, by a rule that rounds to halves: a staircase has no differences to compare with.
    Rounded,
    /// Once.
    First,
    /// Its gradient too.
    Second,
}

/// What an error is measured against, element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// |y|, for functions of one element.
    Output,
    /// The largest |y| of the output.
    Largest,
    /// The case on the absolute values of its inputs: the sum of the absolute terms, for functions linear in each input.
    Magnitude,
    /// A number.
    Fixed(f64),
}

/// |got − oracle| ≤ k · 2⁻²⁴ · depth · scale + tiny. The comment beside its use says where k and depth come from.
///
/// `tiny` is the smallest normal number: denormals may be flushed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Unit roundoffs of one step.
    pub k: f64,
    /// Longest chain of roundings.
    pub depth: f64,
    /// What errors are relative to.
    pub scale: Scale,
}

impl Tolerance {
    /// The same values: for what only moves or chooses.
    pub const EXACT: Tolerance = Tolerance { k: 0.0, depth: 0.0, scale: Scale::Output };

    /// A sum of `n` terms, each a product: every term is rounded at most n + 1 times on its way, whatever the order
    /// (Higham 2002, section 3.1).
    pub fn sum(n: usize) -> Self {
        Tolerance { k: 1.0, depth: n as f64 + 1.0, scale: Scale::Magnitude }
    }

    /// `ulps` units in the last place of the output.
    pub fn ulps(ulps: f64) -> Self {
        // One ulp is up to two unit roundoffs.
        Tolerance { k: 2.0 * ulps, depth: 1.0, scale: Scale::Output }
    }

    /// For the gradient of what has this tolerance, `outputs` elements of it, by an input of at least `inputs`.
    ///
    /// A function that is linear in each input has a gradient that is one too, with up to one term for each output. Of
    /// any other a rule is a chain of a few functions (16 will do) as exact as itself, and what was broadcast is summed.
    #[must_use]
    pub fn of_gradient(self, outputs: usize, inputs: usize) -> Self {
        let (outputs, inputs) = (outputs as f64, inputs.max(1) as f64);
        match self.scale {
            Scale::Magnitude => Tolerance { depth: self.depth + outputs + 1.0, ..self },
            _ => Tolerance {
                k: self.k.max(2.0),
                depth: 16.0 * self.depth.max(1.0) + outputs / inputs,
                scale: Scale::Largest,
            },
        }
    }

    /// Whether errors are measured against the case on absolute values.
    pub(super) fn is_of_magnitudes(self) -> bool {
        self.scale == Scale::Magnitude
    }

    /// Measured against another scale.
    #[must_use]
    pub fn scale(self, scale: Scale) -> Self {
        Tolerance { scale, ..self }
    }
}

/// A case of an op.
#[derive(Clone)]
pub struct Case {
    /// What tells it from the op's other cases.
    pub name: String,
    /// Inputs.
    pub inputs: Vec<Input>,
    /// What is computed.
    pub build: Build,
    /// How exact it has to be.
    pub tolerance: Tolerance,
    /// How exact on a GPU, where that is another bound (WGSL's accuracy table).
    pub gpu_tolerance: Option<Tolerance>,
    /// How often it may be differentiated.
    pub order: Order,
    /// Whether it has a batching rule.
    pub batched: bool,
    /// Whether it is cheap enough for a software adapter.
    pub gpu: bool,
}

impl Case {
    /// A case that is differentiable twice, batched, and exact to the bit until told otherwise.
    pub fn new(
        name: impl Into<String>,
        inputs: impl Into<Vec<Input>>,
        build: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'static,
    ) -> Self {
        Case {
            name: name.into(),
            inputs: inputs.into(),
            build: Arc::new(build),
            tolerance: Tolerance::EXACT,
            gpu_tolerance: None,
            order: Order::Second,
            batched: true,
            gpu: true,
        }
    }

    /// With this tolerance.
    #[must_use]
    pub fn tolerance(self, tolerance: Tolerance) -> Self {
        Case { tolerance, ..self }
    }

    /// With another tolerance on GPUs.
    #[must_use]
    pub fn gpu_tolerance(self, tolerance: Tolerance) -> Self {
        Case { gpu_tolerance: Some(tolerance), ..self }
    }

    /// Differentiable this often.
    #[must_use]
    pub fn order(self, order: Order) -> Self {
        Case { order, ..self }
    }

    /// Without a batching rule.
    #[must_use]
    pub fn unbatched(self) -> Self {
        Case { batched: false, ..self }
    }

    /// Too slow for a software adapter.
    #[must_use]
    pub fn cpu_only(self) -> Self {
        Case { gpu: false, ..self }
    }

    /// The tolerance on this engine.
    pub fn tolerance_on(&self, kind: EngineKind) -> Tolerance {
        match (kind, self.gpu_tolerance) {
            (EngineKind::Gpu, Some(tolerance)) => tolerance,
            _ => self.tolerance,
        }
    }

    /// The tolerance of its gradient, of `outputs` elements by an input of at least `inputs`, on this engine.
    pub(super) fn tolerance_of_gradient(&self, kind: EngineKind, outputs: usize, inputs: usize) -> Tolerance {
        let exact = self.tolerance_on(kind).of_gradient(outputs, inputs);
        match self.order {
            // Two sums a little apart may be rounded to neighbors, which are 2⁻¹⁰ of them apart.
            Order::Rounded => Tolerance { depth: exact.depth + 16384.0 / exact.k, ..exact },
            _ => exact,
        }
    }

    /// The inputs on a device, drawn from a seed.
    pub fn tensors(&self, device: &Device, seed: u64) -> Result<Vec<Tensor>> {
        self.inputs.iter().zip(0..).map(|(input, i)| input.tensor(device, seed * 64 + i)).collect()
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

/// Something that must be refused.
#[derive(Clone)]
pub struct Reject {
    /// What is wrong.
    pub name: &'static str,
    /// Tries it.
    pub build: fn(&Device) -> Result<Tensor>,
    /// Words that the message must hold.
    pub says: &'static [&'static str],
}

impl Reject {
    /// A row of the table.
    pub fn new(name: &'static str, says: &'static [&'static str], build: fn(&Device) -> Result<Tensor>) -> Self {
        Reject { name, build, says }
    }
}

impl fmt::Debug for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reject({})", self.name)
    }
}
