// y[i] = Σ_k a_k after `loops` times a_k ← a_k · x[i] + (1 − x[i]), eight chains k of four lanes each, [n/4] threads.
// A line in front of this file says what a Number is: four lanes of f32 or f16.
struct Params { n: u32, loops: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = (wid.y * nwg.x + wid.x) * 256u + thread;
    if (i >= p.n / 4u) { return; }
    let by = Number(x[i]);
    let plus = Number(1.0) - by;
    var a0 = Number(0.0);
    var a1 = Number(0.125);
    var a2 = Number(0.25);
    var a3 = Number(0.375);
    var a4 = Number(0.5);
    var a5 = Number(0.625);
    var a6 = Number(0.75);
    var a7 = Number(0.875);
    for (var l = 0u; l < p.loops; l++) {
        a0 = fma(a0, by, plus);
        a1 = fma(a1, by, plus);
        a2 = fma(a2, by, plus);
        a3 = fma(a3, by, plus);
        a4 = fma(a4, by, plus);
        a5 = fma(a5, by, plus);
        a6 = fma(a6, by, plus);
        a7 = fma(a7, by, plus);
    }
    y[i] = vec4<f32>(((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)));
}
