// Gradient of `conv2d` with respect to its weight as a tiled product, for each group and each slice of the output pixels:
// dw = dy · columns(x)ᵀ, where dy [c_out/groups, n·oh·ow], columns [q, n·oh·ow], q = c_in/groups · kh · kw.
// The columns are read from x tile by tile and stand nowhere in memory.
// Inputs:  x [n,c_in,h,w], dy [n,c_out,oh,ow].  Output: dw [slices,c_out,c_in/groups,kh,kw].
// Params as in `conv2d`, and slice: how many pixels one slice has, a multiple of 16 (n·oh·ow or more: one slice).
// Workgroups: slices · groups · ⌈c_out/groups/64⌉ · ⌈q/64⌉. Each sums over the pixels in order.
// While a thread multiplies one step's tiles, what the next ones will hold is on its way.
// #halves x dy
// #narrow
// #wide
// #import shared/index
// #import shared/steps
// #import shared/window
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

// A tap of the group whose first channel this is: where it reads from a window's corner, how far down and how far right.
// Beyond the last tap stands the last: what that gives is not stored.
fn tap_of(q: u32, first: u32) -> vec3<u32> {
    let taps = p.kh * p.kw;
    let at = step_of(min(q, p.c_in / p.groups * taps - 1u), vec2<u32>(p.kh, p.kw));
    let down = at.y * p.dil_h;
    let right = at.z * p.dil_w;
    return vec3<u32>(((first + at.x) * p.h + down) * p.w + right, down, right);
}

// Four taps at an output pixel: image, row and column. Left of the image and above it numbers wrap.
fn x_four(taps: array<vec3<u32>, 4>, at: vec3<u32>, inside: bool) -> vec4<f32> {
    let row = at.y * p.stride_h - p.pad_h;
    let column = at.z * p.stride_w - p.pad_w;
    let window = vec3<u32>((at.x * p.c_in * p.h + row) * p.w + column, row, column);
    return vec4<f32>(x_at(window, taps[0], inside), x_at(window, taps[1], inside),
                     x_at(window, taps[2], inside), x_at(window, taps[3], inside));
}

fn dy_four(start: vec4<u32>, at: vec3<u32>, inside: bool) -> vec4<f32> {
    let to = (at.x * p.c_out * p.oh + at.y) * p.ow + at.z;
    let read = select(vec4<u32>(), start + to, inside);
    return select(vec4<f32>(), vec4<f32>(dy[read.x], dy[read.y], dy[read.z], dy[read.w]), inside);
}

fn store(at: vec4<u32>, row: u32, q: u32, v: vec4<f32>) {
    let outs = p.c_out / p.groups;
    let depth = p.c_in / p.groups * p.kh * p.kw;
    if (row >= outs) { return; }
    let to = (at.x * outs + row) * depth + q;
    if (q < depth) { dw[to] = v.x; }
    if (q + 1u < depth) { dw[to + 1u] = v.y; }
    if (q + 2u < depth) { dw[to + 2u] = v.z; }
    if (q + 3u < depth) { dw[to + 3u] = v.w; }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let outs = p.c_out / p.groups;
    let ins = p.c_in / p.groups;
    let size = vec2<u32>(p.oh, p.ow);
    let pixels = p.n * p.oh * p.ow;
    let down = (outs + TILE - 1u) / TILE;
    let across = (ins * p.kh * p.kw + TILE - 1u) / TILE;
    let index = workgroup_index(wid, nwg);
    // Number slice · groups + group.
    let piece = index / (down * across);
    let group = piece % p.groups;
    let part = piece / p.groups;
    if (part > 0u && part * p.slice >= pixels) { return; }
    let block = vec4<u32>(piece, index / across % down * TILE, index % across * TILE, 0u);
    let begin = part * p.slice;
    let end = min(pixels, begin + p.slice);
    // Neighboring threads read neighboring pixels of either operand.
    let at = place(thread, true);
    let rows = four_lines(block.y + 4u * at.y, outs);
    let start = (group * outs + rows) * p.oh * p.ow;
    let q = block.z + 4u * at.y;
    let taps = array<vec3<u32>, 4>(tap_of(q, group * ins), tap_of(q + 1u, group * ins),
                                   tap_of(q + 2u, group * ins), tap_of(q + 3u, group * ins));
    let by = step_of(STEP, size);

    var acc = Block();
    var number = begin + at.x;
    var pixel = step_of(number, size);
    var next_y = dy_four(start, pixel, number < end);
    var next_x = x_four(taps, pixel, number < end);
    for (var pixel0 = begin; pixel0 < end; pixel0 += STEP) {
        tile_a[slot(at.x, at.y)] = next_y;
        tile_b[slot(at.x, at.y)] = next_x;
        workgroupBarrier();
        number += STEP;
        pixel = stepped(pixel, by, size);
        next_y = dy_four(start, pixel, number < end);
        next_x = x_four(taps, pixel, number < end);
        acc = tile_product(acc, thread / SIDE, thread % SIDE);
        workgroupBarrier();
    }
    store_tile(block, acc, thread / SIDE, thread % SIDE);
}
