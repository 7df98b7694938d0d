// Product of matrices of halves on cooperative matrices of 16×16 (8×8), summed as f32: c[b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j].
// Shapes, bindings and params as in `matmul`, one slice: a [batch,m,k], b [batch,k,n] of halves, c [batch,m,n] of f32.
// Operands are read four halves at a time: k is a multiple of 4 where an operand is stored along it, else m (n) is.
// Workgroups: batch · ⌈m/64⌉ · ⌈n/64⌉ (⌈m/32⌉ · ⌈n/32⌉).
// #needs cooperative
// #eight
// #import shared/finish
// #import shared/sixteen
// #import shared/cooperative

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(num_subgroups) n_subgroups: u32) {
    // Written out and without a return: naga must see that all threads come along.
    let block = wid.y * nwg.x + wid.x;
    let down = (p.m + TILE - 1u) / TILE;
    let across = (p.n + TILE - 1u) / TILE;
    let matrix = block / (down * across);
    if (matrix < p.batch) {
        let row0 = block / across % down * TILE;
        let column0 = block % across * TILE;
        for (var turn = 0u; turn < 4u; turn += n_subgroups) {
            let quarter = min(turn + subgroup, 4u);
            let row = quarter / 2u % 2u * (2u * SIDE);
            let column = quarter % 2u * (2u * SIDE);
            var c00 = MatC();
            var c01 = MatC();
            var c10 = MatC();
            var c11 = MatC();
            for (var q0 = 0u; q0 < p.k; q0 += STEP) {
                stage_a(matrix * p.a_batch_stride, row0, q0, thread);
                stage_b(matrix * p.b_batch_stride, column0, q0, thread);
                workgroupBarrier();
                for (var kk = 0u; kk < STEP; kk += SIDE) {
                    var a0: MatA;
                    var a1: MatA;
                    var b0: MatB;
                    var b1: MatB;
                    if (p.trans_a != 0u) {
                        let at = kk * ACROSS + row;
                        let next = at + SIDE;
                        a0 = coopLoad<MatA>(&tile_a[at], ACROSS);
                        a1 = coopLoad<MatA>(&tile_a[next], ACROSS);
                    } else {
                        let at = row * ALONG + kk;
                        let next = at + SIDE * ALONG;
                        a0 = coopLoadT<MatA>(&tile_a[at], ALONG);
                        a1 = coopLoadT<MatA>(&tile_a[next], ALONG);
                    }
                    if (p.trans_b != 0u) {
                        let at = column * ALONG + kk;
                        let next = at + SIDE * ALONG;
                        b0 = coopLoad<MatB>(&tile_b[at], ALONG);
                        b1 = coopLoad<MatB>(&tile_b[next], ALONG);
                    } else {
                        let at = kk * ACROSS + column;
                        let next = at + SIDE;
                        b0 = coopLoadT<MatB>(&tile_b[at], ACROSS);
                        b1 = coopLoadT<MatB>(&tile_b[next], ACROSS);
                    }
                    c00 = coopMultiplyAdd(a0, b0, c00);
                    c01 = coopMultiplyAdd(a0, b1, c01);
                    c10 = coopMultiplyAdd(a1, b0, c10);
                    c11 = coopMultiplyAdd(a1, b1, c11);
                }
                workgroupBarrier();
            }
            let slot = quarter * SIDE * SIDE;
            coopStoreT(c00, &out[slot], SIDE);
            leave(matrix, row0, column0, turn, n_subgroups, thread);
            coopStoreT(c01, &out[slot], SIDE);
            leave(matrix, row0, column0 + SIDE, turn, n_subgroups, thread);
            coopStoreT(c10, &out[slot], SIDE);
            leave(matrix, row0 + SIDE, column0, turn, n_subgroups, thread);
            coopStoreT(c11, &out[slot], SIDE);
            leave(matrix, row0 + SIDE, column0 + SIDE, turn, n_subgroups, thread);
        }
    }
}

// Writes down the matrices of the quarters whose turn it is; row and column are where that of the first quarter goes.
fn leave(matrix: u32, row: u32, column: u32, turn: u32, n_subgroups: u32, thread: u32) {
    workgroupBarrier();
    for (var i = thread; i < 4u * SIDE * SIDE; i += THREADS) {
        let quarter = i / (SIDE * SIDE);
        let y = row + quarter / 2u * (2u * SIDE) + i / SIDE % SIDE;
        let x = column + quarter % 2u * (2u * SIDE) + i % SIDE;
        let now = quarter >= turn && quarter < turn + n_subgroups;
        let at = (matrix * p.m + y) * p.n + x;
        if (now && y < p.m && x < p.n) { c[at] = finish(at, out[i]); }
    }
    workgroupBarrier();
}
