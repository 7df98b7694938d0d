// Parameters and workgroups of launches that leave out rows: for each launch i, with rows = min(count, of),
// words[to + slot] = value of each parameter that depends on rows, and args[3 i ..] = workgroups for rows.
// Inputs:  count [.., one at count_at] u32, table u32.  Outputs: words (the plan's parameters), args [3 per launch].
// Params:  n (launches), of, count_at, heads (where the launches' heads begin in the table).
// Table:   head of a launch: first row of its values, how many parameters, where the list of slots is, to, args index.
//          A row of values: the parameters, workgroups along x and y.
// Workgroups: ceil(n / 256).
// #import shared/index

struct Params {
    n: u32,
    limit: u32,
    count_at: u32,
    heads: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;
@group(0) @binding(4) var<storage, read_write> args: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.n) { return; }
    let head = p.heads + 5u * i;
    let n_words = table[head + 1u];
    let row = table[head] + min(count[p.count_at], p.limit) * (n_words + 2u);
    for (var k = 0u; k < n_words; k++) {
        words[table[head + 3u] + table[table[head + 2u] + k]] = table[row + k];
    }
    let to = 3u * table[head + 4u];
    args[to] = table[row + n_words];
    args[to + 1u] = table[row + n_words + 1u];
    args[to + 2u] = 1u;
}
