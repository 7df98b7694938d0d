// Gradient of `max_pool2d`: dx[c,a] = Σ dy[c,i,j] over the windows with index[c,i,j] = a, a pixel of the plane.
// Inputs:  dy [planes,oh,ow], index [planes,oh,ow] u32 (second output of `max_pool2d`).
// Output:  dx [planes,h,w].  Params as in `max_pool2d`.
// Workgroups: ⌈planes·h·w / 256⌉. A thread looks at the windows that cover its pixel.
// #import shared/index
// #import shared/max_pool

@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.planes * p.h * p.w) { return; }
    let pixel = i % (p.h * p.w);
    let plane = i / (p.h * p.w) * p.oh;

    var sum = 0.0;
    for (var u = 0u; u < p.kh; u++) {
        let oy = untap(pixel / p.w, u, p.stride_h, p.dil_h, p.pad_h);
        if (oy >= p.oh) { continue; }
        for (var v = 0u; v < p.kw; v++) {
            let ox = untap(pixel % p.w, v, p.stride_w, p.dil_w, p.pad_w);
            if (ox >= p.ow) { continue; }
            let at = (plane + oy) * p.ow + ox;
            if (index[at] == pixel) { sum += dy[at]; }
        }
    }
    dx[i] = sum;
}
