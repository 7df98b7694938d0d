// Product of matrices straight from storage, for devices that run shaders on the host's processor, eight lanes to a vector:
// c[b,i,j] = Σ_t Σ_q op(a)[b·terms+t,i,q] · op(b)[b·terms+t,q,j]. Workgroup memory is no nearer than storage there, a barrier costs much, and
// reading costs more than anything, for each lane reads by itself.
// Shapes and params as in `matmul`, and how many products make one result: a [batch·terms,m,k], b [batch·terms,k,n],
// c [batch,m,n]. Operands are read two words at a time:
// k is even, m too if trans_a, n too unless trans_b.
// Workgroups: ⌈batch · ⌈m/32⌉ · ⌈n/32⌉ / 8⌉. A subgroup of eight lanes makes a block of 32 by 32: each lane reads four rows
// of a for all of them, and has four columns for itself. Each sums over q in order, so the answer does not depend on the
// batch.
// #needs int64 subgroups
// #import shared/index
// #import shared/pairs

struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    a_batch_stride: u32, b_batch_stride: u32,
    trans_a: u32, trans_b: u32,
    terms: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<u64>;
@group(0) @binding(2) var<storage, read_write> b: array<u64>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

// Where four lines of an operand stand at two steps of k, in pairs of words; the last ones again beyond `size`. Lines along
// k: each with both steps. Lines across k: the first two at both steps, then the other two.
fn lines(first: u32, size: u32, across: bool) -> vec4<u32> {
    let two = min(vec2<u32>(first, first + 2u), vec2<u32>(size - 2u)) / 2u;
    let along = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(size - 1u)) * (p.k / 2u);
    return select(along, vec4<u32>(two, two + size / 2u).xzyw, across);
}

// What was read at `lines`: the four lines at the first of the two steps, and at the second.
fn steps(w0: vec2<f32>, w1: vec2<f32>, w2: vec2<f32>, w3: vec2<f32>, across: bool) -> mat2x4<f32> {
    let near = select(vec4<f32>(w0.x, w1.x, w2.x, w3.x), vec4<f32>(w0, w2), across);
    let far = select(vec4<f32>(w0.y, w1.y, w2.y, w3.y), vec4<f32>(w1, w3), across);
    return mat2x4<f32>(near, far);
}

fn steps_of_a(at: vec4<u32>, across: bool) -> mat2x4<f32> {
    return steps(pair(a[at.x]), pair(a[at.y]), pair(a[at.z]), pair(a[at.w]), across);
}

fn steps_of_b(at: vec4<u32>, across: bool) -> mat2x4<f32> {
    return steps(pair(b[at.x]), pair(b[at.y]), pair(b[at.z]), pair(b[at.w]), across);
}

// Four rows and four columns: x and y hold them at four steps.
fn add(sum: mat4x4<f32>, x: mat4x4<f32>, y: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        add_row(sum[0], vec4<f32>(x[0].x, x[1].x, x[2].x, x[3].x), y),
        add_row(sum[1], vec4<f32>(x[0].y, x[1].y, x[2].y, x[3].y), y),
        add_row(sum[2], vec4<f32>(x[0].z, x[1].z, x[2].z, x[3].z), y),
        add_row(sum[3], vec4<f32>(x[0].w, x[1].w, x[2].w, x[3].w), y));
}

// Fused by name: llvmpipe fuses nothing by itself.
fn add_row(sum: vec4<f32>, x: vec4<f32>, y: mat4x4<f32>) -> vec4<f32> {
    let near = fma(vec4<f32>(x.y), y[1], fma(vec4<f32>(x.x), y[0], sum));
    return fma(vec4<f32>(x.w), y[3], fma(vec4<f32>(x.z), y[2], near));
}

fn store_row(matrix: u32, row: u32, column: u32, x: vec4<f32>) {
    if (row >= p.m) { return; }
    let at = (matrix * p.m + row) * p.n + column;
    if (column < p.n) { c[at] = x.x; }
    if (column + 1u < p.n) { c[at + 1u] = x.y; }
    if (column + 2u < p.n) { c[at + 2u] = x.z; }
    if (column + 3u < p.n) { c[at + 3u] = x.w; }
}

