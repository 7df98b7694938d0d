// Gradient of softmax: dx[r,i] = y[r,i] · (dy[r,i] − Σ_j dy[r,j] · y[r,j]).
// Inputs:  y [rows,n] (what softmax gave), dy [rows,n].  Output: dx [rows,n].
// Params:  rows, n.
// Workgroups: rows; of the short one ⌈rows/256⌉.
// #short
// #import shared/softmax

@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        lane: Lane) {
    let thread = in_row(lane);
    let row = row_of(wid, nwg, lane);
    if (row >= p.rows) { return; }
    let start = row * p.n;

    var sum = 0.0;
    for (var i = start + thread; i < start + p.n; i += LANES) { sum += dy[i] * y[i]; }
    sum = workgroup_sum(sum, lane);
    for (var i = start + thread; i < start + p.n; i += LANES) { dx[i] = y[i] * (dy[i] - sum); }
}
