// Gradient of `conv2d` with respect to its input, one element a thread:
//   dx[n,c,a,b] = Σ weight[o,c,u,v] · dy[n,o,i,j] over all o of c's group and all u, v, i, j with
//   i·stride_h + u·dil_h − pad_h = a and j·stride_w + v·dil_w − pad_w = b.
// Also the transposed convolution. Inputs: dy [n,c_out,oh,ow], weight [c_out,c_in/groups,kh,kw]. Output: dx [n,c_in,h,w].
// Params as in `conv2d`.
// Workgroups: ⌈n·c_in·h·w / 256⌉. Best with few output channels a group; else see `conv2d_input_grad_tiled`.
// #halves dy weight
// #import shared/index
// #import shared/conv
// #import shared/phase

@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n * p.c_in * p.h * p.w) { return; }
    let ix = i % p.w;
    let iy = i / p.w % p.h;
    let c = i / (p.w * p.h) % p.c_in;
    let image = i / (p.w * p.h * p.c_in);
    let per_group = p.c_in / p.groups;
    let outs = p.c_out / p.groups;
    let first = c / per_group * outs;

    let down = phase_of((iy + p.pad_h) % p.stride_h, p.kh, p.stride_h, p.dil_h);
    let across = phase_of((ix + p.pad_w) % p.stride_w, p.kw, p.stride_w, p.dil_w);
    let row = phase_output(iy, down, p.stride_h, p.dil_h, p.pad_h);
    let column = phase_output(ix, across, p.stride_w, p.dil_w, p.pad_w);

    var sum = 0.0;
    for (var o = first; o < first + outs; o++) {
        let plane = (image * p.c_out + o) * p.oh;
        let taps = (o * per_group + c % per_group) * p.kh;
        for (var u = 0u; u < down.taps; u++) {
            let oy = row - u * down.back;
            if (oy >= p.oh) { continue; }
            let line = (taps + down.tap0 + u * down.apart) * p.kw + across.tap0;
            for (var v = 0u; v < across.taps; v++) {
                let ox = column - v * across.back;
                if (ox < p.ow) { sum += weight[line + v * across.apart] * dy[(plane + oy) * p.ow + ox]; }
            }
        }
    }
    dx[i] = sum;
}
