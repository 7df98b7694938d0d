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

/// Rows and columns that a thread makes.
const BLOCK: [usize; 2] = [16, 8];
/// Threads of a workgroup.
const THREADS: usize = 64;

impl Product {
    /// Whether the shader takes this shape: wherever it reads or writes four words they lie side by side.
    pub fn fits(&self) -> bool {
        let fours = |n: usize| n > 0 && n.is_multiple_of(4);
        fours(self.k) && fours(self.n) && (!self.trans_a || fours(self.m))
    }

    /// Whether it is the way to go on a device, for an op with these inputs.
    pub fn pays(&self, caps: &Caps, inputs: &[Spec]) -> bool {
        caps.software && inputs.iter().all(|x| x.dtype == DType::F32) && self.fits()
    }

    /// The launch; `binds` are a, b and c.
    pub fn launch(&self, binds: [Bind; 3]) -> Launch {
        let blocks = self.batch * self.m.div_ceil(BLOCK[0]) * self.n.div_ceil(BLOCK[1]);
        self.given_to(Launch::new(&MATMUL_DIRECT, blocks.div_ceil(THREADS)), binds)
    }

    /// A launch of any shader of products, with the parameters and bindings that all of them have.
    pub fn given_to(&self, launch: Launch, binds: [Bind; 3]) -> Launch {
        launch
            .u32s(&[self.m, self.n, self.k, self.batch, self.a_stride, self.b_stride])
            .u32s(&[usize::from(self.trans_a), usize::from(self.trans_b)])
            .bind(&binds)
    }
}
