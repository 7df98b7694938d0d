//! Ways to launch the three ops on a GPU, the one that the static rule takes first: as products over columns that stand in
//! memory, where shaders run on the host's processor; as tiled products, in smaller blocks where there are few of them; or
//! one output (one small block of the weight) a thread, where channels are too few for a tile.

use acclimate_shaders::Shader;
use acclimate_shaders::shaders::{
    CONV2D, CONV2D_INPUT_GRAD, CONV2D_INPUT_GRAD_TILED, CONV2D_TILED, CONV2D_WEIGHT_GRAD, CONV2D_WEIGHT_GRAD_TILED,
};
use acclimate_tensor::op::{Bind, Launch, Launches};
use acclimate_tensor::{Caps, DType, Result, Spec};

use super::geometry::Geometry;
use super::products;
use crate::ladder::{BUSY, slice, summed};

/// Rows and terms from which a tile pays.
const SOME: usize = 16;

/// Of y.
pub(super) fn forward(op: &'static str, g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Result<Vec<Launches>> {
    let dtype = inputs[0].dtype;
    let plain = with(op, Launch::threads(&CONV2D, g.n * g.c_out * g.oh * g.ow), g, dtype)?;
    let tiles = tiles(op, &CONV2D_TILED, g, [g.outs(), g.n * g.oh * g.ow], (dtype, caps))?;
    let small = g.outs() < SOME || g.depth() < SOME;
    Ok(ordered(products::forward(g, caps, inputs), small, plain, tiles))
}

/// Of dx.
pub(super) fn input_grad(op: &'static str, g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Result<Vec<Launches>> {
    let dtype = inputs[0].dtype;
    let plain = with(op, Launch::threads(&CONV2D_INPUT_GRAD, g.n * g.c_in * g.h * g.w), g, dtype)?;
    let tiles = tiles(op, &CONV2D_INPUT_GRAD_TILED, g, [g.ins(), g.n * g.h * g.w], (dtype, caps))?;
    let small = g.ins() < SOME || g.outs() * g.taps() < SOME;
    Ok(ordered(products::input_grad(g, caps, inputs), small, plain, tiles))
}

/// Of dw.
pub(super) fn weight_grad(op: &'static str, g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Result<Vec<Launches>> {
    let dtype = inputs[0].dtype;
    let blocks = g.conv.groups * g.outs().div_ceil(4) * g.depth().div_ceil(4);
    let plain = with(op, Launch::new(&CONV2D_WEIGHT_GRAD, blocks), g, dtype)?;
    let sliced = |shader: &'static Shader, side: usize| -> Result<Option<Launches>> {
        let blocks = g.conv.groups * g.outs().div_ceil(side) * g.depth().div_ceil(side);
        let (pixels, size) = (g.n * g.oh * g.ow, g.c_out * g.depth());
        // No pixels are one slice, which writes zeros.
        let slice = slice(pixels, blocks);
        let slices = pixels.div_ceil(slice).max(1);
        if slices * size * size_of::<f32>() > caps.max_binding {
            return Ok(None);
        }
        let launch = Launch::new(shader, slices * blocks).of(op, dtype)?.u32s(&g.params()).u32(slice);
        Ok(Some(summed(launch, slices, size)))
    };
    let narrow = CONV2D_WEIGHT_GRAD_TILED.narrow.unwrap_or(&CONV2D_WEIGHT_GRAD_TILED);
    let mut tiles = Vec::from_iter(sliced(&CONV2D_WEIGHT_GRAD_TILED, 64)?);
    // Blocks of 64 that are half empty are no better than small ones.
    let at = if g.outs().min(g.depth()) > 32 { tiles.len() } else { 0 };
    if let Some(narrow) = sliced(narrow, 32)? {
        tiles.insert(at, narrow);
    }
    let small = g.outs() < SOME || g.depth() < SOME || tiles.is_empty() || caps.software;
    Ok(ordered(products::weight_grad(g, caps, inputs), small, plain, tiles))
}

/// Ways by the static rule.
fn ordered(product: Option<Launches>, small: bool, plain: Launches, tiles: Vec<Launches>) -> Vec<Launches> {
    let at = if small { 0 } else { tiles.len() };
    let mut ways = tiles;
    ways.insert(at, plain);
    ways.splice(0..0, product);
    ways
}

/// Tiled products of `rows` by `columns` for each group, the better blocks first.
fn tiles(
    op: &'static str,
    shader: &'static Shader,
    g: &Geometry,
    [rows, columns]: [usize; 2],
    (dtype, caps): (DType, &Caps),
) -> Result<Vec<Launches>> {
    let blocks = |side: usize| g.conv.groups * rows.div_ceil(side) * columns.div_ceil(side);
    let large = with(op, Launch::new(shader, blocks(64)), g, dtype)?;
    let small = with(op, Launch::new(shader.narrow.unwrap_or(shader), blocks(32)), g, dtype)?;
    // Barriers are dear on software adapters: as few as can be.
    Ok(if blocks(64) >= BUSY || caps.software { vec![large, small] } else { vec![small, large] })
}

const BINDS: [Bind; 3] = [Bind::In(0), Bind::In(1), Bind::Out(0)];

/// A launch with the parameters and bindings that the three ops have, for inputs of this dtype.
fn with(op: &'static str, launch: Launch, g: &Geometry, dtype: DType) -> Result<Launches> {
    Ok(launch.of(op, dtype)?.u32s(&g.params()).bind(&BINDS).into())
}
