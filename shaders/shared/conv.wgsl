// Params of every 2-d convolution and what follows from them.

struct Params {
    n: u32, c_in: u32, h: u32, w: u32,
    c_out: u32, kh: u32, kw: u32, oh: u32, ow: u32,
    stride_h: u32, stride_w: u32, pad_h: u32, pad_w: u32, dil_h: u32, dil_w: u32,
    groups: u32,
}
@group(0) @binding(0) var<uniform> p: Params;

// Which input pixel a kernel tap reads for an output pixel, along one axis; what is not below the size is padding
// (one comparison will do: left of the image wraps to a huge number).
fn tap(position: u32, k: u32, stride: u32, dil: u32, pad: u32) -> u32 {
    return position * stride + k * dil - pad;
}

// The other way: which output pixel reads an input pixel through a kernel tap. 0xffffffff if none does.
fn untap(position: u32, k: u32, stride: u32, dil: u32, pad: u32) -> u32 {
    let shifted = position + pad;
    let back = k * dil;
    if (shifted < back || (shifted - back) % stride != 0u) { return 0xffffffffu; }
    return (shifted - back) / stride;
}
