// Attention: o[b,i,:] = Σ_j w_ij · v[b,j,:], w_i = softmax_j(scale · ⟨q[b,i,:], k[b,j,:]⟩) over the keys j that query i may
// look at, and lse[b,i] = ln Σ_j exp(scale · ⟨q, k⟩). Weights are never in memory: keys come 64 at a time, and what was
// summed is scaled down where a larger score appears (Milakov and Gimelshein 2018; Dao et al. 2022). A query that may look
// at nothing gets zeros, and lse 0.
// Inputs:  q [batch,n_q,d], k [batch,n_k,d], v [batch,n_k,e], mask [batch / mask_share,n_q,n_k] (words; any array if unused).
// Outputs: o [batch,n_q,e], lse [batch,n_q].
// Params:  batch, n_q, n_k, d, e, mask_share (0 = no mask), causal (0 or 1: query i looks at keys 0 .. i), scale.
// Workgroups: batch · ⌈n_q/64⌉ · ⌈e/64⌉.
// #import shared/attention

@group(0) @binding(1) var<storage, read_write> q: array<f32>;
@group(0) @binding(2) var<storage, read_write> k: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> mask: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

// Below every score, and finite.
const LOWEST: f32 = -3e38;

fn fetch(what: u32, index: u32) -> f32 {
    switch what {
        case 0u: { return q[index]; }
        case 1u: { return k[index]; }
        default: { return v[index]; }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let tiles_q = (p.n_q + TILE - 1u) / TILE;
    let tiles_e = (p.e + TILE - 1u) / TILE;
    let tile = workgroup_index(wid, nwg);
    let entry = tile / (tiles_q * tiles_e);
    if (entry >= p.batch) { return; }
    let row0 = (tile / tiles_e) % tiles_q * TILE;
    let column0 = tile % tiles_e * TILE;
    let low = thread % 16u;
    let high = thread / 16u;
    let queries = Matrix(0u, entry * p.n_q * p.d, p.n_q, p.d);
    let keys = Matrix(1u, entry * p.n_k * p.d, p.n_k, p.d);
    let values = Matrix(2u, entry * p.n_k * p.e, p.n_k, p.e);

    var peak = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    var acc = mat4x4<f32>();
    // Keys behind the last query of the tile are nobody's.
    let end = select(p.n_k, min(p.n_k, row0 + TILE), p.causal != 0u);
    for (var key0 = 0u; key0 < end; key0 += TILE) {
        var scores = rows_by_rows(queries, row0, keys, key0, thread);
        var most = peak;
        for (var i = 0u; i < 4u; i++) {
            for (var j = 0u; j < 4u; j++) {
                let seen = visible(entry, row0 + 4u * high + i, key0 + 4u * low + j);
                scores[i][j] = select(LOWEST, scores[i][j] * p.scale, seen);
                most[i] = max(most[i], scores[i][j]);
            }
        }
        tile_b[slot(low, high)] = most;
        workgroupBarrier();
        for (var other = 0u; other < 16u; other++) { most = max(most, tile_b[slot(other, high)]); }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let keep = exp_down(peak[i] - most[i]);
            var sum = 0.0;
            for (var j = 0u; j < 4u; j++) {
                let weight = select(exp_down(scores[i][j] - most[i]), 0.0, scores[i][j] == LOWEST);
                scores[i][j] = weight;
                sum += weight;
            }
            total[i] = total[i] * keep + sum;
            acc[i] *= keep;
        }
        peak = most;
        acc = tile_by_rows(acc, scores, values, key0, column0, thread);
    }
    // Each thread has summed its own keys.
    tile_b[slot(low, high)] = total;
    workgroupBarrier();
    total = vec4<f32>();
    for (var other = 0u; other < 16u; other++) { total += tile_b[slot(other, high)]; }
    for (var i = 0u; i < 4u; i++) {
        let row = row0 + 4u * high + i;
        if (row >= p.n_q) { continue; }
        // A NaN is not 0, and stays.
        let none = total[i] == 0.0;
        for (var j = 0u; j < 4u; j++) {
            let column = column0 + 4u * low + j;
            if (column < p.e) { o[(entry * p.n_q + row) * p.e + column] = select(acc[i][j] / total[i], 0.0, none); }
        }
        if (low == 0u && column0 == 0u) {
            lse[entry * p.n_q + row] = select(peak[i] + log(total[i]), 0.0, none);
        }
    }
}
