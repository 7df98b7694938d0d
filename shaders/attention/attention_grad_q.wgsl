// Gradient of attention by the queries: dq[b,i,:] = Σ_j s_ij · k[b,j,:] with s_ij = scale · w_ij · (⟨dy_i, v_j⟩ − D_i), the
// weights w_ij computed again from lse.
// Inputs:  q [batch,n_q,d], k [batch,n_k,d], v [batch,n_k,e], dy [batch,n_q,e], stats [batch,n_q,2] (lse and D), mask as
//          attention has it.
// Output:  dq [batch,n_q,d].
// Params:  those of attention.
// Workgroups: batch · ⌈n_q/64⌉ · ⌈d/64⌉.
// #import shared/attention_grad

@group(0) @binding(7) var<storage, read_write> dq: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let tiles_q = (p.n_q + TILE - 1u) / TILE;
    let tiles_d = (p.d + TILE - 1u) / TILE;
    let tile = workgroup_index(wid, nwg);
    let entry = tile / (tiles_q * tiles_d);
    if (entry >= p.batch) { return; }
    let row0 = (tile / tiles_d) % tiles_q * TILE;
    let column0 = tile % tiles_d * TILE;
    let low = thread % 16u;
    let high = thread / 16u;

    var acc = mat4x4<f32>();
    let end = select(p.n_k, min(p.n_k, row0 + TILE), p.causal != 0u);
    for (var key0 = 0u; key0 < end; key0 += TILE) {
        var scores = rows_by_rows(queries(entry), row0, keys(entry), key0, thread);
        let by_weight = rows_by_rows(slopes(entry), row0, values(entry), key0, thread);
        for (var i = 0u; i < 4u; i++) {
            let query = row0 + 4u * high + i;
            for (var j = 0u; j < 4u; j++) {
                let w = weight(entry, query, key0 + 4u * low + j, scores[i][j]);
                scores[i][j] = slope(entry, query, w, by_weight[i][j]);
            }
        }
        acc = tile_by_rows(acc, scores, keys(entry), key0, column0, thread);
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let row = row0 + 4u * high + i;
            let column = column0 + 4u * low + j;
            if (row < p.n_q && column < p.d) { dq[(entry * p.n_q + row) * p.d + column] = acc[i][j]; }
        }
    }
}
