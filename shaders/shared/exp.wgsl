// exp where drivers underflow, and 1 − exp(y) without cancellation.

// For y ≤ 0; 0 where the result would be subnormal. A NaN stays one: no clamp by `max`, which may drop it.
fn exp_down(y: f32) -> f32 {
    return select(exp(y), 0.0, y < -87.0);
}

// For y ≤ 0. Near 0 it is a series: 1 − exp(y) would lose most digits there (3e-5 of 1 − 0.999).
fn one_minus_exp(y: f32) -> f32 {
    if (y <= -1.0) { return 1.0 - exp_down(y); }
    var series = 1.0;
    for (var i = 11.0; i > 1.0; i -= 1.0) {
        series = 1.0 + y / i * series;
    }
    return -y * series;
}
