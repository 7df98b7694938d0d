// Gradient of `conv2d` with respect to its input as a tiled product, for each group: dx = weightᵀ · columns(dy), where
//   dx [c_in/groups, n·h·w],  weightᵀ [c_in/groups, q],  columns [q, n·h·w],  q = c_out/groups · kh · kw.
// Formula, bindings and params as in `conv2d_input_grad`.
// Workgroups: groups · ⌈c_in/groups/64⌉ · ⌈n·h·w/64⌉.
// #halves dy weight
// #narrow
// #import shared/index
// #import shared/conv
// #import shared/tile

@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// A column's input pixel: first plane of its image in dy, row, column; w is 0 where there is no such column.
fn pixel(column: u32, group: u32) -> vec4<u32> {
    let image = column / (p.h * p.w);
    let first = image * p.c_out + group * (p.c_out / p.groups);
    return vec4<u32>(first, column / p.w % p.h, column % p.w, select(0u, 1u, image < p.n));
}

// One word of the columns: output channel, kernel row and kernel column in `at`.
fn dy_at(at: vec3<u32>, column: vec4<u32>, inside: bool) -> f32 {
    let oy = untap(column.y, at.y, p.stride_h, p.dil_h, p.pad_h);
    let ox = untap(column.z, at.z, p.stride_w, p.dil_w, p.pad_w);
    if (!inside || column.w == 0u || oy >= p.oh || ox >= p.ow) { return 0.0; }
    return dy[((column.x + at.x) * p.oh + oy) * p.ow + ox];
}

// weightᵀ[row, q] with q = (o·kh + u)·kw + v; `taps` is kh·kw.
fn weight_at(group: u32, row: u32, rows: u32, q: u32, taps: u32) -> f32 {
    let outs = p.c_out / p.groups;
    let o = q / taps;
    if (row >= rows || o >= outs) { return 0.0; }
    return weight[((group * outs + o) * rows + row) * taps + q % taps];
}

// No index that changes: it would put the block into memory.
fn store_column(column: u32, row: u32, first: u32, v: vec4<f32>) {
    let area = p.h * p.w;
    let rows = p.c_in / p.groups;
    if (column >= p.n * area) { return; }
    let image = column / area;
    let at = (image * p.c_in + first + row) * area + column - image * area;
    if (row < rows) { dx[at] = v.x; }
    if (row + 1u < rows) { dx[at + area] = v.y; }
    if (row + 2u < rows) { dx[at + 2u * area] = v.z; }
    if (row + 3u < rows) { dx[at + 3u * area] = v.w; }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let rows = p.c_in / p.groups;
    let area = p.h * p.w;
    let columns = p.n * area;
    let taps = p.kh * p.kw;
    let depth = p.c_out / p.groups * taps;
    let tiles_m = (rows + TILE - 1u) / TILE;
    let tiles_n = (columns + TILE - 1u) / TILE;
    let tile = workgroup_index(wid, nwg);
    let group = tile / (tiles_m * tiles_n);
    if (group >= p.groups) { return; }
    let row0 = tile / tiles_n % tiles_m * TILE;
    let column0 = tile % tiles_n * TILE;
    let low = thread % STEP;
    let high = thread / STEP;
    let row = row0 + 4u * high;
    let column = column0 + 4u * low;
    let c0 = pixel(column, group);
    let c1 = pixel(column + 1u, group);
    let c2 = pixel(column + 2u, group);
    let c3 = pixel(column + 3u, group);

    var acc = mat4x4<f32>();
    for (var q0 = 0u; q0 < depth; q0 += STEP) {
        let qa = q0 + low;
        let qb = q0 + high;
        let at = vec3<u32>(qb / taps, qb / p.kw % p.kh, qb % p.kw);
        let inside = qb < depth;
        tile_a[tile_slot(low, high)] =
            vec4<f32>(weight_at(group, row, rows, qa, taps), weight_at(group, row + 1u, rows, qa, taps),
                      weight_at(group, row + 2u, rows, qa, taps), weight_at(group, row + 3u, rows, qa, taps));
        tile_b[tile_slot(high, low)] =
            vec4<f32>(dy_at(at, c0, inside), dy_at(at, c1, inside), dy_at(at, c2, inside), dy_at(at, c3, inside));
        workgroupBarrier();
        acc = tile_product(acc, high, low);
        workgroupBarrier();
    }
    store_column(column, row, group * rows, vec4<f32>(acc[0].x, acc[1].x, acc[2].x, acc[3].x));
    store_column(column + 1u, row, group * rows, vec4<f32>(acc[0].y, acc[1].y, acc[2].y, acc[3].y));
    store_column(column + 2u, row, group * rows, vec4<f32>(acc[0].z, acc[1].z, acc[2].z, acc[3].z));
    store_column(column + 3u, row, group * rows, vec4<f32>(acc[0].w, acc[1].w, acc[2].w, acc[3].w));
}
