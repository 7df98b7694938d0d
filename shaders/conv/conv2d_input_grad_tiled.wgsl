// Gradient of `conv2d` with respect to its input as a tiled product, for each group and each residue of the strides:
// dx = weightᵀ · columns(dy), the other way around, where
//   dx [pixels, c_in/groups],  columns [pixels, q],  weight [q, c_in/groups],  q = c_out/groups · taps.
// Pixels whose place has the same residue are reached by the same taps, and those alone are summed.
// Formula, bindings and params as in `conv2d_input_grad`.
// Workgroups: for each residue groups · ⌈c_in/groups/64⌉ · ⌈pixels/64⌉.
// While a thread multiplies one step's tiles, what the next ones will hold is on its way.
// #halves dy weight
// #narrow
// #wide
// #import shared/index
// #import shared/finish
// #import shared/conv
// #import shared/phase
// #import shared/steps
// #import shared/tile

@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// A residue's pixels: rows and columns of an image.
fn grid_of(residue: u32) -> vec2<u32> {
    return vec2<u32>(phase_count(residue / p.stride_w, p.h, p.stride_h, p.pad_h),
                     phase_count(residue % p.stride_w, p.w, p.stride_w, p.pad_w));
}

// Image, row and column of one of a residue's pixels.
fn pixel_of(number: u32, residue: u32, grid: vec2<u32>) -> vec3<u32> {
    let at = step_of(number, grid);
    return vec3<u32>(at.x, at.y * p.stride_h + phase_first(residue / p.stride_w, p.stride_h, p.pad_h),
                     at.z * p.stride_w + phase_first(residue % p.stride_w, p.stride_w, p.pad_w));
}

// What reads a pixel through the first taps: place in dy (of the group's first channel), row and column.
// Beyond the last pixel stands the last: what that gives is not stored.
fn window(number: u32, residue: u32, grid: vec2<u32>, first: u32, down: Phase, across: Phase) -> vec3<u32> {
    let at = pixel_of(min(number, p.n * grid.x * grid.y - 1u), residue, grid);
    let row = phase_output(at.y, down, p.stride_h, p.dil_h, p.pad_h);
    let column = phase_output(at.z, across, p.stride_w, p.dil_w, p.pad_w);
    return vec3<u32>(((at.x * p.c_out + first) * p.oh + row) * p.ow + column, row, column);
}

// What the pixel's tap reads, in any case, so that no read waits for a branch.
fn dy_at(window: vec3<u32>, tap: vec3<u32>, inside: bool) -> f32 {
    let read = inside & (window.y - tap.y < p.oh) & (window.z - tap.z < p.ow);
    let v = dy[select(0u, window.x + tap.x, read)];
    return select(0.0, v, read);
}

fn dy_four(windows: array<vec3<u32>, 4>, at: vec3<u32>, back: vec2<u32>, inside: bool) -> vec4<f32> {
    let up = at.y * back.x;
    let left = at.z * back.y;
    let tap = vec3<u32>((at.x * p.oh - up) * p.ow - left, up, left);
    return vec4<f32>(dy_at(windows[0], tap, inside), dy_at(windows[1], tap, inside),
                     dy_at(windows[2], tap, inside), dy_at(windows[3], tap, inside));
}

fn weight_four(start: vec4<u32>, at: vec3<u32>, apart: vec3<u32>, inside: bool) -> vec4<f32> {
    let read = select(vec4<u32>(), start + dot(at, apart), inside);
    return select(vec4<f32>(), vec4<f32>(weight[read.x], weight[read.y], weight[read.z], weight[read.w]), inside);
}

fn store(at: vec4<u32>, number: u32, channel: u32, v: vec4<f32>) {
    let grid = grid_of(at.w);
    let ins = p.c_in / p.groups;
    if (number >= p.n * grid.x * grid.y) { return; }
    let pixel = pixel_of(number, at.w, grid);
    let area = p.h * p.w;
    let to = (pixel.x * p.c_in + at.x * ins + channel) * area + pixel.y * p.w + pixel.z;
    if (channel < ins) { dx[to] = finish(to, v.x); }
    if (channel + 1u < ins) { dx[to + area] = finish(to + area, v.y); }
    if (channel + 2u < ins) { dx[to + 2u * area] = finish(to + 2u * area, v.z); }
    if (channel + 3u < ins) { dx[to + 3u * area] = finish(to + 3u * area, v.w); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let outs = p.c_out / p.groups;
    let ins = p.c_in / p.groups;
    let across = (ins + TILE - 1u) / TILE;
    // The residue whose block this is.
    var index = workgroup_index(wid, nwg);
    var residue = 0u;
    for (var i = 0u; i < p.stride_h * p.stride_w; i++) {
        let grid = grid_of(i);
        let blocks = (p.n * grid.x * grid.y + TILE - 1u) / TILE * across * p.groups;
        let beyond = residue == i && index >= blocks;
        index -= select(0u, blocks, beyond);
        residue += select(0u, 1u, beyond);
    }
    if (residue == p.stride_h * p.stride_w) { return; }
    let grid = grid_of(residue);
    let along_h = phase_of(residue / p.stride_w, p.kh, p.stride_h, p.dil_h);
    let along_w = phase_of(residue % p.stride_w, p.kw, p.stride_w, p.dil_w);
    let down = (p.n * grid.x * grid.y + TILE - 1u) / TILE;
    let group = index / (down * across);
    let block = vec4<u32>(group, index % down * TILE, index / down % across * TILE, residue);
    let taps = vec2<u32>(along_h.taps, along_w.taps);
    let back = vec2<u32>(along_h.back, along_w.back);
    let depth = outs * taps.x * taps.y;
    // Neighboring threads read neighboring pixels, and neighboring taps of the weight.
    let at_y = place(thread, false);
    let at_w = place(thread, true);
    let number = block.y + 4u * at_y.y;
    let first = group * outs;
    let windows = array<vec3<u32>, 4>(window(number, residue, grid, first, along_h, along_w),
                                      window(number + 1u, residue, grid, first, along_h, along_w),
                                      window(number + 2u, residue, grid, first, along_h, along_w),
                                      window(number + 3u, residue, grid, first, along_h, along_w));
    let channels = four_lines(block.z + 4u * at_w.y, ins);
    let start = ((first * ins + channels) * p.kh + along_h.tap0) * p.kw + along_w.tap0;
    let apart = vec3<u32>(ins * p.kh * p.kw, along_h.apart * p.kw, along_w.apart);
    let by = step_of(STEP, taps);

    var acc = Block();
    var q_y = at_y.x;
    var q_w = at_w.x;
    var tap_y = step_of(q_y, taps);
    var tap_w = step_of(q_w, taps);
    var next_y = dy_four(windows, tap_y, back, q_y < depth);
    var next_w = weight_four(start, tap_w, apart, q_w < depth);
    for (var q0 = 0u; q0 < depth; q0 += STEP) {
        tile_a[slot(at_y.x, at_y.y)] = next_y;
        tile_b[slot(at_w.x, at_w.y)] = next_w;
        workgroupBarrier();
        q_y += STEP;
        q_w += STEP;
        tap_y = stepped(tap_y, by, taps);
        tap_w = stepped(tap_w, by, taps);
        next_y = dy_four(windows, tap_y, back, q_y < depth);
        next_w = weight_four(start, tap_w, apart, q_w < depth);
        acc = tile_product(acc, thread % SIDE, thread / SIDE);
        workgroupBarrier();
    }
    store_tile(block, acc, thread % SIDE, thread / SIDE);
}
