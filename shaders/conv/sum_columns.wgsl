// The adjoint of `columns`: each pixel is the sum of the columns that it stands in,
//   x[image,c,iy,ix] = Σ_{u,v} columns[image, (c·kh + u)·kw + v, oy·ow + ox], with oy·stride_h + u − pad_h = iy, ox likewise.
// Input: columns [n, c_in·kh·kw, oh·ow].  Output: x [n,c_in,h,w].  Params as in `conv2d`, one group, no dilation.
// Workgroups: ⌈n·c_in·h·⌈w/8⌉ / 256⌉. A thread makes eight pixels of a row: divisions cost more than sums.
// #import shared/index
// #import shared/conv

@group(0) @binding(1) var<storage, read_write> columns: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    let chunks = (p.w + 7u) / 8u;
    let row = i / chunks;
    let plane = row / p.h;
    if (plane >= p.n * p.c_in) { return; }
    let y = row - plane * p.h + p.pad_h;
    let first = (i - row * chunks) * 8u;
    let end = min(first + 8u, p.w);
    // From one tap that meets the pixel to the next, the output pixel moves by one.
    let first_y = y / p.stride_h;
    let first_u = y - first_y * p.stride_h;
    var first_x = (first + p.pad_w) / p.stride_w;
    var first_v = first + p.pad_w - first_x * p.stride_w;
    let taps = plane * p.kh * p.kw;
    let area = p.oh * p.ow;
    for (var ix = first; ix < end; ix++) {
        var total = 0.0;
        var oy = first_y;
        for (var u = first_u; u < p.kh; u += p.stride_h) {
            var ox = first_x;
            for (var v = first_v; v < p.kw; v += p.stride_w) {
                // Above or left of the first output pixel wraps to a huge number.
                if (oy < p.oh && ox < p.ow) { total += columns[(taps + u * p.kw + v) * area + oy * p.ow + ox]; }
                ox -= 1u;
            }
            oy -= 1u;
        }
        x[row * p.w + ix] = total;
        first_v += 1u;
        if (first_v == p.stride_w) {
            first_v = 0u;
            first_x += 1u;
        }
    }
}
