// Running sum along the last axis: y[r,i] = Σ_{j ≤ i} x[r,j]; from the other end, Σ_{j ≥ i}, if reverse (its gradient).
// Inputs:  x [rows,n].  Output: y [rows,n].
// Params:  rows, n, reverse (0 or 1).
// Workgroups: rows. Blocks of 256 are summed by a fixed tree and carried from one to the next.
// #import shared/index

struct Params {
    rows: u32, n: u32, reverse: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let row = workgroup_index(wid, nwg);
    if (row >= p.rows) { return; }
    var before = 0.0;
    for (var first = 0u; first < p.n; first += 256u) {
        let i = first + thread;
        let at = row * p.n + select(i, p.n - 1u - i, p.reverse != 0u);
        var sum = 0.0;
        if (i < p.n) { sum = x[at]; }
        sums[thread] = sum;
        for (var reach = 1u; reach < 256u; reach *= 2u) {
            workgroupBarrier();
            if (thread >= reach) { sum += sums[thread - reach]; }
            workgroupBarrier();
            sums[thread] = sum;
        }
        workgroupBarrier();
        if (i < p.n) { y[at] = before + sum; }
        before += sums[255];
        workgroupBarrier();
    }
}
