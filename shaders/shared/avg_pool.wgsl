// Params of average pooling in 2-d and of its gradient, and what a window's sum is divided by.

struct Params {
    planes: u32, h: u32, w: u32, oh: u32, ow: u32, kh: u32, kw: u32,
    stride_h: u32, stride_w: u32, pad_h: u32, pad_w: u32,
    count_include_pad: u32,
}
@group(0) @binding(0) var<uniform> p: Params;

// How many pixels a window covers along one axis, padding included or not. A window may reach beyond the padding
// (sizes rounded up): what lies there never counts.
fn covered(position: u32, k: u32, stride: u32, pad: u32, size: u32) -> u32 {
    let start = position * stride;
    if (p.count_include_pad != 0u) { return min(start + k, size + 2u * pad) - min(start, size + 2u * pad); }
    return min(max(start + k, pad), size + pad) - min(max(start, pad), size + pad);
}

fn divisor(oy: u32, ox: u32) -> f32 {
    let count = covered(oy, p.kh, p.stride_h, p.pad_h, p.h) * covered(ox, p.kw, p.stride_w, p.pad_w, p.w);
    return f32(max(count, 1u));
}
