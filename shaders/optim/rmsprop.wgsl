// RMSprop (Hinton 2012), centered as in Graves (2013).
//   g = grad + weight_decay·θ;   s ← α·s + (1 − α)·g²;   a ← a + (1 − α)(g − a) and w = s − a² if centered, else w = s
//   θ ← θ − rate·g/(√w + eps), or with momentum u ← momentum·u + g/(√w + eps) and θ ← θ − rate·u
// Inputs:  grad [n], rate [r], step [r] (not read; bound so that all rules are launched alike).
// In/out:  theta [n], square_avg [n], grad_avg [n] (a; touched if centered), buf [n] (u; touched if momentum > 0);
//          for an array that is not touched one element will do.
// Params:  n, per_rate (element i uses rate number i / per_rate), alpha, one_minus_alpha (rounded from f64), eps,
//          weight_decay, momentum, centered (0 or 1).
// Workgroups: ⌈n/256⌉.
// #import shared/index

struct Params {
    n: u32, per_rate: u32,
    alpha: f32, one_minus_alpha: f32, eps: f32, weight_decay: f32, momentum: f32,
    centered: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> rate: array<f32>;
@group(0) @binding(3) var<storage, read_write> step: array<f32>;
@group(0) @binding(4) var<storage, read_write> theta: array<f32>;
@group(0) @binding(5) var<storage, read_write> square_avg: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_avg: array<f32>;
@group(0) @binding(7) var<storage, read_write> buf: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    let lr = rate[i / p.per_rate];
    let before = theta[i];
    let g = grad[i] + p.weight_decay * before;
    var w = p.alpha * square_avg[i] + p.one_minus_alpha * g * g;
    square_avg[i] = w;
    if (p.centered != 0u) {
        let mean = grad_avg[i] + p.one_minus_alpha * (g - grad_avg[i]);
        grad_avg[i] = mean;
        // A variance; rounding can push it below zero.
        w = max(w - mean * mean, 0.0);
    }
    let denominator = sqrt(w) + p.eps;
    if (p.momentum > 0.0) {
        let u = p.momentum * buf[i] + g / denominator;
        buf[i] = u;
        theta[i] = before - lr * u;
    } else {
        theta[i] = before - lr * g / denominator;
    }
}
