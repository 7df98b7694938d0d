// Params, bindings and operands of products of matrices in blocks. A matrix of the result belongs to a slice of k and an
// entry of the batch: number slice · batch + entry.

struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    a_batch_stride: u32, b_batch_stride: u32,
    trans_a: u32, trans_b: u32,
    slice: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

// Where a workgroup stands: number of the result's matrix, first row, first column; w is 0 if there is no such block.
fn block_of(index: u32, side: u32) -> vec4<u32> {
    let down = (p.m + side - 1u) / side;
    let across = (p.n + side - 1u) / side;
    let matrix = index / (down * across);
    let part = matrix / p.batch;
    let there = part == 0u || part * p.slice < p.k;
    return vec4<u32>(matrix, index / across % down * side, index % across * side, select(0u, 1u, there));
}

fn a_at(base: u32, row: u32, q: u32) -> f32 {
    if (row >= p.m || q >= p.k) { return 0.0; }
    return a[base + select(row * p.k + q, q * p.m + row, p.trans_a != 0u)];
}

fn b_at(base: u32, q: u32, column: u32) -> f32 {
    if (q >= p.k || column >= p.n) { return 0.0; }
    return b[base + select(q * p.n + column, column * p.k + q, p.trans_b != 0u)];
}

// Four rows of a at a step of k, four columns of b.
fn a_four(base: u32, row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(a_at(base, row, q), a_at(base, row + 1u, q), a_at(base, row + 2u, q), a_at(base, row + 3u, q));
}

fn b_four(base: u32, q: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(b_at(base, q, column), b_at(base, q, column + 1u), b_at(base, q, column + 2u), b_at(base, q, column + 3u));
}

// No index that changes: it would put the block into memory.
fn store_row(matrix: u32, row: u32, column: u32, x: vec4<f32>) {
    if (row >= p.m) { return; }
    let at = (matrix * p.m + row) * p.n + column;
    if (column < p.n) { c[at] = x.x; }
    if (column + 1u < p.n) { c[at + 1u] = x.y; }
    if (column + 2u < p.n) { c[at + 2u] = x.z; }
    if (column + 3u < p.n) { c[at + 3u] = x.w; }
}
