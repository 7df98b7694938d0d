// Product of matrices in blocks of 128×128, eight by eight for each thread: c[s,b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j],
// q from s·slice to below (s + 1)·slice and k. For products with blocks enough to go around.
// Shapes, bindings and params as in `matmul`: a [batch,m,k], b [batch,k,n], c [slices,batch,m,n].
// Workgroups: slices · batch · ⌈m/128⌉ · ⌈n/128⌉. Each sums over q in order.
// A thread has rows and columns 4t .. 4t+3 of both halves of the block. While it multiplies one step's tiles it has read
// what the next ones will hold.
// #halves a b
// #import shared/index
// #import shared/product

const TILE: u32 = 128u;
const STEP: u32 = 8u;
const GROUPS: u32 = 32u;

// Slot (kk, g) holds rows (or columns) 4g .. 4g+3 at step kk; rows of slots are 33 long, against meeting in one bank.
var<workgroup> tile_a: array<vec4<f32>, 264>;
var<workgroup> tile_b: array<vec4<f32>, 264>;

fn slot(kk: u32, group: u32) -> u32 {
    return kk * 33u + group;
}

// Step and group that a thread reads: neighbors read neighboring words, along k or across it.
fn place(thread: u32, along: bool) -> vec2<u32> {
    return select(vec2<u32>(thread / GROUPS, thread % GROUPS), vec2<u32>(thread % STEP, thread / STEP), along);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let block = block_of(workgroup_index(wid, nwg), TILE);
    if (block.w == 0u) { return; }
    let entry = block.x % p.batch;
    let begin = block.x / p.batch * p.slice;
    let end = min(p.k, begin + p.slice);
    let base_a = entry * p.a_batch_stride;
    let base_b = entry * p.b_batch_stride;
    let at_a = place(thread, p.trans_a == 0u);
    let at_b = place(thread, p.trans_b != 0u);
    let row = block.y + 4u * at_a.y;
    let column = block.z + 4u * at_b.y;
    let ty = thread / 16u;
    let tx = thread % 16u;

    var r0 = mat2x4<f32>();
    var r1 = mat2x4<f32>();
    var r2 = mat2x4<f32>();
    var r3 = mat2x4<f32>();
    var r4 = mat2x4<f32>();
    var r5 = mat2x4<f32>();
    var r6 = mat2x4<f32>();
    var r7 = mat2x4<f32>();
    var next_a = a_four(base_a, row, begin + at_a.x);
    var next_b = b_four(base_b, begin + at_b.x, column);
    for (var q0 = begin; q0 < end; q0 += STEP) {
        tile_a[slot(at_a.x, at_a.y)] = next_a;
        tile_b[slot(at_b.x, at_b.y)] = next_b;
        workgroupBarrier();
        next_a = a_four(base_a, row, q0 + STEP + at_a.x);
        next_b = b_four(base_b, q0 + STEP + at_b.x, column);
        for (var kk = 0u; kk < STEP; kk++) {
            let near = tile_a[slot(kk, ty)];
            let far = tile_a[slot(kk, 16u + ty)];
            let left = tile_b[slot(kk, tx)];
            let right = tile_b[slot(kk, 16u + tx)];
            r0 += mat2x4<f32>(near.x * left, near.x * right);
            r1 += mat2x4<f32>(near.y * left, near.y * right);
            r2 += mat2x4<f32>(near.z * left, near.z * right);
            r3 += mat2x4<f32>(near.w * left, near.w * right);
            r4 += mat2x4<f32>(far.x * left, far.x * right);
            r5 += mat2x4<f32>(far.y * left, far.y * right);
            r6 += mat2x4<f32>(far.z * left, far.z * right);
            r7 += mat2x4<f32>(far.w * left, far.w * right);
        }
        workgroupBarrier();
    }
    let y = block.y + 4u * ty;
    let x = block.z + 4u * tx;
    store_both(block.x, y, x, r0);
    store_both(block.x, y + 1u, x, r1);
    store_both(block.x, y + 2u, x, r2);
    store_both(block.x, y + 3u, x, r3);
    store_both(block.x, y + 64u, x, r4);
    store_both(block.x, y + 65u, x, r5);
    store_both(block.x, y + 66u, x, r6);
    store_both(block.x, y + 67u, x, r7);
}

fn store_both(matrix: u32, row: u32, column: u32, x: mat2x4<f32>) {
    store_row(matrix, row, column, x[0]);
    store_row(matrix, row, column + 64u, x[1]);
}
