// Poisson counts: P(out[i] = k) = exp(−λ) λᵏ / k! with λ = lam[i]. A λ that is negative or not finite gives NaN.
// Inputs:  lam [n], key [k,2] u32.  Output: out [n] (whole numbers as f32).
// Params:  n, per_key (element i uses key number i / per_key).
// Workgroups: ⌈n/256⌉.
// Words are Philox4x32-10 of counter [i mod per_key, block, 0, 0] under the key; u = (⌊word/2⁹⌋ + ½)/2²³.
//   λ < 10: the number of u whose running product stays above exp(−λ) (Knuth); u number q is word q mod 4 of block ⌊q/4⌋.
//   else:   transformed rejection PTRS (Hörmann 1993); try number d takes words 0 and 1 of block d.
// #import shared/index
// #import shared/bits
// #import shared/philox

struct Params {
    n: u32, per_key: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> lam: array<f32>;
@group(0) @binding(2) var<storage, read_write> key: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn words(i: u32, block: u32) -> vec4<u32> {
    let k = i / p.per_key * 2u;
    return philox4x32(vec2<u32>(key[k], key[k + 1u]), vec4<u32>(i % p.per_key, block, 0u, 0u));
}

fn by_product(i: u32, lambda: f32) -> f32 {
    let stop = exp(-lambda);
    var product = 1.0;
    // With λ < 10 no more than 80 factors are ever needed; 200 is a guard.
    for (var q = 0u; q < 200u; q += 4u) {
        let block = words(i, q / 4u);
        for (var j = 0u; j < 4u; j++) {
            product *= open_uniform(block[j]);
            if (product <= stop) { return f32(q + j); }
        }
    }
    return 200.0;
}

// ln of exp(−λ) λᵏ / k!, by Stirling's series, written so that no two large numbers are subtracted.
fn log_probability(k: f32, lambda: f32) -> f32 {
    if (k == 0.0) { return -lambda; }
    let d = (lambda - k) / k;
    var bend = 0.0; // ln(1 + d) − d
    if (abs(d) < 0.2) {
        for (var j = 12.0; j >= 2.0; j -= 1.0) { bend = 1.0 / j - d * bend; }
        bend *= -d * d;
    } else {
        bend = log(1.0 + d) - d;
    }
    let r = 1.0 / (k * k);
    return k * bend - 0.5 * log(6.2831853 * k) - (1.0 / 12.0 - r * (1.0 / 360.0 - r / 1260.0)) / k;
}

fn by_rejection(i: u32, lambda: f32) -> f32 {
    let b = 0.931 + 2.53 * sqrt(lambda);
    let a = -0.059 + 0.02483 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let squeeze = 0.9277 - 3.6224 / (b - 2.0);
    // More than 9 tries in 10 are taken, so 64 do not fail in any life.
    for (var d = 0u; d < 64u; d++) {
        let block = words(i, d);
        let u = open_uniform(block.x) - 0.5;
        let v = open_uniform(block.y);
        let edge = 0.5 - abs(u);
        let k = floor((2.0 * a / edge + b) * u + lambda + 0.43);
        if (edge >= 0.07 && v <= squeeze) { return k; }
        if (k < 0.0 || (edge < 0.013 && v > edge)) { continue; }
        if (log(v * inverse_alpha / (a / (edge * edge) + b)) <= log_probability(k, lambda)) { return k; }
    }
    return floor(lambda);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    let lambda = lam[i];
    var word = NAN_BITS;
    if (is_finite(lambda) && lambda >= 0.0) {
        if (lambda < 10.0) {
            word = bitcast<u32>(by_product(i, lambda));
        } else {
            word = bitcast<u32>(by_rejection(i, lambda));
        }
    }
    out[i] = bitcast<f32>(word);
}
