// Convolution in two dimensions (cross-correlation), one output a thread:
//   y[n,o,i,j] = Σ_{c,u,v} weight[o,c,u,v] · x[n, g·c_in/groups + c, i·stride_h + u·dil_h − pad_h, j·stride_w + v·dil_w − pad_w]
// with g the group of o. Pixels outside the image are 0.
// Inputs:  x [n,c_in,h,w], weight [c_out,c_in/groups,kh,kw].  Output: y [n,c_out,oh,ow].
// Params:  n, c_in, h, w, c_out, kh, kw, oh, ow, stride_h, stride_w, pad_h (top), pad_w (left), dil_h, dil_w, groups.
// Workgroups: ⌈n·c_out·oh·ow / 256⌉. Best with few input channels a group (depthwise); else see `conv2d_tiled`.
// #halves x weight
// #import shared/index
// #import shared/conv

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n * p.c_out * p.oh * p.ow) { return; }
    let ox = i % p.ow;
    let oy = i / p.ow % p.oh;
    let o = i / (p.ow * p.oh) % p.c_out;
    let image = i / (p.ow * p.oh * p.c_out);
    let per_group = p.c_in / p.groups;
    let first = o / (p.c_out / p.groups) * per_group;

    var sum = 0.0;
    for (var c = 0u; c < per_group; c++) {
        let plane = (image * p.c_in + first + c) * p.h;
        let taps = (o * per_group + c) * p.kh;
        for (var u = 0u; u < p.kh; u++) {
            let iy = tap(oy, u, p.stride_h, p.dil_h, p.pad_h);
            if (iy >= p.h) { continue; }
            for (var v = 0u; v < p.kw; v++) {
                let ix = tap(ox, v, p.stride_w, p.dil_w, p.pad_w);
                if (ix < p.w) { sum += weight[(taps + u) * p.kw + v] * x[(plane + iy) * p.w + ix]; }
            }
        }
    }
    y[i] = sum;
}
