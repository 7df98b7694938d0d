// Adam (Kingma & Ba 2015), with decoupled decay AdamW (Loshchilov & Hutter 2019), with amsgrad AMSGrad (Reddi et al. 2018).
//   g = grad + weight_decay·θ, or g = grad and θ ← θ − rate·weight_decay·θ first if decoupled
//   m ← m + (1 − β₁)(g − m);   v ← β₂·v + (1 − β₂)·g²;   w = v, or w = vmax ← max(vmax, v) if amsgrad
//   θ ← θ − rate/(1 − β₁ᵗ) · m / (√w/√(1 − β₂ᵗ) + eps)
// Inputs:  grad [n], rate [r], step [r] (t, this step's number as f32, from 1).
// In/out:  theta [n], m [n], v [n], vmax [n] (not touched without amsgrad: one element will do).
// Params:  n, per_rate (element i uses rate and step number i / per_rate), beta2, one_minus_beta1, one_minus_beta2,
//          ln_beta1, ln_beta2 (these four rounded from f64: 1 − β₂ in f32 is off by 1e-5), eps, weight_decay,
//          decoupled, amsgrad (0 or 1).
// Workgroups: ⌈n/256⌉.
// #import shared/index
// #import shared/bits
// #import shared/exp

struct Params {
    n: u32, per_rate: u32,
    beta2: f32, one_minus_beta1: f32, one_minus_beta2: f32, ln_beta1: f32, ln_beta2: f32,
    eps: f32, weight_decay: f32,
    decoupled: u32, amsgrad: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> rate: array<f32>;
@group(0) @binding(3) var<storage, read_write> step: array<f32>;
@group(0) @binding(4) var<storage, read_write> theta: array<f32>;
@group(0) @binding(5) var<storage, read_write> m: array<f32>;
@group(0) @binding(6) var<storage, read_write> v: array<f32>;
@group(0) @binding(7) var<storage, read_write> vmax: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    let group = i / p.per_rate;
    let lr = rate[group];
    let t = step[group];
    var x = theta[i];
    var g = grad[i];
    if (p.decoupled != 0u) {
        x *= 1.0 - lr * p.weight_decay;
    } else {
        g += p.weight_decay * x;
    }
    let first = m[i] + p.one_minus_beta1 * (g - m[i]);
    var second = p.beta2 * v[i] + p.one_minus_beta2 * g * g;
    m[i] = first;
    v[i] = second;
    if (p.amsgrad != 0u) {
        let peak = vmax[i];
        second = select(peak, second, second > peak || is_nan(second));
        vmax[i] = second;
    }
    let step_size = lr / one_minus_exp(t * p.ln_beta1);
    let denominator = sqrt(second) / sqrt(one_minus_exp(t * p.ln_beta2)) + p.eps;
    theta[i] = x - step_size * first / denominator;
}
