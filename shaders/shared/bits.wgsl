// Tests on the bits of a number: drivers that assume numbers are finite remove tests by comparison.

// Words of numbers that WGSL has no constant for. A constant expression must be finite, so `bitcast` them from a
// variable.
const NAN_BITS: u32 = 0x7fc00000u;
const NEG_INFINITY_BITS: u32 = 0xff800000u;

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
