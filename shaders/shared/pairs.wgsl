// Words of 64 bits that hold two of 32. Where shaders run on the host's processor each lane of a vector reads and writes by
// itself, a word at a time, so that pairs take half as long.

fn pair(word: u64) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2<u32>(u32(word), u32(word >> 32u)));
}

fn four_of(pairs: vec2<u64>) -> vec4<u32> {
    return vec4<u32>(u32(pairs.x), u32(pairs.x >> 32u), u32(pairs.y), u32(pairs.y >> 32u));
}

fn pairs_of(four: vec4<u32>) -> vec2<u64> {
    return vec2<u64>(u64(four.x) | (u64(four.y) << 32u), u64(four.z) | (u64(four.w) << 32u));
}
