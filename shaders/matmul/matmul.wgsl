// Product of matrices, one for each entry of a batch: c[b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j].
// Inputs:  a [batch,m,k], or [batch,k,m] if trans_a; b [batch,k,n], or [batch,n,k] if trans_b.
// Output:  c [batch,m,n].
// Params:  m, n, k, batch, a_batch_stride, b_batch_stride (elements from one matrix to the next; 0 = shared),
//          trans_a, trans_b (0 or 1).
// Workgroups: batch · ⌈m/64⌉ · ⌈n/64⌉. Each sums over q in order, so the answer does not depend on the batch.
// #halves a b
// #import shared/index
// #import shared/tile

struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    a_batch_stride: u32, b_batch_stride: u32,
    trans_a: u32, trans_b: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

fn a_at(base: u32, row: u32, q: u32) -> f32 {
    if (row >= p.m || q >= p.k) { return 0.0; }
    return a[base + select(row * p.k + q, q * p.m + row, p.trans_a != 0u)];
}

fn b_at(base: u32, q: u32, column: u32) -> f32 {
    if (q >= p.k || column >= p.n) { return 0.0; }
    return b[base + select(q * p.n + column, column * p.k + q, p.trans_b != 0u)];
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

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let tiles_m = (p.m + TILE - 1u) / TILE;
    let tiles_n = (p.n + TILE - 1u) / TILE;
    let tile = workgroup_index(wid, nwg);
    let matrix = tile / (tiles_m * tiles_n);
    if (matrix >= p.batch) { return; }
    let row0 = (tile / tiles_n) % tiles_m * TILE;
    let column0 = tile % tiles_n * TILE;
    let base_a = matrix * p.a_batch_stride;
    let base_b = matrix * p.b_batch_stride;

    // Neighboring threads read neighboring words, whichever way the operand is stored.
    let low = thread % 16u;
    let high = thread / 16u;
    let a_step = select(low, high, p.trans_a != 0u);
    let a_group = select(high, low, p.trans_a != 0u);
    let b_step = select(high, low, p.trans_b != 0u);
    let b_group = select(low, high, p.trans_b != 0u);
    let row = row0 + 4u * a_group;
    let column = column0 + 4u * b_group;

    var acc = mat4x4<f32>();
    for (var q0 = 0u; q0 < p.k; q0 += STEP) {
        let qa = q0 + a_step;
        let qb = q0 + b_step;
        tile_a[tile_slot(a_step, a_group)] = vec4<f32>(a_at(base_a, row, qa), a_at(base_a, row + 1u, qa),
                                                       a_at(base_a, row + 2u, qa), a_at(base_a, row + 3u, qa));
        tile_b[tile_slot(b_step, b_group)] = vec4<f32>(b_at(base_b, qb, column), b_at(base_b, qb, column + 1u),
                                                       b_at(base_b, qb, column + 2u), b_at(base_b, qb, column + 3u));
        workgroupBarrier();
        acc = tile_product(acc, high, low);
        workgroupBarrier();
    }
    let r = row0 + 4u * high;
    let s = column0 + 4u * low;
    store_row(matrix, r, s, acc[0]);
    store_row(matrix, r + 1u, s, acc[1]);
    store_row(matrix, r + 2u, s, acc[2]);
    store_row(matrix, r + 3u, s, acc[3]);
}
