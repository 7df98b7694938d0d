//! Products of matrices on devices that run shaders on the host's processor, where workgroup memory is storage like any
//! other and a barrier costs more than reading again. What pays there and what does not follows from [`Caps::software`] and
//! the shape alone.

use acclimate_shaders::shaders::MATMUL_DIRECT;
use acclimate_tensor::op::{Bind, Launch};
use acclimate_tensor::{Caps, DType, Spec};

/// A batch of products c = op(a) · op(b); strides are elements from one matrix to the next, 0 where it is shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a_stride: usize,
    pub b_stride: usize,
    pub trans_a: bool,
    pub trans_b: bool,
}

/// Blocks from which a product keeps the threads of most processors busy.
const BUSY: usize = 128;

/// Rows and columns that a subgroup makes.
const BLOCK: usize = 32;
/// Subgroups of a workgroup.
const SUBGROUPS: usize = 8;

impl Product {
    /// Whether the shader takes this shape: wherever it reads two words they lie side by side.
    pub fn fits(&self) -> bool {
        let even = |n: usize| n > 0 && n.is_multiple_of(2);
        even(self.k) && (!self.trans_a || even(self.m)) && (self.trans_b || even(self.n))
    }

    /// Whether it is the way to go on a device, for an op with these inputs.
    pub fn pays(&self, caps: &Caps, inputs: &[Spec]) -> bool {
        caps.software && inputs.iter().all(|x| x.dtype == DType::F32) && self.fits()
    }

    /// The launch; `binds` are a, b and c.
    pub fn launch(&self, binds: [Bind; 3]) -> Launch {
        self.launch_sums(1, binds)
    }

    /// The launch of sums of so many products each: c has `batch / terms` matrices.
    pub fn launch_sums(&self, terms: usize, binds: [Bind; 3]) -> Launch {
        let sums = Product { batch: self.batch / terms, ..*self };
        let launch = Launch::new(&MATMUL_DIRECT, (sums.batch * self.blocks()).div_ceil(SUBGROUPS));
        sums.params(launch).u32(terms).bind(&binds)
    }

    /// How many products to sum up at once: as many as leave enough to do side by side.
    pub fn terms(&self) -> usize {
        let fits = |&terms: &usize| self.batch.is_multiple_of(terms) && self.batch / terms * self.blocks() >= BUSY;
        (1..=self.batch).rev().find(fits).unwrap_or(1)
    }

    fn blocks(&self) -> usize {
        self.m.div_ceil(BLOCK) * self.n.div_ceil(BLOCK)
    }

    /// The parameters that all shaders of products have.
    pub fn params(&self, launch: Launch) -> Launch {
        launch
            .u32s(&[self.m, self.n, self.k, self.batch, self.a_stride, self.b_stride])
            .u32s(&[usize::from(self.trans_a), usize::from(self.trans_b)])
    }
}
