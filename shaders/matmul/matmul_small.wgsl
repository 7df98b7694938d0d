// Product with few rows, m ≤ 8: c[b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j].
// Shapes, bindings and params as in `matmul`: a [batch,m,k], b [batch,k,n], c [batch,m,n].
// Workgroups: batch · ⌈n/64⌉, or batch · ⌈n/4⌉ if trans_b.
// A workgroup takes 64 columns and cuts k in 4 slices; if b is stored by columns, 4 columns and 64 slices, so that
// neighboring threads read neighboring words either way. A fixed tree then adds the slices up.
// #halves a b
// #import shared/index
// #import shared/finish

struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    a_batch_stride: u32, b_batch_stride: u32,
    trans_a: u32, trans_b: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

var<workgroup> rows_low: array<vec4<f32>, 256>;
var<workgroup> rows_high: array<vec4<f32>, 256>;

fn a_at(base: u32, row: u32, q: u32) -> f32 {
    if (row >= p.m) { return 0.0; }
    return a[base + select(row * p.k + q, q * p.m + row, p.trans_a != 0u)];
}

fn store(matrix: u32, row: u32, column: u32, value: f32) {
    let at = (matrix * p.m + row) * p.n + column;
    if (row < p.m) { c[at] = finish(at, value); }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let by_column = p.trans_b != 0u;
    let columns = select(64u, 4u, by_column);
    let slices = 256u / columns;
    let blocks = (p.n + columns - 1u) / columns;
    let block = workgroup_index(wid, nwg);
    let matrix = block / blocks;
    if (matrix >= p.batch) { return; }
    let slice = select(thread / columns, thread % slices, by_column);
    let lane = select(thread % columns, thread / slices, by_column);
    let column = block % blocks * columns + lane;
    let base_a = matrix * p.a_batch_stride;
    let base_b = matrix * p.b_batch_stride;

    var low = vec4<f32>();
    var high = vec4<f32>();
    if (column < p.n) {
        for (var q = slice; q < p.k; q += slices) {
            let w = b[base_b + select(q * p.n + column, column * p.k + q, by_column)];
            low += w * vec4<f32>(a_at(base_a, 0u, q), a_at(base_a, 1u, q), a_at(base_a, 2u, q), a_at(base_a, 3u, q));
            if (p.m > 4u) {
                high += w * vec4<f32>(a_at(base_a, 4u, q), a_at(base_a, 5u, q), a_at(base_a, 6u, q), a_at(base_a, 7u, q));
            }
        }
    }
    let cell = slice * columns + lane;
    rows_low[cell] = low;
    rows_high[cell] = high;
    for (var half = slices / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (slice < half) {
            rows_low[cell] += rows_low[cell + half * columns];
            rows_high[cell] += rows_high[cell + half * columns];
        }
    }
    if (slice == 0u && column < p.n) {
        low = rows_low[cell];
        high = rows_high[cell];
        for (var i = 0u; i < 4u; i++) {
            store(matrix, i, column, low[i]);
            store(matrix, i + 4u, column, high[i]);
        }
    }
}
