//! How an op is launched on a GPU.

use acclimate_shaders::Shader;

use crate::dtype::DType;
use crate::error::{Error, Result};

/// What a launch binds, in the order of the shader's storage bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// An input. (Inputs of `in_place` are not bound: the output is.)
    In(usize),
    /// An output.
    Out(usize),
    /// A scratch buffer of [`Launches::scratch`].
    Scratch(usize),
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The shader.
    pub shader: &'static Shader,
    /// Number of workgroups, linear; the engine folds more than 65 535 into two axes.
    pub workgroups: usize,
    /// The words of the shader's `Params`.
    pub params: Vec<u32>,
    /// What the storage bindings are.
    pub binds: Vec<Bind>,
}

impl Launch {
    /// A launch of `workgroups` workgroups.
    pub fn new(shader: &'static Shader, workgroups: usize) -> Self {
        Launch { shader, workgroups, params: Vec::new(), binds: Vec::new() }
    }

    /// One thread for each of `n` elements.
    pub fn threads(shader: &'static Shader, n: usize) -> Self {
        let size: u32 = shader.workgroup.iter().product();
        Launch::new(shader, n.div_ceil(size as usize))
    }

    /// Adds an integer parameter. Sizes beyond u32 are refused when the plan is made (bindings are smaller).
    #[must_use]
    pub fn u32(mut self, x: usize) -> Self {
        self.params.push(u32::try_from(x).unwrap_or(u32::MAX));
        self
    }

    /// Adds integer parameters.
    #[must_use]
    pub fn u32s(self, xs: &[usize]) -> Self {
        xs.iter().fold(self, |l, &x| l.u32(x))
    }

    /// Adds a float parameter.
    #[must_use]
    pub fn f32(mut self, x: f32) -> Self {
        self.params.push(x.to_bits());
        self
    }

    /// For inputs of this dtype: halves have a shader of their own.
    pub fn of(self, op: &'static str, dtype: DType) -> Result<Self> {
        if dtype != DType::F16 {
            return Ok(self);
        }
        let half = self.shader.half;
        let shader = half.ok_or_else(|| Error::internal(op, format!("{} is not for halves", self.shader.name)))?;
        Ok(Launch { shader, ..self })
    }

    /// Sets the bindings.
    #[must_use]
    pub fn bind(mut self, binds: &[Bind]) -> Self {
        self.binds = binds.to_vec();
        self
    }
}

/// The dispatches of one op and the scratch memory they share.
#[derive(Clone, Debug, Default)]
pub struct Launches {
    /// Bytes of each scratch buffer.
    pub scratch: Vec<usize>,
    /// In order.
    pub list: Vec<Launch>,
}

impl Launches {
    /// Whether each launch that writes the first output hands it to the shader's `finish` first, where the engine puts what is
    /// to become of it.
    pub fn can_finish(&self) -> bool {
        self.list.iter().filter(|l| l.binds.contains(&Bind::Out(0))).all(|l| l.shader.can_finish())
    }
}

impl From<Launch> for Launches {
    fn from(launch: Launch) -> Self {
        Launches { scratch: Vec::new(), list: vec![launch] }
    }
}
