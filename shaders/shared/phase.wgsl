// The other way, along one axis: which outputs read an input pixel. Pixels of one residue, (pixel + pad) mod stride, are reached by
// the same taps: every `apart`-th from `tap0` on, `taps` of them, each `back` outputs before the last.

struct Phase { tap0: u32, apart: u32, taps: u32, back: u32 }

fn phase_of(residue: u32, k: u32, stride: u32, dil: u32) -> Phase {
    // Taps take residues in turn, and after `apart` of them again (k if there are not so many).
    var tap0 = k;
    var apart = k;
    for (var u = k; u > 0u; u--) {
        if ((u - 1u) * dil % stride == residue) { tap0 = u - 1u; }
        if (u * dil % stride == 0u) { apart = u; }
    }
    let taps = select(0u, (k - 1u - tap0) / apart + 1u, tap0 < k);
    return Phase(tap0, apart, taps, apart * dil / stride);
}

// The first pixel of a residue, and how many there are.
fn phase_first(residue: u32, stride: u32, pad: u32) -> u32 {
    return (residue + stride - pad % stride) % stride;
}

fn phase_count(residue: u32, size: u32, stride: u32, pad: u32) -> u32 {
    return (size + stride - 1u - phase_first(residue, stride, pad)) / stride;
}

// The output that reads a pixel through `tap0`. Numbers wrap before the first.
fn phase_output(pixel: u32, phase: Phase, stride: u32, dil: u32, pad: u32) -> u32 {
    return (pixel + pad) / stride - phase.tap0 * dil / stride;
}
