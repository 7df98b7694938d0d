// Params of max pooling in 2-d and of its gradient.
// #import shared/tap

struct Params {
    planes: u32, h: u32, w: u32, oh: u32, ow: u32, kh: u32, kw: u32,
    stride_h: u32, stride_w: u32, pad_h: u32, pad_w: u32, dil_h: u32, dil_w: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
