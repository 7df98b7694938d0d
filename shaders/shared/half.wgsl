// f32 to binary16 and back on the bits. WGSL leaves the rounding of `pack2x16float` to the driver (some truncate), and
// what it gives beyond 65504 is open; here both are fixed.

// To the nearest, ties to even; beyond the largest half is infinity.
fn to_half(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) { return sign | 0x7e00u; }
    if (size >= 0x477ff000u) { return sign | 0x7c00u; }
    if (size >= 0x38800000u) { return sign | ((size - 0x38000000u + 0xfffu + ((size >> 13u) & 1u)) >> 13u); }
    // Subnormal: the significand in steps of 2^-24.
    let shift = 126u - (size >> 23u);
    if (shift > 24u) { return sign; }
    let significand = (size & 0x7fffffu) | 0x800000u;
    return sign | ((significand + (1u << (shift - 1u)) - 1u + ((significand >> shift) & 1u)) >> shift);
}

fn from_half(h: u32) -> f32 {
    let sign = (h & 0x8000u) << 16u;
    let exponent = (h >> 10u) & 31u;
    let fraction = h & 0x3ffu;
    if (exponent == 0u) { return bitcast<f32>(sign | bitcast<u32>(f32(fraction) * 5.9604645e-8)); }
    let shifted = select(exponent + 112u, 255u, exponent == 31u);
    return bitcast<f32>(sign | (shifted << 23u) | (fraction << 13u));
}
