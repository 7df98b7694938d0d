// Pick along an axis: out[o,j,i] = x[o, index[o,j,i], i]. Words are copied as they are, so x may be of any 32-bit type.
// Inputs:  x [outer,n_src,inner], index [outer,n_idx,inner] u32.  Output: out [outer,n_idx,inner].
// Params:  outer, n_src, n_idx, inner, invalid (word given for an index not below n_src: 0x7fc00000, a NaN, for f32).
// Workgroups: ⌈outer·n_idx·inner / 256⌉.
// #import shared/index

struct Params {
    outer: u32, n_src: u32, n_idx: u32, inner: u32,
    invalid: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.outer * p.n_idx * p.inner) { return; }
    let o = i / (p.n_idx * p.inner);
    let source = index[i];
    var word = p.invalid;
    if (source < p.n_src) { word = x[(o * p.n_src + source) * p.inner + i % p.inner]; }
    out[i] = word;
}
