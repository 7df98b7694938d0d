// The pixels that a convolution multiplies, so that it becomes a product: columns[image,q,s] is the pixel that tap q of the
// kernel meets at output pixel s, 0 in the padding; q = (c·kh + u)·kw + v.
// Input: x [n,c_in,h,w].  Output: columns [n, d, oh·ow], d = c_in·kh·kw rounded up to a multiple of 4, with rows of zeros
// behind; oh·ow is a multiple of 4.  Params as in `conv2d`, one group.
// Workgroups: ⌈n · d · ⌈oh·ow/16⌉ / 256⌉. A thread makes sixteen columns: divisions cost more than pixels.
// #needs int64
// #import shared/index
// #import shared/conv
// #import shared/pairs

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> columns: array<vec2<u64>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let area = p.oh * p.ow;
    let chunks = (area + 15u) / 16u;
    let taps = p.kh * p.kw;
    let i = element_index(wid, nwg, thread);
    let depth = (p.c_in * taps + 3u) / 4u * 4u;
    let line = i / chunks;
    let image = line / depth;
    if (image >= p.n) { return; }
    let q = line - image * depth;
    let c = q / taps;
    let u = (q - c * taps) / p.kw;
    let v = q - c * taps - u * p.kw;
    let base = (image * p.c_in + c) * p.h;
    // Rows of an image; none behind the last channel.
    let height = select(0u, p.h, c < p.c_in);
    let first = (i - line * chunks) * 16u;
    let end = min(first + 16u, area);
    var oy = first / p.ow;
    var ox = first - oy * p.ow;
    for (var s = first; s < end; s += 4u) {
        var four = vec4<f32>();
        for (var j = 0u; j < 4u; j++) {
            let iy = tap(oy, u, p.stride_h, p.dil_h, p.pad_h);
            let ix = tap(ox, v, p.stride_w, p.dil_w, p.pad_w);
            // A four that is filled from behind: no index that changes.
            four = vec4<f32>(four.yzw, 0.0);
            if (iy < height && ix < p.w) { four.w = x[(base + iy) * p.w + ix]; }
            ox += 1u;
            if (ox == p.ow) {
                ox = 0u;
                oy += 1u;
            }
        }
        columns[(line * area + s) / 4u] = pairs_of(bitcast<vec4<u32>>(four));
    }
}
