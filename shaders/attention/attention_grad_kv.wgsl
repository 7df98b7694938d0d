// Gradient of attention by keys and values: dv[b,j,:] = Σ_i w_ij · dy[b,i,:] and dk[b,j,:] = Σ_i s_ij · q[b,i,:], with weights
// and slopes as in attention_grad_q.
// Inputs:  q [batch,n_q,d], k [batch,n_k,d], v [batch,n_k,e], dy [batch,n_q,e], stats [batch,n_q,2] (lse and D), mask as
//          attention has it.
// Outputs: dk [batch,n_k,d], dv [batch,n_k,e].
// Params:  those of attention.
// Workgroups: batch · ⌈n_k/64⌉ · ⌈max(d,e)/64⌉.
// #import shared/attention_grad

@group(0) @binding(7) var<storage, read_write> dk: array<f32>;
@group(0) @binding(8) var<storage, read_write> dv: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let tiles_k = (p.n_k + TILE - 1u) / TILE;
    let tiles_c = (max(p.d, p.e) + TILE - 1u) / TILE;
    let tile = workgroup_index(wid, nwg);
    let entry = tile / (tiles_k * tiles_c);
    if (entry >= p.batch) { return; }
    let row0 = (tile / tiles_c) % tiles_k * TILE;
    let column0 = tile % tiles_c * TILE;
    let low = thread % 16u;
    let high = thread / 16u;

    var sum_k = mat4x4<f32>();
    var sum_v = mat4x4<f32>();
    // Queries in front of the first key of the tile do not look at it.
    let first = select(0u, row0, p.causal != 0u);
    for (var query0 = first; query0 < p.n_q; query0 += TILE) {
        // Rows are keys here, columns queries.
        var scores = rows_by_rows(keys(entry), row0, queries(entry), query0, thread);
        let by_weight = rows_by_rows(values(entry), row0, slopes(entry), query0, thread);
        var weights = mat4x4<f32>();
        for (var i = 0u; i < 4u; i++) {
            for (var j = 0u; j < 4u; j++) {
                let query = query0 + 4u * low + j;
                weights[i][j] = weight(entry, query, row0 + 4u * high + i, scores[i][j]);
                scores[i][j] = slope(entry, query, weights[i][j], by_weight[i][j]);
            }
        }
        if (column0 < p.e) { sum_v = tile_by_rows(sum_v, weights, slopes(entry), query0, column0, thread); }
        if (column0 < p.d) { sum_k = tile_by_rows(sum_k, scores, queries(entry), query0, column0, thread); }
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let row = row0 + 4u * high + i;
            let column = column0 + 4u * low + j;
            if (row >= p.n_k) { continue; }
            if (column < p.d) { dk[(entry * p.n_k + row) * p.d + column] = sum_k[i][j]; }
            if (column < p.e) { dv[(entry * p.n_k + row) * p.e + column] = sum_v[i][j]; }
        }
    }
}
