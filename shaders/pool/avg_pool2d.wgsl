// Mean over windows: y[c,i,j] = Σ_{u,v} x[c, i·stride_h + u − pad_h, j·stride_w + v − pad_w] / count.
// count is the number of pixels of the window, with count_include_pad those in the padding too; sums take padding as 0.
// Inputs:  x [planes,h,w] (planes = n·c).  Output: y [planes,oh,ow].
// Params:  planes, h, w, oh, ow, kh, kw, stride_h, stride_w, pad_h, pad_w, count_include_pad (0 or 1).
// Workgroups: ⌈planes·oh·ow / 256⌉.
// #import shared/index
// #import shared/tap
// #import shared/avg_pool

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.planes * p.oh * p.ow) { return; }
    let ox = i % p.ow;
    let oy = i / p.ow % p.oh;
    let plane = i / (p.ow * p.oh) * p.h;

    var sum = 0.0;
    for (var u = 0u; u < p.kh; u++) {
        let iy = tap(oy, u, p.stride_h, 1u, p.pad_h);
        if (iy >= p.h) { continue; }
        for (var v = 0u; v < p.kw; v++) {
            let ix = tap(ox, v, p.stride_w, 1u, p.pad_w);
            if (ix < p.w) { sum += x[(plane + iy) * p.w + ix]; }
        }
    }
    y[i] = sum / divisor(oy, ox);
}
