// Product of matrices straight from storage, for devices whose workgroup memory is no nearer than storage and where a
// barrier costs much (processors): c[b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j].
// Shapes and params as in `matmul`: a [batch,m,k], b [batch,k,n], c [batch,m,n]. All are read and written four words at
// a time: k and n are multiples of 4, m too if trans_a.
// Workgroups: ⌈batch · ⌈m/16⌉ · ⌈n/8⌉ / 64⌉. A thread makes a block of 16 rows by 8 columns. Each sums over q in order,
// four at a time, so the answer does not depend on the batch.
// #import shared/index

struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    a_batch_stride: u32, b_batch_stride: u32,
    trans_a: u32, trans_b: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

const FOUR = vec4<u32>(0u, 1u, 2u, 3u);

// Where four lines of an operand begin, in fours of words. Lines that run along k: the lines `first` and on, the last one
// again beyond `size`. Lines across k: those of the first four steps, at `first`.
fn lines(first: u32, size: u32, across: bool) -> vec4<u32> {
    if (across) { return FOUR * (size / 4u) + min(first, size - 4u) / 4u; }
    return min(first + FOUR, vec4<u32>(size - 1u)) * (p.k / 4u);
}

// Rows of a: column i of the result is row i at four steps of k.
fn rows(at: vec4<u32>) -> mat4x4<f32> {
    let read = mat4x4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
    if (p.trans_a != 0u) { return transpose(read); }
    return read;
}

// Columns of b: column q of the result is four columns at step q.
fn columns(at: vec4<u32>) -> mat4x4<f32> {
    let read = mat4x4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
    if (p.trans_b != 0u) { return transpose(read); }
    return read;
}

fn store_row(matrix: u32, row: u32, column: u32, x: vec4<f32>) {
    if (row < p.m && column < p.n) { c[((matrix * p.m + row) * p.n + column) / 4u] = x; }
}

fn store(matrix: u32, row: u32, column: u32, block: mat4x4<f32>) {
    store_row(matrix, row, column, block[0]);
    store_row(matrix, row + 1u, column, block[1]);
    store_row(matrix, row + 2u, column, block[2]);
    store_row(matrix, row + 3u, column, block[3]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let blocks_m = (p.m + 15u) / 16u;
    let blocks_n = (p.n + 7u) / 8u;
    let block = workgroup_index(wid, nwg) * 64u + thread;
    let matrix = block / (blocks_m * blocks_n);
    if (matrix >= p.batch) { return; }
    let row = block / blocks_n % blocks_m * 16u;
    let column = block % blocks_n * 8u;
    let across_a = p.trans_a != 0u;
    let across_b = p.trans_b == 0u;
    // From four steps of k to the next.
    let step_a = select(1u, p.m, across_a);
    let step_b = select(1u, p.n, across_b);
    let base_a = matrix * p.a_batch_stride / 4u;
    let base_b = matrix * p.b_batch_stride / 4u;
    var a0 = base_a + lines(row, p.m, across_a);
    var a1 = base_a + lines(row + 4u, p.m, across_a);
    var a2 = base_a + lines(row + 8u, p.m, across_a);
    var a3 = base_a + lines(row + 12u, p.m, across_a);
    var b0 = base_b + lines(column, p.n, across_b);
    var b1 = base_b + lines(column + 4u, p.n, across_b);

    // cij: rows 4i .. 4i+3, columns 4j .. 4j+3, a row in each column of the mat4x4.
    var c00 = mat4x4<f32>();
    var c01 = mat4x4<f32>();
    var c10 = mat4x4<f32>();
    var c11 = mat4x4<f32>();
    var c20 = mat4x4<f32>();
    var c21 = mat4x4<f32>();
    var c30 = mat4x4<f32>();
    var c31 = mat4x4<f32>();
    for (var q = 0u; q < p.k; q += 4u) {
        let left = columns(b0);
        let right = columns(b1);
        let r0 = rows(a0);
        c00 += left * r0;
        c01 += right * r0;
        let r1 = rows(a1);
        c10 += left * r1;
        c11 += right * r1;
        let r2 = rows(a2);
        c20 += left * r2;
        c21 += right * r2;
        let r3 = rows(a3);
        c30 += left * r3;
        c31 += right * r3;
        a0 += step_a;
        a1 += step_a;
        a2 += step_a;
        a3 += step_a;
        b0 += step_b;
        b1 += step_b;
    }
    store(matrix, row, column, c00);
    store(matrix, row, column + 4u, c01);
    store(matrix, row + 4u, column, c10);
    store(matrix, row + 4u, column + 4u, c11);
    store(matrix, row + 8u, column, c20);
    store(matrix, row + 8u, column + 4u, c21);
    store(matrix, row + 12u, column, c30);
    store(matrix, row + 12u, column + 4u, c31);
}
