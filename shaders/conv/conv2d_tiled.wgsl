// Convolution in two dimensions as a tiled product, for each group: y = weight · columns(x), where
//   y [c_out/groups, n·oh·ow],  weight [c_out/groups, q],  columns [q, n·oh·ow],  q = c_in/groups · kh · kw.
// The columns are read from x tile by tile and stand nowhere in memory. Formula, bindings and params as in `conv2d`.
// Workgroups: groups · ⌈c_out/groups/64⌉ · ⌈n·oh·ow/64⌉.
// #halves x weight
// #narrow
// #import shared/index
// #import shared/conv
// #import shared/tile

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// A column's output pixel: first plane of its image in x, row, column; w is 0 where there is no such column.
fn pixel(column: u32, group: u32) -> vec4<u32> {
    let image = column / (p.oh * p.ow);
    let first = image * p.c_in + group * (p.c_in / p.groups);
    return vec4<u32>(first, column / p.ow % p.oh, column % p.ow, select(0u, 1u, image < p.n));
}

// One word of the columns: input channel, kernel row and kernel column in `at`.
fn x_at(at: vec3<u32>, column: vec4<u32>, inside: bool) -> f32 {
    let iy = tap(column.y, at.y, p.stride_h, p.dil_h, p.pad_h);
    let ix = tap(column.z, at.z, p.stride_w, p.dil_w, p.pad_w);
    if (!inside || column.w == 0u || iy >= p.h || ix >= p.w) { return 0.0; }
    return x[((column.x + at.x) * p.h + iy) * p.w + ix];
}

fn weight_at(first: u32, row: u32, rows: u32, q: u32, depth: u32) -> f32 {
    if (row >= rows || q >= depth) { return 0.0; }
    return weight[(first + row) * depth + q];
}

// No index that changes: it would put the block into memory.
fn store_column(column: u32, row: u32, first: u32, v: vec4<f32>) {
    let area = p.oh * p.ow;
    let rows = p.c_out / p.groups;
    if (column >= p.n * area) { return; }
    let image = column / area;
    let at = (image * p.c_out + first + row) * area + column - image * area;
    if (row < rows) { y[at] = v.x; }
    if (row + 1u < rows) { y[at + area] = v.y; }
    if (row + 2u < rows) { y[at + 2u * area] = v.z; }
    if (row + 3u < rows) { y[at + 3u * area] = v.w; }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let rows = p.c_out / p.groups;
    let area = p.oh * p.ow;
    let columns = p.n * area;
    let depth = p.c_in / p.groups * p.kh * p.kw;
    let tiles_m = (rows + TILE - 1u) / TILE;
    let tiles_n = (columns + TILE - 1u) / TILE;
    let tile = workgroup_index(wid, nwg);
    let group = tile / (tiles_m * tiles_n);
    if (group >= p.groups) { return; }
    let row0 = tile / tiles_n % tiles_m * TILE;
    let column0 = tile % tiles_n * TILE;
    let low = thread % STEP;
    let high = thread / STEP;
    let first = group * rows;
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
        let at = vec3<u32>(qb / (p.kh * p.kw), qb / p.kw % p.kh, qb % p.kw);
        let inside = qb < depth;
        tile_a[tile_slot(low, high)] =
            vec4<f32>(weight_at(first, row, rows, qa, depth), weight_at(first, row + 1u, rows, qa, depth),
                      weight_at(first, row + 2u, rows, qa, depth), weight_at(first, row + 3u, rows, qa, depth));
        tile_b[tile_slot(high, low)] =
            vec4<f32>(x_at(at, c0, inside), x_at(at, c1, inside), x_at(at, c2, inside), x_at(at, c3, inside));
        workgroupBarrier();
        acc = tile_product(acc, high, low);
        workgroupBarrier();
    }
    store_column(column, row, first, vec4<f32>(acc[0].x, acc[1].x, acc[2].x, acc[3].x));
    store_column(column + 1u, row, first, vec4<f32>(acc[0].y, acc[1].y, acc[2].y, acc[3].y));
    store_column(column + 2u, row, first, vec4<f32>(acc[0].z, acc[1].z, acc[2].z, acc[3].z));
    store_column(column + 3u, row, first, vec4<f32>(acc[0].w, acc[1].w, acc[2].w, acc[3].w));
}
