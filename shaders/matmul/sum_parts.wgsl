// Sum of the parts of a result whose terms were shared out, transposed: y[j,i] = Σ_s parts[s,i,j].
// Input: parts [parts, rows, columns].  Output: y [columns, rows].  Params: rows, columns, parts.
// Workgroups: ⌈rows·columns/256⌉.  In order, so the same parts give the same bits.
// #import shared/index
// #import shared/finish

struct Params { rows: u32, columns: u32, parts: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let at = element_index(wid, nwg, thread);
    let size = p.rows * p.columns;
    if (at >= size) { return; }
    let j = at / p.rows;
    let first = (at - j * p.rows) * p.columns + j;
    var total = 0.0;
    for (var s = 0u; s < p.parts; s++) { total += parts[s * size + first]; }
    y[at] = finish(at, total);
}
