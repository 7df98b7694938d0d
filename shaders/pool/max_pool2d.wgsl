// Maximum over windows: y[c,i,j] = max_{u,v} x[c, i·stride_h + u·dil_h − pad_h, j·stride_w + v·dil_w − pad_w].
// Padding counts as −∞; the first maximum wins, and a NaN wins over all.
// Inputs:  x [planes,h,w] (planes = n·c).
// Outputs: y [planes,oh,ow], index [planes,oh,ow] u32: where in its plane of h·w the maximum stood; h·w if the window
//          lies in the padding.
// Params:  planes, h, w, oh, ow, kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w.
// Workgroups: ⌈planes·oh·ow / 256⌉.
// #import shared/index
// #import shared/bits
// #import shared/max_pool

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> index: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.planes * p.oh * p.ow) { return; }
    let ox = i % p.ow;
    let oy = i / p.ow % p.oh;
    let plane = i / (p.ow * p.oh) * p.h * p.w;

    var lowest = NEG_INFINITY_BITS;
    var best = bitcast<f32>(lowest);
    var at = p.h * p.w;
    for (var u = 0u; u < p.kh; u++) {
        let iy = tap(oy, u, p.stride_h, p.dil_h, p.pad_h);
        if (iy >= p.h) { continue; }
        for (var v = 0u; v < p.kw; v++) {
            let ix = tap(ox, v, p.stride_w, p.dil_w, p.pad_w);
            if (ix >= p.w) { continue; }
            let value = x[plane + iy * p.w + ix];
            if (value > best || is_nan(value) || at == p.h * p.w) {
                best = value;
                at = iy * p.w + ix;
            }
        }
    }
    y[i] = best;
    index[i] = at;
}
