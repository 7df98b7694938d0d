// Lion (Chen et al. 2023).
//   c = β₁·m + (1 − β₁)·grad;   θ ← θ − rate·(sign(c) + weight_decay·θ);   m ← β₂·m + (1 − β₂)·grad
// Inputs:  grad [n], rate [r], step [r] (not read; bound so that all rules are launched alike).
// In/out:  theta [n], m [n].
// Params:  n, per_rate (element i uses rate number i / per_rate), beta1, one_minus_beta1, beta2, one_minus_beta2
//          (differences rounded from f64), weight_decay.
// Workgroups: ⌈n/256⌉.
// #import shared/index
// #import shared/bits

struct Params {
    n: u32, per_rate: u32,
    beta1: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32, weight_decay: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> rate: array<f32>;
@group(0) @binding(3) var<storage, read_write> step: array<f32>;
@group(0) @binding(4) var<storage, read_write> theta: array<f32>;
@group(0) @binding(5) var<storage, read_write> m: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    let lr = rate[i / p.per_rate];
    let g = grad[i];
    let c = p.beta1 * m[i] + p.one_minus_beta1 * g;
    // A gradient that is not a number must not pass for a small step.
    let direction = select(sign(c), c, is_nan(c));
    theta[i] = theta[i] * (1.0 - lr * p.weight_decay) - lr * direction;
    m[i] = p.beta2 * m[i] + p.one_minus_beta2 * g;
}
