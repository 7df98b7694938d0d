// y = x in half precision, rounded to the nearest, ties to even; beyond ±65504 (after rounding) ±∞.
// Inputs:  x [n] f32.  Output: y [⌈n/2⌉] u32, element 2i in the lower half of word i; after an odd n a 0.
// Params:  n.
// Workgroups: ⌈n/512⌉, two elements a thread.
// #import shared/index
// #import shared/half

struct Params {
    n: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= (p.n + 1u) / 2u) { return; }
    var word = to_half(x[2u * i]);
    if (2u * i + 1u < p.n) { word |= to_half(x[2u * i + 1u]) << 16u; }
    y[i] = word;
}
