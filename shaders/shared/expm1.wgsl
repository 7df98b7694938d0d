// 1 − exp(y) without cancellation.

// For y ≤ 0. Near 0 it is a series: 1 − exp(y) would lose most digits there (3e-5 of 1 − 0.999).
fn one_minus_exp(y: f32) -> f32 {
    if (y <= -1.0) { return 1.0 - exp(max(y, -80.0)); }
    var series = 1.0;
    for (var i = 11.0; i > 1.0; i -= 1.0) {
        series = 1.0 + y / i * series;
    }
    return -y * series;
}
