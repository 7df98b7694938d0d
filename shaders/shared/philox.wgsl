// Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011): four random words of a counter under a key.

// The upper half of a 64-bit product, from 16-bit halves.
fn multiply_high(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let middle = ah * bl + ((al * bl) >> 16u);
    let other = al * bh + (middle & 0xffffu);
    return ah * bh + (middle >> 16u) + (other >> 16u);
}

fn philox4x32(key: vec2<u32>, counter: vec4<u32>) -> vec4<u32> {
    var k = key;
    var c = counter;
    for (var round = 0u; round < 10u; round++) {
        let high = vec2<u32>(multiply_high(0xd2511f53u, c.x), multiply_high(0xcd9e8d57u, c.z));
        c = vec4<u32>(high.y ^ c.y ^ k.x, 0xcd9e8d57u * c.z, high.x ^ c.w ^ k.y, 0xd2511f53u * c.x);
        k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// A number in (0, 1), from the upper 23 bits of a word: neither end is ever drawn.
fn open_uniform(word: u32) -> f32 {
    return (f32(word >> 9u) + 0.5) * 1.1920929e-7;
}
