// Gradient of `conv2d` with respect to its weight:
//   dw[o,c,u,v] = Σ_{n,i,j} dy[n,o,i,j] · x[n, g·c_in/groups + c, i·stride_h + u·dil_h − pad_h, j·stride_w + v·dil_w − pad_w]
// Inputs:  x [n,c_in,h,w], dy [n,c_out,oh,ow].  Output: dw [c_out,c_in/groups,kh,kw].  Params as in `conv2d`.
// Workgroups: groups · ⌈c_out/groups/4⌉ · ⌈q/4⌉, q = c_in/groups · kh · kw.
// A workgroup makes a block of 4 output channels by 4 taps. Its threads share the output pixels out among them, and a
// fixed tree adds their parts up.
// #halves x dy
// #import shared/index
// #import shared/conv

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

var<workgroup> parts: array<vec4<f32>, 256>;

// Input channel, kernel row and kernel column of tap q; w is 0 where there is no such tap.
fn tap_of(q: u32, depth: u32, group: u32) -> vec4<u32> {
    let c = q / (p.kh * p.kw) + group * (p.c_in / p.groups);
    return vec4<u32>(c, q / p.kw % p.kh, q % p.kw, select(0u, 1u, q < depth));
}

fn x_at(image: u32, oy: u32, ox: u32, at: vec4<u32>) -> f32 {
    let iy = tap(oy, at.y, p.stride_h, p.dil_h, p.pad_h);
    let ix = tap(ox, at.z, p.stride_w, p.dil_w, p.pad_w);
    if (at.w == 0u || iy >= p.h || ix >= p.w) { return 0.0; }
    return x[((image * p.c_in + at.x) * p.h + iy) * p.w + ix];
}

// The sum over all threads.
fn total(part: vec4<f32>, thread: u32) -> vec4<f32> {
    parts[thread] = part;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) { parts[thread] += parts[thread + half]; }
    }
    workgroupBarrier();
    let sum = parts[0];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let rows = p.c_out / p.groups;
    let depth = p.c_in / p.groups * p.kh * p.kw;
    let blocks_q = (depth + 3u) / 4u;
    let blocks_o = (rows + 3u) / 4u;
    let block = workgroup_index(wid, nwg);
    let group = block / (blocks_o * blocks_q);
    if (group >= p.groups) { return; }
    let row = block / blocks_q % blocks_o * 4u;
    let q = block % blocks_q * 4u;
    let t0 = tap_of(q, depth, group);
    let t1 = tap_of(q + 1u, depth, group);
    let t2 = tap_of(q + 2u, depth, group);
    let t3 = tap_of(q + 3u, depth, group);
    let area = p.oh * p.ow;

    var acc = mat4x4<f32>();
    for (var at = thread; at < p.n * area; at += 256u) {
        let image = at / area;
        let oy = at / p.ow % p.oh;
        let ox = at % p.ow;
        let column = vec4<f32>(x_at(image, oy, ox, t0), x_at(image, oy, ox, t1), x_at(image, oy, ox, t2), x_at(image, oy, ox, t3));
        // A row too many repeats the last one; it is not written.
        let base = (image * p.c_out + group * rows) * area + at % area;
        let last = rows - 1u;
        acc[0] += dy[base + row * area] * column;
        acc[1] += dy[base + min(row + 1u, last) * area] * column;
        acc[2] += dy[base + min(row + 2u, last) * area] * column;
        acc[3] += dy[base + min(row + 3u, last) * area] * column;
    }
    for (var i = 0u; i < 4u; i++) {
        let sum = total(acc[i], thread);
        let r = row + i;
        let j = q + thread;
        if (thread < 4u && r < rows && j < depth) { dw[(group * rows + r) * depth + j] = sum[thread]; }
    }
}
