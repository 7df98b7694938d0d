// y = x in single precision, exact.
// Inputs:  x [⌈n/2⌉] u32, element 2i in the lower half of word i.  Output: y [n] f32.
// Params:  n.
// Workgroups: ⌈n/256⌉.
// #import shared/index
// #import shared/half

struct Params {
    n: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    y[i] = from_half(x[i / 2u] >> (i % 2u * 16u));
}
