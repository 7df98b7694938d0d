// How the operands of a tiled product lie in workgroup memory, and who brings them there.
// Slot (kk, g) of a tile holds rows (or columns) 4g .. 4g+3 at step kk. Rows of slots are one longer than they need be,
// so that threads which write down a column meet different banks. Each thread fills one slot of either tile.

const GROUPS: u32 = TILE / 4u;

fn slot(kk: u32, group: u32) -> u32 {
    return kk * (GROUPS + 1u) + group;
}

// Step and group that a thread fills: neighbors read neighboring words, of an operand that lies along k or across it.
fn place(thread: u32, along: bool) -> vec2<u32> {
    return select(vec2<u32>(thread / GROUPS, thread % GROUPS), vec2<u32>(thread % STEP, thread / STEP), along);
}

// Four lines (rows, columns) of n from `first` on. Beyond the last stands the last: what that gives is not stored.
fn four_lines(first: u32, n: u32) -> vec4<u32> {
    return min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(n - 1u));
}
