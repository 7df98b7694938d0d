// Gradient of `conv2d` with respect to its weight as a tiled product, for each group and each slice of the output pixels:
// dw = dy · columns(x)ᵀ, where dy [c_out/groups, n·oh·ow], columns [q, n·oh·ow], q = c_in/groups · kh · kw.
// The columns are read from x tile by tile and stand nowhere in memory.
// Inputs:  x [n,c_in,h,w], dy [n,c_out,oh,ow].  Output: dw [slices,c_out,c_in/groups,kh,kw].
// Params as in `conv2d`, and slice: how many pixels one slice has, a multiple of 16 (n·oh·ow or more: one slice).
// Workgroups: slices · groups · ⌈c_out/groups/64⌉ · ⌈q/64⌉. Each sums over the pixels in order.
// #halves x dy
// #narrow
// #import shared/index
// #import shared/tap
// #import shared/tile

struct Params {
    n: u32, c_in: u32, h: u32, w: u32,
    c_out: u32, kh: u32, kw: u32, oh: u32, ow: u32,
    stride_h: u32, stride_w: u32, pad_h: u32, pad_w: u32, dil_h: u32, dil_w: u32,
    groups: u32,
    slice: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

// Input channel, kernel row and kernel column of tap q; w is 0 where there is no such tap.
fn tap_of(q: u32, depth: u32, group: u32) -> vec4<u32> {
    let c = q / (p.kh * p.kw) + group * (p.c_in / p.groups);
    return vec4<u32>(c, q / p.kw % p.kh, q % p.kw, select(0u, 1u, q < depth));
}

// One word of the columns: image, row and column of the output pixel in `at`, w is 0 where there is none.
fn x_at(at: vec4<u32>, on: vec4<u32>) -> f32 {
    let iy = tap(at.y, on.y, p.stride_h, p.dil_h, p.pad_h);
    let ix = tap(at.z, on.z, p.stride_w, p.dil_w, p.pad_w);
    if (at.w == 0u || on.w == 0u || iy >= p.h || ix >= p.w) { return 0.0; }
    return x[((at.x * p.c_in + on.x) * p.h + iy) * p.w + ix];
}

fn dy_at(at: vec4<u32>, row: u32, rows: u32, first: u32) -> f32 {
    if (at.w == 0u || row >= rows) { return 0.0; }
    return dy[((at.x * p.c_out + first + row) * p.oh + at.y) * p.ow + at.z];
}

// No index that changes: it would put the block into memory.
fn store_row(part: u32, row: u32, rows: u32, first: u32, q: u32, depth: u32, v: vec4<f32>) {
    if (row >= rows) { return; }
    let at = (part * p.c_out + first + row) * depth + q;
    if (q < depth) { dw[at] = v.x; }
    if (q + 1u < depth) { dw[at + 1u] = v.y; }
    if (q + 2u < depth) { dw[at + 2u] = v.z; }
    if (q + 3u < depth) { dw[at + 3u] = v.w; }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let rows = p.c_out / p.groups;
    let depth = p.c_in / p.groups * p.kh * p.kw;
    let area = p.oh * p.ow;
    let pixels = p.n * area;
    let tiles_m = (rows + TILE - 1u) / TILE;
    let tiles_n = (depth + TILE - 1u) / TILE;
    let tile = workgroup_index(wid, nwg);
    let group = tile / (tiles_m * tiles_n) % p.groups;
    let part = tile / (tiles_m * tiles_n) / p.groups;
    if (part > 0u && part * p.slice >= pixels) { return; }
    let begin = part * p.slice;
    let end = min(pixels, begin + p.slice);
    let row0 = tile / tiles_n % tiles_m * TILE;
    let q0 = tile % tiles_n * TILE;
    let first = group * rows;
    // Neighboring threads read neighboring pixels of either operand.
    let low = thread % STEP;
    let high = thread / STEP;
    let row = row0 + 4u * high;
    let t0 = tap_of(q0 + 4u * high, depth, group);
    let t1 = tap_of(q0 + 4u * high + 1u, depth, group);
    let t2 = tap_of(q0 + 4u * high + 2u, depth, group);
    let t3 = tap_of(q0 + 4u * high + 3u, depth, group);

    var acc = mat4x4<f32>();
    for (var pixel0 = begin; pixel0 < end; pixel0 += STEP) {
        let pixel = pixel0 + low;
        let at = vec4<u32>(pixel / area, pixel / p.ow % p.oh, pixel % p.ow, select(0u, 1u, pixel < pixels));
        tile_a[tile_slot(low, high)] = vec4<f32>(dy_at(at, row, rows, first), dy_at(at, row + 1u, rows, first),
                                                 dy_at(at, row + 2u, rows, first), dy_at(at, row + 3u, rows, first));
        tile_b[tile_slot(low, high)] = vec4<f32>(x_at(at, t0), x_at(at, t1), x_at(at, t2), x_at(at, t3));
        workgroupBarrier();
        acc = tile_product(acc, high, low);
        workgroupBarrier();
    }
    let r = row0 + 4u * high;
    let q = q0 + 4u * low;
    store_row(part, r, rows, first, q, depth, acc[0]);
    store_row(part, r + 1u, rows, first, q, depth, acc[1]);
    store_row(part, r + 2u, rows, first, q, depth, acc[2]);
    store_row(part, r + 3u, rows, first, q, depth, acc[3]);
}
