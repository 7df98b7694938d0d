//! Ways to launch the three ops on a GPU, the one that the static rule takes first: as products over columns that stand in
//! memory, where shaders run on the host's processor; as tiled products, in blocks as large as there are enough of; or a few
//! outputs (a small block of the weight) a thread, where channels are too few for a tile.

use acclimate_shaders::Shader;
use acclimate_shaders::shaders::{
    CONV2D, CONV2D_INPUT_GRAD, CONV2D_INPUT_GRAD_TILED, CONV2D_TILED, CONV2D_WEIGHT_GRAD, CONV2D_WEIGHT_GRAD_TILED,
};
use acclimate_tensor::op::{Bind, Launch, Launches};
use acclimate_tensor::{Caps, Result, Spec};

use super::geometry::Geometry;
use super::products;
use crate::ladder::{BUSY, SIDES, slice, summed};

/// Rows and terms from which a tile pays.
const SOME: usize = 16;
/// Residues of the strides from which a workgroup would look for its own too long.
const RESIDUES: usize = 64;

/// One of the three ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// y.
    Forward,
    /// dx.
    InputGrad,
    /// dw.
    WeightGrad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A few outputs a thread.
    Plain,
    /// Blocks with this side.
    Tiles(usize),
}

impl Of {
    /// The way that the rule takes.
    pub fn best_way(self, op: &'static str, g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Result<Launches> {
        match self.product(g, caps, inputs) {
            Some(product) => Ok(product),
            None => self.launch(self.ways(g, caps)[0], op, g, inputs),
        }
    }

    /// The other ways.
    pub fn other_ways(self, op: &'static str, g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Result<Vec<Launches>> {
        let best = usize::from(self.product(g, caps, inputs).is_none());
        self.ways(g, caps)[best..].iter().map(|&way| self.launch(way, op, g, inputs)).collect()
    }

    fn product(self, g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Option<Launches> {
        match self {
            Of::Forward => products::forward(g, caps, inputs),
            Of::InputGrad => products::input_grad(g, caps, inputs),
            Of::WeightGrad => products::weight_grad(g, caps, inputs),
        }
    }

    /// Ways of which there is always one; the one by the rule first.
    fn ways(self, g: &Geometry, caps: &Caps) -> Vec<Way> {
        let [rows, columns, terms] = match self {
            Of::Forward => [g.outs(), g.n * g.oh * g.ow, g.depth()],
            Of::InputGrad => [g.ins(), g.n * g.h * g.w, g.outs() * g.taps()],
            Of::WeightGrad => [g.outs(), g.depth(), g.n * g.oh * g.ow],
        };
        let fits = |side: usize| match self {
            Of::Forward => true,
            Of::InputGrad => g.conv.stride.iter().product::<usize>() <= RESIDUES,
            // Slices of the sum stand side by side in memory.
            Of::WeightGrad => slices(g, side).1 * g.c_out * g.depth() * size_of::<f32>() <= caps.max_binding,
        };
        let mut tiles: Vec<usize> = SIDES.into_iter().filter(|&side| fits(side)).collect();
        // Blocks that are half empty are no better than small ones; and there must be enough to go around, where sums are not
        // cut into slices. Barriers are dear on software adapters, and large blocks need few of them.
        let good = |side: usize| {
            let full = rows.min(columns) > side / 2 || side == SIDES[SIDES.len() - 1];
            full && (self == Of::WeightGrad || blocks(self, g, side) >= BUSY)
        };
        let best = if caps.software { 64 } else { tiles.iter().copied().find(|&side| good(side)).unwrap_or(32) };
        tiles.sort_by_key(|&side| side != best);
        let few = match self {
            Of::Forward | Of::InputGrad => rows < SOME || terms < SOME,
            Of::WeightGrad => rows < SOME || columns < SOME || caps.software,
        };
        let mut ways: Vec<Way> = tiles.into_iter().map(Way::Tiles).collect();
        ways.insert(if few { 0 } else { ways.len() }, Way::Plain);
        ways
    }

    fn launch(self, way: Way, op: &'static str, g: &Geometry, inputs: &[Spec]) -> Result<Launches> {
        let dtype = inputs[0].dtype;
        let Way::Tiles(side) = way else {
            let launch = match self {
                Of::Forward => Launch::threads(&CONV2D, g.n * g.c_out * g.oh.div_ceil(4) * g.ow),
                Of::InputGrad => {
                    let stride = g.conv.stride[0];
                    let lines = g.h.div_ceil(stride).div_ceil(4) * stride;
                    Launch::threads(&CONV2D_INPUT_GRAD, g.n * g.c_in * lines * g.w)
                }
                Of::WeightGrad => {
                    let blocks = g.conv.groups * g.outs().div_ceil(4) * g.depth().div_ceil(4);
                    Launch::new(&CONV2D_WEIGHT_GRAD, blocks)
                }
            };
            return Ok(launch.of(op, dtype)?.u32s(&g.params()).bind(&BINDS).into());
        };
        let tiled: &'static Shader = match self {
            Of::Forward => &CONV2D_TILED,
            Of::InputGrad => &CONV2D_INPUT_GRAD_TILED,
            Of::WeightGrad => &CONV2D_WEIGHT_GRAD_TILED,
        };
        let launch = Launch::new(tiled.of_side(side), blocks(self, g, side)).of(op, dtype)?.u32s(&g.params());
        if self != Of::WeightGrad {
            return Ok(launch.bind(&BINDS).into());
        }
        let (slice, slices) = slices(g, side);
        Ok(summed(launch.u32(slice), slices, g.c_out * g.depth()))
    }
}

const BINDS: [Bind; 3] = [Bind::In(0), Bind::In(1), Bind::Out(0)];

/// How many blocks with this side there are.
fn blocks(of: Of, g: &Geometry, side: usize) -> usize {
    let across = |channels: usize, others: usize| g.conv.groups * channels.div_ceil(side) * others.div_ceil(side);
    match of {
        Of::Forward => across(g.outs(), g.n * g.oh * g.ow),
        // Those of each residue of the strides by themselves.
        Of::InputGrad => {
            let pixels = |i: usize, j: usize| g.n * g.residue(0, i) * g.residue(1, j);
            let [down, along] = g.conv.stride;
            (0..down).flat_map(|i| (0..along).map(move |j| (i, j))).map(|(i, j)| across(g.ins(), pixels(i, j))).sum()
        }
        Of::WeightGrad => across(g.outs(), g.depth()) * slices(g, side).1,
    }
}

/// Pixels of a slice of a weight gradient's sum, and the number of slices. No pixels are one slice, which writes zeros.
fn slices(g: &Geometry, side: usize) -> (usize, usize) {
    let pixels = g.n * g.oh * g.ow;
    let slice = slice(pixels, g.conv.groups * g.outs().div_ceil(side) * g.depth().div_ceil(side));
    (slice, pixels.div_ceil(slice).max(1))
}
