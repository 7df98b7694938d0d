// Softmax over the last axis: y[r,i] = exp(x[r,i] − m) / Σ_j exp(x[r,j] − m), m = max_j x[r,j].
// Inputs:  x [rows,n].  Output: y [rows,n].
// Params:  rows, n (n ≥ 1).
// Workgroups: rows; of the short one ⌈rows/256⌉.
// #short
// #import shared/softmax

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        lane: Lane) {
    let thread = in_row(lane);
    let row = row_of(wid, nwg, lane);
    if (row >= p.rows) { return; }
    let start = row * p.n;

    var peak = x[start];
    for (var i = start + thread; i < start + p.n; i += LANES) { peak = max(peak, x[i]); }
    peak = workgroup_max(peak, lane);
    var sum = 0.0;
    for (var i = start + thread; i < start + p.n; i += LANES) { sum += exp_down(x[i] - peak); }
    sum = workgroup_sum(sum, lane);
    for (var i = start + thread; i < start + p.n; i += LANES) { y[i] = exp_down(x[i] - peak) / sum; }
}
