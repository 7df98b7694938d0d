// Product of matrices, one for each slice of k and entry of a batch: c[s,b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j],
// q from s·slice to below (s + 1)·slice and k.
// Inputs:  a [batch,m,k], or [batch,k,m] if trans_a; b [batch,k,n], or [batch,n,k] if trans_b.
// Output:  c [slices,batch,m,n].
// Params:  m, n, k, batch, a_batch_stride, b_batch_stride (elements from one matrix to the next; 0 = shared),
//          trans_a, trans_b (0 or 1), slice (a multiple of 16; k or more: one slice).
// Workgroups: slices · batch · ⌈m/64⌉ · ⌈n/64⌉. Each sums over q in order, so the answer does not depend on the batch.
// #halves a b
// #narrow
// #import shared/index
// #import shared/tile
// #import shared/product

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let block = block_of(workgroup_index(wid, nwg), TILE);
    if (block.w == 0u) { return; }
    let entry = block.x % p.batch;
    let begin = block.x / p.batch * p.slice;
    let end = min(p.k, begin + p.slice);
    let base_a = entry * p.a_batch_stride;
    let base_b = entry * p.b_batch_stride;

    // Neighboring threads read neighboring words, whichever way the operand is stored.
    let low = thread % STEP;
    let high = thread / STEP;
    let a_step = select(low, high, p.trans_a != 0u);
    let a_group = select(high, low, p.trans_a != 0u);
    let b_step = select(high, low, p.trans_b != 0u);
    let b_group = select(low, high, p.trans_b != 0u);

    var acc = mat4x4<f32>();
    for (var q0 = begin; q0 < end; q0 += STEP) {
        tile_a[tile_slot(a_step, a_group)] = a_four(base_a, block.y + 4u * a_group, q0 + a_step);
        tile_b[tile_slot(b_step, b_group)] = b_four(base_b, q0 + b_step, block.z + 4u * b_group);
        workgroupBarrier();
        acc = tile_product(acc, high, low);
        workgroupBarrier();
    }
    let r = block.y + 4u * high;
    let s = block.z + 4u * low;
    store_row(block.x, r, s, acc[0]);
    store_row(block.x, r + 1u, s, acc[1]);
    store_row(block.x, r + 2u, s, acc[2]);
    store_row(block.x, r + 3u, s, acc[3]);
}
