// Where a mask is set: list[count_before(i)] = i for each i with mask[i] ≠ 0, in order; the rest of the list is n.
// Inputs:  mask [n] u32.  Outputs: list [n] u32, count [1] u32.
// Params:  n.
// Workgroups: 1. It goes through the mask 256 words at a time.
// #import shared/index

struct Params {
    n: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> count: array<u32>;

var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    if (workgroup_index(wid, nwg) != 0u) { return; }
    var before = 0u;
    for (var first = 0u; first < p.n; first += 256u) {
        let i = first + thread;
        var kept = 0u;
        if (i < p.n) { kept = u32(mask[i] != 0u); }
        var sum = kept;
        sums[thread] = sum;
        for (var reach = 1u; reach < 256u; reach *= 2u) {
            workgroupBarrier();
            if (thread >= reach) { sum += sums[thread - reach]; }
            workgroupBarrier();
            sums[thread] = sum;
        }
        workgroupBarrier();
        if (kept != 0u) { list[before + sum - 1u] = i; }
        before += sums[255];
        workgroupBarrier();
    }
    for (var i = before + thread; i < p.n; i += 256u) { list[i] = p.n; }
    if (thread == 0u) { count[0] = before; }
}
