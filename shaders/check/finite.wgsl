// Finds the first element that is not finite: found[slot] = n − i for the smallest i with x[at + i] an infinity or NaN,
// 0 if there is none.
// Inputs:  x [at + n].  Outputs: found [slots] u32, zeros before.
// Params:  n, at, slot, and the n that is subtracted from (n may be less where rows are left out).
// Workgroups: ceil(n / 256).
// #import shared/index
// #import shared/bits

struct Params {
    n: u32,
    at: u32,
    slot: u32,
    whole: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> found: array<atomic<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    if (!is_finite(x[p.at + i])) { atomicMax(&found[p.slot], p.whole - i); }
}
