// Adagrad (Duchi, Hazan & Singer 2011).
//   g = grad + weight_decay·θ;   s ← s + g²;   θ ← θ − rate/(1 + (t − 1)·rate_decay) · g/(√s + eps)
// Inputs:  grad [n], rate [r], step [r] (t, this step's number as f32, from 1).
// In/out:  theta [n], sum [n] (s; its first value is the host's choice).
// Params:  n, per_rate (element i uses rate and step number i / per_rate), rate_decay, eps, weight_decay.
// Workgroups: ⌈n/256⌉.
// #import shared/index

struct Params {
    n: u32, per_rate: u32,
    rate_decay: f32, eps: f32, weight_decay: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> rate: array<f32>;
@group(0) @binding(3) var<storage, read_write> step: array<f32>;
@group(0) @binding(4) var<storage, read_write> theta: array<f32>;
@group(0) @binding(5) var<storage, read_write> sum: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    let group = i / p.per_rate;
    let before = theta[i];
    let g = grad[i] + p.weight_decay * before;
    let s = sum[i] + g * g;
    sum[i] = s;
    let lr = rate[group] / (1.0 + (step[group] - 1.0) * p.rate_decay);
    theta[i] = before - lr * g / (sqrt(s) + p.eps);
}
