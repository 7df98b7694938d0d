//! Ways to make a product of matrices, and the static rule that takes one by adapter and shape.
//!
//! A GPU is busy with some dozens of workgroups. Where the product has enough of the largest blocks these are the best, for
//! each number read is multiplied most often; with less of them smaller blocks go around; and where even those are few and k
//! is long, k is cut into slices. How it is cut depends on the shape of one product alone: the number of products side by side
//! (of inputs that are adapted together) changes no bit of any of them.

use acclimate_shaders::shaders::{MATMUL, MATMUL_COOP, MATMUL_SMALL, SUM_PARTS};
use acclimate_tensor::op::{Bind, Launch, Launches};
use acclimate_tensor::{Caps, DType, Result, Spec};

use crate::direct::Product;

/// Workgroups that keep a GPU busy, one with some dozens of multiprocessors or with a hundred: a guess, like the rest of the
/// rule, until one has been measured.
pub(crate) const BUSY: usize = 128;
/// Sides of the blocks that tiled products come in.
pub(crate) const SIDES: [usize; 3] = [128, 64, 32];
/// Rows that the shader for few of them takes.
const FEW: usize = 8;
/// Blocks below which threads of a software adapter would be idle.
const IDLE_BELOW: usize = 16;
/// Terms that a slice of a sum has at least.
const LONG: usize = 128;

/// One way to make a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// At most [`FEW`] rows.
    Few,
    /// A subgroup of eight lanes for each block, on software adapters.
    Direct,
    /// Cooperative matrices of 16×16 or 8×8, of halves.
    Cooperative(usize),
    /// Blocks with this side.
    Tiles(usize),
    /// Blocks of 32×32, each slice of k by itself.
    Slices,
}

impl Product {
    /// The way that the rule takes. `inputs` are the op's.
    pub fn best_way(&self, op: &'static str, inputs: &[Spec], caps: &Caps) -> Result<Launches> {
        let ways = self.ways(inputs, caps);
        self.launch_as(self.best(caps, &ways), op, inputs[0].dtype)
    }

    /// The other ways.
    pub fn other_ways(&self, op: &'static str, inputs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        let ways = self.ways(inputs, caps);
        let best = self.best(caps, &ways);
        ways.into_iter().filter(|&way| way != best).map(|way| self.launch_as(way, op, inputs[0].dtype)).collect()
    }

    /// All ways to make this product.
    fn ways(&self, inputs: &[Spec], caps: &Caps) -> Vec<Way> {
        let dtype = inputs[0].dtype;
        let can = |way: Way| match way {
            Way::Few => self.m <= FEW,
            Way::Direct => self.pays(caps, inputs),
            Way::Cooperative(side) => {
                let there = if side == 16 { caps.cooperative_16 } else { caps.cooperative_8 };
                there && dtype == DType::F16 && self.in_fours()
            }
            Way::Slices => self.slices() > 1 && self.slices() * self.batch * self.m * self.n * 4 <= caps.max_binding,
            Way::Tiles(_) => true,
        };
        let all = [Way::Few, Way::Direct, Way::Cooperative(16), Way::Cooperative(8)];
        let all = all.into_iter().chain(SIDES.map(Way::Tiles)).chain([Way::Slices]);
        all.filter(|&way| can(way)).collect()
    }

    fn best(&self, caps: &Caps, ways: &[Way]) -> Way {
        let first = |wanted: &[Way]| wanted.iter().copied().find(|way| ways.contains(way));
        // Of one product: see above.
        let blocks = |side: usize| self.m.div_ceil(side) * self.n.div_ceil(side);
        if caps.software {
            // Barriers are dear there, and threads few: the largest blocks, unless some would be idle.
            let tiles = Way::Tiles(if self.batch * blocks(128) >= IDLE_BELOW { 128 } else { 64 });
            return first(&[Way::Few, Way::Direct]).unwrap_or(tiles);
        }
        if let Some(way) = first(&[Way::Few, Way::Cooperative(16), Way::Cooperative(8)]) {
            return way;
        }
        let busy = SIDES.into_iter().find(|&side| self.batch * blocks(side) >= BUSY);
        match busy {
            Some(side) if blocks(32) >= BUSY || !ways.contains(&Way::Slices) => Way::Tiles(side),
            _ => first(&[Way::Slices]).unwrap_or(Way::Tiles(32)),
        }
    }

    fn launch_as(&self, way: Way, op: &'static str, dtype: DType) -> Result<Launches> {
        let blocks = |side: usize| self.batch * self.m.div_ceil(side) * self.n.div_ceil(side);
        match way {
            Way::Few => {
                let workgroups = self.batch * self.n.div_ceil(if self.trans_b { 4 } else { 64 });
                Ok(self.params(Launch::new(&MATMUL_SMALL, workgroups)).of(op, dtype)?.bind(&BINDS).into())
            }
            Way::Direct => Ok(self.launch(BINDS).into()),
            Way::Cooperative(16) => Ok(self.params(Launch::new(&MATMUL_COOP, blocks(64))).bind(&BINDS).into()),
            Way::Cooperative(_) => {
                let eight = MATMUL_COOP.eight.unwrap_or(&MATMUL_COOP);
                Ok(self.params(Launch::new(eight, blocks(32))).bind(&BINDS).into())
            }
            Way::Tiles(side) => {
                let launch = self.params(Launch::new(MATMUL.of_side(side), blocks(side)));
                Ok(launch.u32(self.k.next_multiple_of(16)).of(op, dtype)?.bind(&BINDS).into())
            }
            Way::Slices => {
                let (slice, slices) = (self.slice(), self.slices());
                let parts =
                    self.params(Launch::new(MATMUL.of_side(32), slices * blocks(32))).u32(slice).of(op, dtype)?;
                Ok(summed(parts, slices, self.batch * self.m * self.n))
            }
        }
    }

    /// Whether four halves that are read together lie side by side.
    fn in_fours(&self) -> bool {
        let fours = |n: usize| n > 0 && n.is_multiple_of(4);
        fours(if self.trans_a { self.m } else { self.k }) && fours(if self.trans_b { self.k } else { self.n })
    }

    fn slice(&self) -> usize {
        slice(self.k, self.m.div_ceil(32) * self.n.div_ceil(32))
    }

    fn slices(&self) -> usize {
        self.k.div_ceil(self.slice())
    }
}

/// A launch of two inputs that gives slices of a sum of `size` elements, and their sum.
pub(crate) fn summed(launch: Launch, slices: usize, size: usize) -> Launches {
    if slices == 1 {
        return launch.bind(&BINDS).into();
    }
    let sum = Launch::threads(&SUM_PARTS, size).u32s(&[1, size, slices]);
    Launches {
        scratch: vec![slices * size * size_of::<f32>()],
        list: vec![
            launch.bind(&[Bind::In(0), Bind::In(1), Bind::Scratch(0)]),
            sum.bind(&[Bind::Scratch(0), Bind::Out(0)]),
        ],
    }
}

/// Both operands and the result.
const BINDS: [Bind; 3] = [Bind::In(0), Bind::In(1), Bind::Out(0)];

/// How many of `n` terms each slice of a sum takes, so that `blocks` of each slice keep a GPU busy: a multiple of 16.
pub(crate) fn slice(n: usize, blocks: usize) -> usize {
    let wanted = BUSY.div_ceil(blocks.max(1)).min(n.div_ceil(LONG));
    n.div_ceil(wanted.max(1)).next_multiple_of(16).max(16)
}
