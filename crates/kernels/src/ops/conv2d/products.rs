//! Convolutions as products on devices that run shaders on the host's processor: the columns of pixels stand in scratch
//! memory, one product for each image multiplies them.
//!
//! Everywhere else the columns are read tile by tile and never stand in memory.

use acclimate_shaders::shaders::{COLUMNS, SUM_COLUMNS, SUM_PARTS};
use acclimate_tensor::op::{Bind, Launch, Launches};
use acclimate_tensor::{Caps, Spec};

use super::geometry::Geometry;
use crate::direct::Product;

/// Terms of an output, and output channels, from which a product pays. (With 8 channels it takes what it takes with 32, and still
/// a pruned ResNet with blocks of 8 takes half the time that it takes with one output a thread.)
const DEEP: usize = 16;
const WIDE: usize = 8;
/// Strides beyond this, larger than any image, would wrap in the shader.
const STRIDE: usize = 1 << 16;

/// y = w · columns(x), if it pays. Rows of the weight that are no multiple of four long are copied to such that are.
pub(super) fn forward(g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Option<Launches> {
    let (area, depth) = (g.oh * g.ow, fours(g.depth()));
    let product = each_image(g, [g.outs(), area, depth], (false, false), [0, depth * area]);
    let columns = scratch(g, caps, g.n * depth * area)?;
    // Rows of whole fours, as the shader makes them.
    let rows = scratch(g, caps, fours(g.outs()) * depth)?;
    product.pays(caps, inputs).then(|| {
        let last = |w: Bind| product.launch([w, Bind::Scratch(0), Bind::Out(0)]);
        if depth == g.depth() {
            return Launches { scratch: vec![columns], list: vec![columns_of(g), last(Bind::In(1))] };
        }
        // The weight is an image of one row a channel, and its columns those of a kernel of one pixel.
        let padded = lines(g.outs(), depth)
            .u32s(&[1, g.outs(), 1, g.depth(), 1, 1, 1, 1, depth, 1, 1, 0, 0, 1, 1, 1])
            .bind(&[Bind::In(1), Bind::Scratch(1)]);
        Launches { scratch: vec![columns, rows], list: vec![columns_of(g), padded, last(Bind::Scratch(1))] }
    })
}

/// dx = what wᵀ · dy leaves at each pixel, if it pays.
pub(super) fn input_grad(g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Option<Launches> {
    let product = each_image(g, [g.depth(), g.oh * g.ow, g.outs()], (true, false), [0, g.outs() * g.oh * g.ow]);
    let columns = scratch(g, caps, g.n * g.depth() * g.oh * g.ow)?;
    let plain = g.conv.dilation == [1, 1] && g.conv.stride.iter().all(|&s| s <= STRIDE);
    (plain && product.pays(caps, inputs)).then(|| {
        let pixels = Launch::threads(&SUM_COLUMNS, g.n * g.c_in * g.h * g.w.div_ceil(8));
        let sum = pixels.u32s(&g.params()).bind(&[Bind::Scratch(0), Bind::Out(0)]);
        Launches {
            scratch: vec![columns],
            list: vec![product.launch([Bind::In(1), Bind::In(0), Bind::Scratch(0)]), sum],
        }
    })
}

/// dw = the sum over images of dy · columns(x)ᵀ, if it pays; each part is made the other way around, because the output
/// channels are the ones that come in fours.
pub(super) fn weight_grad(g: &Geometry, caps: &Caps, inputs: &[Spec]) -> Option<Launches> {
    let area = g.oh * g.ow;
    let depth = fours(g.depth());
    let product = each_image(g, [g.depth(), g.outs(), area], (false, true), [depth * area, g.outs() * area]);
    let columns = scratch(g, caps, g.n * depth * area)?;
    if !product.pays(caps, inputs) {
        return None;
    }
    let size = g.outs() * g.depth();
    let terms = product.terms();
    let n_parts = g.n / terms;
    let parts = scratch(g, caps, n_parts * size)?;
    Some(Launches {
        scratch: vec![columns, parts],
        list: vec![
            columns_of(g),
            product.launch_sums(terms, [Bind::Scratch(0), Bind::In(1), Bind::Scratch(1)]),
            Launch::threads(&SUM_PARTS, size)
                .u32s(&[g.depth(), g.outs(), n_parts])
                .bind(&[Bind::Scratch(1), Bind::Out(0)]),
        ],
    })
}

/// Rounded up to a multiple of four.
fn fours(n: usize) -> usize {
    n.next_multiple_of(4)
}

fn each_image(g: &Geometry, [m, n, k]: [usize; 3], (trans_a, trans_b): (bool, bool), strides: [usize; 2]) -> Product {
    Product { batch: g.n, m, n, k, a_stride: strides[0], b_stride: strides[1], trans_a, trans_b }
}

/// Bytes of so many floats, if a binding holds them and the convolution is one that products can do.
fn scratch(g: &Geometry, caps: &Caps, floats: usize) -> Option<usize> {
    let bytes = floats.checked_mul(size_of::<f32>())?;
    let fits = g.conv.groups == 1 && (g.oh * g.ow).is_multiple_of(4) && bytes <= caps.max_binding;
    (fits && g.depth() >= DEEP && g.outs() >= WIDE).then_some(bytes)
}

fn columns_of(g: &Geometry) -> Launch {
    lines(g.n * fours(g.depth()), g.oh * g.ow).u32s(&g.params()).bind(&[Bind::In(0), Bind::Scratch(0)])
}

/// The launch for so many lines of columns.
fn lines(n: usize, area: usize) -> Launch {
    Launch::threads(&COLUMNS, n * area.div_ceil(16))
}
