// Convolution in two dimensions as a tiled product, for each group: y = weight · columns(x), the other way around, where
//   y [n·oh·ow, c_out/groups],  columns [n·oh·ow, q],  weight [q, c_out/groups],  q = c_in/groups · kh · kw.
// The columns are read from x tile by tile and stand nowhere in memory. Formula, bindings and params as in `conv2d`.
// Workgroups: groups · ⌈c_out/groups/64⌉ · ⌈n·oh·ow/64⌉.
// While a thread multiplies one step's tiles, what the next ones will hold is on its way.
// #halves x weight
// #narrow
// #wide
// #import shared/index
// #import shared/finish
// #import shared/conv
// #import shared/steps
// #import shared/window
// #import shared/tile

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// What an output pixel's window is: place of its corner in x (of the group's first channel), row and column of the corner.
// Left of the image and above it numbers wrap. Beyond the last pixel stands the last: what that gives is not stored.
fn window(pixel: u32, first: u32) -> vec3<u32> {
    let at = min(pixel, p.n * p.oh * p.ow - 1u);
    let row = at / p.ow % p.oh * p.stride_h - p.pad_h;
    let column = at % p.ow * p.stride_w - p.pad_w;
    let image = at / (p.oh * p.ow);
    return vec3<u32>(((image * p.c_in + first) * p.h + row) * p.w + column, row, column);
}

fn x_four(windows: array<vec3<u32>, 4>, at: vec3<u32>, inside: bool) -> vec4<f32> {
    let down = at.y * p.dil_h;
    let right = at.z * p.dil_w;
    let tap = vec3<u32>((at.x * p.h + down) * p.w + right, down, right);
    return vec4<f32>(x_at(windows[0], tap, inside), x_at(windows[1], tap, inside),
                     x_at(windows[2], tap, inside), x_at(windows[3], tap, inside));
}

fn weight_four(start: vec4<u32>, q: u32, inside: bool) -> vec4<f32> {
    let at = select(vec4<u32>(), start + q, inside);
    return select(vec4<f32>(), vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]), inside);
}

fn store(at: vec4<u32>, pixel: u32, channel: u32, v: vec4<f32>) {
    let area = p.oh * p.ow;
    let outs = p.c_out / p.groups;
    if (pixel >= p.n * area) { return; }
    let to = (pixel / area * p.c_out + at.x * outs + channel) * area + pixel % area;
    if (channel < outs) { y[to] = finish(to, v.x); }
    if (channel + 1u < outs) { y[to + area] = finish(to + area, v.y); }
    if (channel + 2u < outs) { y[to + 2u * area] = finish(to + 2u * area, v.z); }
    if (channel + 3u < outs) { y[to + 3u * area] = finish(to + 3u * area, v.w); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let outs = p.c_out / p.groups;
    let ins = p.c_in / p.groups;
    let taps = vec2<u32>(p.kh, p.kw);
    let depth = ins * p.kh * p.kw;
    let down = (p.n * p.oh * p.ow + TILE - 1u) / TILE;
    let across = (outs + TILE - 1u) / TILE;
    let index = workgroup_index(wid, nwg);
    let group = index / (down * across);
    if (group >= p.groups) { return; }
    let block = vec4<u32>(group, index % down * TILE, index / down % across * TILE, 0u);
    // Neighboring threads read neighboring pixels, and neighboring words of the weight.
    let at_x = place(thread, false);
    let at_w = place(thread, true);
    let pixel = block.y + 4u * at_x.y;
    let windows = array<vec3<u32>, 4>(window(pixel, group * ins), window(pixel + 1u, group * ins),
                                      window(pixel + 2u, group * ins), window(pixel + 3u, group * ins));
    let channels = four_lines(block.z + 4u * at_w.y, outs);
    let start = (group * outs + channels) * depth;
    let by = step_of(STEP, taps);

    var acc = Block();
    var q_x = at_x.x;
    var q_w = at_w.x;
    var tap = step_of(q_x, taps);
    var next_x = x_four(windows, tap, q_x < depth);
    var next_w = weight_four(start, q_w, q_w < depth);
    for (var q0 = 0u; q0 < depth; q0 += STEP) {
        tile_a[slot(at_x.x, at_x.y)] = next_x;
        tile_b[slot(at_w.x, at_w.y)] = next_w;
        workgroupBarrier();
        q_x += STEP;
        q_w += STEP;
        tap = stepped(tap, by, taps);
        next_x = x_four(windows, tap, q_x < depth);
        next_w = weight_four(start, q_w, q_w < depth);
        acc = tile_product(acc, thread % SIDE, thread / SIDE);
        workgroupBarrier();
    }
    store_tile(block, acc, thread % SIDE, thread / SIDE);
}
