// Gradient descent with momentum (Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013).
//   g = grad + weight_decay·θ;   u = g at step 1, then momentum·u + (1 − dampening)·g
//   θ ← θ − rate·g if momentum = 0;   − rate·(g + momentum·u) if nesterov;   − rate·u else
// Inputs:  grad [n], rate [r], step [r] (this step's number as f32, from 1).
// In/out:  theta [n], momentum_buffer [n] (not touched if momentum = 0: one element will do).
// Params:  n, per_rate (element i uses rate and step number i / per_rate), momentum, dampening, weight_decay,
//          nesterov (0 or 1).
// Workgroups: ⌈n/256⌉.
// #import shared/index

struct Params {
    n: u32, per_rate: u32,
    momentum: f32, dampening: f32, weight_decay: f32,
    nesterov: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> rate: array<f32>;
@group(0) @binding(3) var<storage, read_write> step: array<f32>;
@group(0) @binding(4) var<storage, read_write> theta: array<f32>;
@group(0) @binding(5) var<storage, read_write> momentum_buffer: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    let group = i / p.per_rate;
    let before = theta[i];
    var g = grad[i] + p.weight_decay * before;
    if (p.momentum != 0.0) {
        var u = g;
        if (step[group] > 1.0) { u = p.momentum * momentum_buffer[i] + (1.0 - p.dampening) * g; }
        momentum_buffer[i] = u;
        g = select(u, g + p.momentum * u, p.nesterov != 0u);
    }
    theta[i] = before - rate[group] * g;
}