fn store(matrix: u32, row: u32, column: u32, block: mat4x4<f32>) {
    store_row(matrix, row, column, block[0]);
    store_row(matrix, row + 1u, column, block[1]);
    store_row(matrix, row + 2u, column, block[2]);
    store_row(matrix, row + 3u, column, block[3]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let blocks_m = (p.m + 31u) / 32u;
    let blocks_n = (p.n + 31u) / 32u;
    let block = workgroup_index(wid, nwg) * 8u + subgroup;
    let matrix = block / (blocks_m * blocks_n);
    if (matrix >= p.batch) { return; }
    let row = block / blocks_n % blocks_m * 32u;
    let column = block % blocks_n * 32u + lane * 4u;
    let across_a = p.trans_a != 0u;
    let across_b = p.trans_b == 0u;
    // From two steps of k to the next.
    let step_a = select(1u, p.m, across_a);
    let step_b = select(1u, p.n, across_b);
    let first_a = lines(row + lane * 4u, p.m, across_a);
    let first_b = lines(column, p.n, across_b);

    // ci: the rows that lane i reads, a row in each column of the mat4x4.
    var c0 = mat4x4<f32>();
    var c1 = mat4x4<f32>();
    var c2 = mat4x4<f32>();
    var c3 = mat4x4<f32>();
    var c4 = mat4x4<f32>();
    var c5 = mat4x4<f32>();
    var c6 = mat4x4<f32>();
    var c7 = mat4x4<f32>();
    // Loops that end by what depends on the block: those that end by a parameter alone lavapipe compiles for each dispatch.
    for (var term = matrix * p.terms; term < (matrix + 1u) * p.terms; term++) {
        var at_a = term * (p.a_batch_stride / 2u) + first_a;
        var at_b = term * (p.b_batch_stride / 2u) + first_b;
        let end_a = at_a.x + p.k / 2u * step_a;
        while (at_a.x < end_a) {
            // Four steps, or the last two and zeros.
            let more = at_a.x + step_a < end_a;
            let near_a = steps_of_a(at_a, across_a);
            let near_b = steps_of_b(at_b, across_b);
            let far_a = steps_of_a(at_a + select(0u, step_a, more), across_a);
            let far_b = steps_of_b(at_b + select(0u, step_b, more), across_b);
            let none = vec4<f32>();
            let x = mat4x4<f32>(near_a[0], near_a[1], select(none, far_a[0], more), select(none, far_a[1], more));
            let y = mat4x4<f32>(near_b[0], near_b[1], select(none, far_b[0], more), select(none, far_b[1], more));
            c0 = add(c0, mat4x4<f32>(subgroupBroadcast(x[0], 0u), subgroupBroadcast(x[1], 0u),
                subgroupBroadcast(x[2], 0u), subgroupBroadcast(x[3], 0u)), y);
            c1 = add(c1, mat4x4<f32>(subgroupBroadcast(x[0], 1u), subgroupBroadcast(x[1], 1u),
                subgroupBroadcast(x[2], 1u), subgroupBroadcast(x[3], 1u)), y);
            c2 = add(c2, mat4x4<f32>(subgroupBroadcast(x[0], 2u), subgroupBroadcast(x[1], 2u),
                subgroupBroadcast(x[2], 2u), subgroupBroadcast(x[3], 2u)), y);
            c3 = add(c3, mat4x4<f32>(subgroupBroadcast(x[0], 3u), subgroupBroadcast(x[1], 3u),
                subgroupBroadcast(x[2], 3u), subgroupBroadcast(x[3], 3u)), y);
            c4 = add(c4, mat4x4<f32>(subgroupBroadcast(x[0], 4u), subgroupBroadcast(x[1], 4u),
                subgroupBroadcast(x[2], 4u), subgroupBroadcast(x[3], 4u)), y);
            c5 = add(c5, mat4x4<f32>(subgroupBroadcast(x[0], 5u), subgroupBroadcast(x[1], 5u),
                subgroupBroadcast(x[2], 5u), subgroupBroadcast(x[3], 5u)), y);
            c6 = add(c6, mat4x4<f32>(subgroupBroadcast(x[0], 6u), subgroupBroadcast(x[1], 6u),
                subgroupBroadcast(x[2], 6u), subgroupBroadcast(x[3], 6u)), y);
            c7 = add(c7, mat4x4<f32>(subgroupBroadcast(x[0], 7u), subgroupBroadcast(x[1], 7u),
                subgroupBroadcast(x[2], 7u), subgroupBroadcast(x[3], 7u)), y);
            at_a += 2u * step_a;
            at_b += 2u * step_b;
        }
    }
    store(matrix, row, column, c0);
    store(matrix, row + 4u, column, c1);
    store(matrix, row + 8u, column, c2);
    store(matrix, row + 12u, column, c3);
    store(matrix, row + 16u, column, c4);
    store(matrix, row + 20u, column, c5);
    store(matrix, row + 24u, column, c6);
    store(matrix, row + 28u, column, c7);
}
