// Convolution in two dimensions (cross-correlation), four outputs a thread, one below the other:
//   y[n,o,i,j] = Σ weight[o,c,u,v] · x[n, g·c_in/groups + c, i·stride_h + u·dil_h − pad_h, j·stride_w + v·dil_w − pad_w]
// over c < c_in/groups, u < kh, v < kw, with g the group of o; pixels outside the image are 0.
// Inputs:  x [n,c_in,h,w], weight [c_out,c_in/groups,kh,kw].  Output: y [n,c_out,oh,ow].
// Params:  n, c_in, h, w, c_out, kh, kw, oh, ow, stride_h, stride_w, pad_h, pad_w (before), dil_h, dil_w, groups.
// Workgroups: ⌈n·c_out·⌈oh/4⌉·ow / 256⌉. Best with few input channels a group; else see `conv2d_tiled`.
// #halves x weight
// #import shared/index
// #import shared/finish
// #import shared/conv

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// In any case, so that no read waits for a branch.
fn x_four(at: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    let read = select(vec4<u32>(), at, inside);
    return select(vec4<f32>(), vec4<f32>(x[read.x], x[read.y], x[read.z], x[read.w]), inside);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    let fours = (p.oh + 3u) / 4u;
    if (i >= p.n * p.c_out * fours * p.ow) { return; }
    let ox = i % p.ow;
    let oy = i / p.ow % fours * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let plane = i / (p.ow * fours);
    let o = plane % p.c_out;
    let ins = p.c_in / p.groups;
    let first = plane / p.c_out * p.c_in + o / (p.c_out / p.groups) * ins;
    let corner = oy * p.stride_h - p.pad_h;

    var sum = vec4<f32>();
    for (var c = 0u; c < ins; c++) {
        for (var u = 0u; u < p.kh; u++) {
            let iy = corner + u * p.dil_h;
            let there = iy < vec4<u32>(p.h);
            let line = ((first + c) * p.h + iy) * p.w;
            let taps = ((o * ins + c) * p.kh + u) * p.kw;
            for (var v = 0u; v < p.kw; v++) {
                let ix = tap(ox, v, p.stride_w, p.dil_w, p.pad_w);
                sum += weight[taps + v] * x_four(line + ix, there & vec4<bool>(ix < p.w));
            }
        }
    }
    let to = (plane * p.oh + oy) * p.ow + ox;
    if (oy.x < p.oh) { y[to.x] = finish(to.x, sum.x); }
    if (oy.y < p.oh) { y[to.y] = finish(to.y, sum.y); }
    if (oy.z < p.oh) { y[to.z] = finish(to.z, sum.z); }
    if (oy.w < p.oh) { y[to.w] = finish(to.w, sum.w); }
}
