// Random words: out[4i .. 4i + 4] = Philox4x32-10 of counter [i, draw, 0, 0] under key [k0, k1].
// Inputs:  key [2] u32.  Output: out [n] u32.
// Params:  n, draw.
// Workgroups: ⌈n/1024⌉, four words a thread.
// #import shared/index
// #import shared/philox

struct Params {
    n: u32, draw: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> key: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i > 0x3fffffffu) { return; }
    let words = philox4x32(vec2<u32>(key[0], key[1]), vec4<u32>(i, p.draw, 0u, 0u));
    for (var j = 0u; j < 4u; j++) {
        if (4u * i + j < p.n) { out[4u * i + j] = words[j]; }
    }
}
