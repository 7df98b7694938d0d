// Gradient of `conv2d` with respect to its input, four elements a thread, one below the other in steps of the stride:
//   dx[n,c,a,b] = Σ weight[o,c,u,v] · dy[n,o,i,j] over all o of c's group and all u, v, i, j with
//   i·stride_h + u·dil_h − pad_h = a and j·stride_w + v·dil_w − pad_w = b.
// Also the transposed convolution. Inputs: dy [n,c_out,oh,ow], weight [c_out,c_in/groups,kh,kw]. Output: dx [n,c_in,h,w].
// Params as in `conv2d`.
// Workgroups: ⌈n·c_in·⌈h/(4·stride_h)⌉·stride_h·w / 256⌉. Best with few output channels a group; else see `conv2d_input_grad_tiled`.
// #halves dy weight
// #import shared/index
// #import shared/finish
// #import shared/conv
// #import shared/phase

@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// In any case, so that no read waits for a branch.
fn dy_four(at: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    let read = select(vec4<u32>(), at, inside);
    return select(vec4<f32>(), vec4<f32>(dy[read.x], dy[read.y], dy[read.z], dy[read.w]), inside);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    // Rows of one residue of the stride: the same taps reach them.
    let lines = ((p.h - 1u) / p.stride_h / 4u + 1u) * p.stride_h;
    if (i >= p.n * p.c_in * lines * p.w) { return; }
    let ix = i % p.w;
    let line = i / p.w % lines;
    let plane = i / (p.w * lines);
    let iy = line / p.stride_h * 4u * p.stride_h + line % p.stride_h + vec4<u32>(0u, 1u, 2u, 3u) * p.stride_h;
    let c = plane % p.c_in;
    let ins = p.c_in / p.groups;
    let outs = p.c_out / p.groups;
    let first = c / ins * outs;
    let image = plane / p.c_in;
    let down = phase_of((iy.x + p.pad_h) % p.stride_h, p.kh, p.stride_h, p.dil_h);
    let across = phase_of((ix + p.pad_w) % p.stride_w, p.kw, p.stride_w, p.dil_w);
    let row = phase_output(iy.x, down, p.stride_h, p.dil_h, p.pad_h) + vec4<u32>(0u, 1u, 2u, 3u);
    let column = phase_output(ix, across, p.stride_w, p.dil_w, p.pad_w);

    var sum = vec4<f32>();
    for (var o = first; o < first + outs; o++) {
        for (var u = 0u; u < down.taps; u++) {
            let oy = row - u * down.back;
            let there = oy < vec4<u32>(p.oh);
            let source = ((image * p.c_out + o) * p.oh + oy) * p.ow;
            let taps = ((o * ins + c % ins) * p.kh + down.tap0 + u * down.apart) * p.kw + across.tap0;
            for (var v = 0u; v < across.taps; v++) {
                let ox = column - v * across.back;
                sum += weight[taps + v * across.apart] * dy_four(source + ox, there & vec4<bool>(ox < p.ow));
            }
        }
    }
    let to = (plane * p.h + iy) * p.w + ix;
    if (iy.x < p.h) { dx[to.x] = finish(to.x, sum.x); }
    if (iy.y < p.h) { dx[to.y] = finish(to.y, sum.y); }
    if (iy.z < p.h) { dx[to.z] = finish(to.z, sum.z); }
    if (iy.w < p.h) { dx[to.w] = finish(to.w, sum.w); }
}
