// Adjoint of `gather`: out[o,s,i] = Σ_j x[o,j,i] over the j with index[o,j,i] = s. Other indices add to nothing.
// Inputs:  x [outer,n_idx,inner], index [outer,n_idx,inner] u32.  Output: out [outer,n_src,inner].
// Params:  outer, n_src, n_idx, inner.
// Workgroups: ⌈outer·n_src·inner / 256⌉. A thread owns one output and adds in order of j: no atomics, the same bits always.
// #import shared/index

struct Params {
    outer: u32, n_src: u32, n_idx: u32, inner: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.outer * p.n_src * p.inner) { return; }
    let first = i / (p.n_src * p.inner) * p.n_idx;
    let s = i / p.inner % p.n_src;
    var sum = 0.0;
    for (var j = 0u; j < p.n_idx; j++) {
        let at = (first + j) * p.inner + i % p.inner;
        if (index[at] == s) { sum += x[at]; }
    }
    out[i] = sum;
}
