// Stable sort of each row: values[r,:] = x[r, index[r,:]], ascending or descending. A NaN is larger than all numbers
// (last if ascending, first if descending); −0 and 0 are equal.
// Inputs:  x [rows,n] f32.  Outputs: values [rows,n] f32, index [rows,n] u32.
// Params:  rows, n, descending (0 or 1).
// Workgroups: rows · ⌈n/256⌉. A thread counts the elements that stand before its own; the count is its rank. O(n²) work.
// #import shared/index
// #import shared/bits

struct Params {
    rows: u32, n: u32, descending: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<u32>;
@group(0) @binding(3) var<storage, read_write> index: array<u32>;

var<workgroup> keys: array<u32, 256>;

// A word that sorts as its number does.
fn key_of(word: u32) -> u32 {
    var key = select(word | 0x80000000u, ~word, word >= 0x80000000u);
    if (word << 1u == 0u) { key = 0x80000000u; }
    if (is_nan(bitcast<f32>(word))) { key = 0xffffffffu; }
    return select(key, ~key, p.descending != 0u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let blocks = (p.n + 255u) / 256u;
    let workgroup = workgroup_index(wid, nwg);
    let row = workgroup / blocks;
    if (row >= p.rows) { return; }
    let i = workgroup % blocks * 256u + thread;
    var word = 0u;
    if (i < p.n) { word = x[row * p.n + i]; }
    let key = key_of(word);

    var rank = 0u;
    for (var first = 0u; first < p.n; first += 256u) {
        if (first + thread < p.n) { keys[thread] = key_of(x[row * p.n + first + thread]); }
        workgroupBarrier();
        let count = min(256u, p.n - first);
        for (var t = 0u; t < count; t++) {
            let other = keys[t];
            rank += u32(other < key || (other == key && first + t < i));
        }
        workgroupBarrier();
    }
    if (i < p.n) {
        values[row * p.n + rank] = word;
        index[row * p.n + rank] = i;
    }
}
