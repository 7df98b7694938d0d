// Gradient of `avg_pool2d`: dx[c,a,b] = Σ dy[c,i,j] / count[i,j] over the windows that cover pixel (a, b).
// Inputs:  dy [planes,oh,ow].  Output: dx [planes,h,w].  Params as in `avg_pool2d`.
// Workgroups: ⌈planes·h·w / 256⌉.
// #import shared/index
// #import shared/tap
// #import shared/avg_pool

@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.planes * p.h * p.w) { return; }
    let ix = i % p.w;
    let iy = i / p.w % p.h;
    let plane = i / (p.w * p.h) * p.oh;

    var sum = 0.0;
    for (var u = 0u; u < p.kh; u++) {
        let oy = untap(iy, u, p.stride_h, 1u, p.pad_h);
        if (oy >= p.oh) { continue; }
        for (var v = 0u; v < p.kw; v++) {
            let ox = untap(ix, v, p.stride_w, 1u, p.pad_w);
            if (ox < p.ow) { sum += dy[(plane + oy) * p.ow + ox] / divisor(oy, ox); }
        }
    }
    dx[i] = sum;
}
