// Product of matrices, one for each slice of k and entry of a batch: c[s,b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j],
// q from s·slice to below (s + 1)·slice and k.
// Inputs:  a [batch,m,k], or [batch,k,m] if trans_a; b [batch,k,n], or [batch,n,k] if trans_b.
// Output:  c [slices,batch,m,n].
// Params:  m, n, k, batch, a_batch_stride, b_batch_stride (elements from one matrix to the next; 0 = shared),
//          trans_a, trans_b (0 or 1), slice (a multiple of 16; k or more: one slice).
// Workgroups: slices · batch · ⌈m/64⌉ · ⌈n/64⌉. Each sums over q in order, so the answer does not depend on the batch.
// While a thread multiplies one step's tiles, what the next ones will hold is on its way.
// #halves a b
// #narrow
// #wide
// #import shared/index
// #import shared/finish
// #import shared/tile

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

// Four rows of a (columns of b) at a step of k: `start` is where they begin, `apart` how far steps lie from each other.
// Read in any case, so that no read waits for a branch.
fn a_four(start: vec4<u32>, q: u32, apart: u32, inside: bool) -> vec4<f32> {
    let at = select(vec4<u32>(), start + q * apart, inside);
    return select(vec4<f32>(), vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]), inside);
}

fn b_four(start: vec4<u32>, q: u32, apart: u32, inside: bool) -> vec4<f32> {
    let at = select(vec4<u32>(), start + q * apart, inside);
    return select(vec4<f32>(), vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]), inside);
}

fn store(at: vec4<u32>, row: u32, column: u32, x: vec4<f32>) {
    if (row >= p.m) { return; }
    let to = (at.x * p.m + row) * p.n + column;
    if (column < p.n) { c[to] = finish(to, x.x); }
    if (column + 1u < p.n) { c[to + 1u] = finish(to + 1u, x.y); }
    if (column + 2u < p.n) { c[to + 2u] = finish(to + 2u, x.z); }
    if (column + 3u < p.n) { c[to + 3u] = finish(to + 3u, x.w); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let index = workgroup_index(wid, nwg);
    let down = (p.m + TILE - 1u) / TILE;
    let across = (p.n + TILE - 1u) / TILE;
    let matrix = index / (down * across);
    let part = matrix / p.batch;
    if (part > 0u && part * p.slice >= p.k) { return; }
    let block = vec4<u32>(matrix, index / across % down * TILE, index % across * TILE, 0u);
    let begin = part * p.slice;
    let end = min(p.k, begin + p.slice);
    let a_along = p.trans_a == 0u;
    let b_along = p.trans_b != 0u;
    let at_a = place(thread, a_along);
    let at_b = place(thread, b_along);
    let rows = four_lines(block.y + 4u * at_a.y, p.m);
    let columns = four_lines(block.z + 4u * at_b.y, p.n);
    let from_a = matrix % p.batch * p.a_batch_stride + rows * select(1u, p.k, a_along);
    let from_b = matrix % p.batch * p.b_batch_stride + columns * select(1u, p.k, b_along);
    let apart_a = select(p.m, 1u, a_along);
    let apart_b = select(p.n, 1u, b_along);

    var acc = Block();
    var q_a = begin + at_a.x;
    var q_b = begin + at_b.x;
    var next_a = a_four(from_a, q_a, apart_a, q_a < end);
    var next_b = b_four(from_b, q_b, apart_b, q_b < end);
    for (var q0 = begin; q0 < end; q0 += STEP) {
        tile_a[slot(at_a.x, at_a.y)] = next_a;
        tile_b[slot(at_b.x, at_b.y)] = next_b;
        workgroupBarrier();
        q_a += STEP;
        q_b += STEP;
        next_a = a_four(from_a, q_a, apart_a, q_a < end);
        next_b = b_four(from_b, q_b, apart_b, q_b < end);
        acc = tile_product(acc, thread / SIDE, thread % SIDE);
        workgroupBarrier();
    }
    store_tile(block, acc, thread / SIDE, thread % SIDE);
}
