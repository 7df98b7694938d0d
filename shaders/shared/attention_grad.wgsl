// What the two gradients of attention share: weights and slopes of a tile of scores, from the logarithms that the forward
// pass kept.
// #import shared/attention

@group(0) @binding(1) var<storage, read_write> q: array<f32>;
@group(0) @binding(2) var<storage, read_write> k: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;
@group(0) @binding(6) var<storage, read_write> mask: array<u32>;

fn fetch(what: u32, index: u32) -> f32 {
    switch what {
        case 0u: { return q[index]; }
        case 1u: { return k[index]; }
        case 2u: { return v[index]; }
        default: { return dy[index]; }
    }
}

fn queries(entry: u32) -> Matrix { return Matrix(0u, entry * p.n_q * p.d, p.n_q, p.d); }
fn keys(entry: u32) -> Matrix { return Matrix(1u, entry * p.n_k * p.d, p.n_k, p.d); }
fn values(entry: u32) -> Matrix { return Matrix(2u, entry * p.n_k * p.e, p.n_k, p.e); }
fn slopes(entry: u32) -> Matrix { return Matrix(3u, entry * p.n_q * p.e, p.n_q, p.e); }

// w = exp(scale · ⟨q, k⟩ − lse), 0 where the query may not look.
fn weight(entry: u32, query: u32, key: u32, product: f32) -> f32 {
    let seen = visible(entry, query, key);
    // The difference is at most 0 but for rounding.
    return select(0.0, exp_down(product * p.scale - stats[select(0u, 2u * (entry * p.n_q + query), seen)]), seen);
}

// What a score adds to the loss: scale · w · (⟨dy, v⟩ − D).
fn slope(entry: u32, query: u32, weight: f32, by_weight: f32) -> f32 {
    let there = query < p.n_q;
    let mean = stats[select(0u, 2u * (entry * p.n_q + query) + 1u, there)];
    return select(0.0, p.scale * weight * (by_weight - mean), there);
}
