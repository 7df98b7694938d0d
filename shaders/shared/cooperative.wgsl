// What products on cooperative matrices share: operands of halves, tiles of both in workgroup memory, and the way out.
// A workgroup makes a block of TILE×TILE of the result in four quarters of two by two matrices, one for a subgroup: with less
// than four subgroups they take turns, and with more some have nothing to do.

struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    a_batch_stride: u32, b_batch_stride: u32,
    trans_a: u32, trans_b: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read_write> b: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

const TILE: u32 = 4u * SIDE;
const STEP: u32 = 32u;
const THREADS: u32 = 128u;

// A tile lies as its operand is stored: lines along k, or lines of rows (columns), and eight more between them.
const ALONG: u32 = STEP + 8u;
const ACROSS: u32 = TILE + 8u;
var<workgroup> tile_a: array<f16, TILE * ALONG>;
var<workgroup> tile_b: array<f16, TILE * ALONG>;
// One matrix of each quarter on its way out, and one of those who have none.
var<workgroup> out: array<f32, 5u * SIDE * SIDE>;

// Where four halves of a tile come from and go to: the line's number, the first half of it, and their place in the tile.
fn four_of(i: u32, across: bool) -> vec3<u32> {
    let fours = select(STEP, TILE, across) / 4u;
    let line = i / fours;
    let first = i % fours * 4u;
    return vec3<u32>(line, first, line * select(ALONG, ACROSS, across) + first);
}

// TILE rows of a (columns of b) from `lead` on and STEP steps of k from `q0` on, zeros beyond the matrix. Read in any case, so
// that no read waits for a branch.
fn stage_a(base: u32, lead: u32, q0: u32, thread: u32) {
    let across = p.trans_a != 0u;
    let sizes = select(vec2<u32>(p.m, p.k), vec2<u32>(p.k, p.m), across);
    let corner = select(vec2<u32>(lead, q0), vec2<u32>(q0, lead), across);
    for (var i = thread; i < TILE * STEP / 4u; i += THREADS) {
        let four = four_of(i, across);
        let at = corner + four.xy;
        let inside = (at.x < sizes.x) & (at.y < sizes.y);
        let v = select(vec4<f16>(), a[select(0u, (base + at.x * sizes.y + at.y) / 4u, inside)], inside);
        tile_a[four.z] = v.x;
        tile_a[four.z + 1u] = v.y;
        tile_a[four.z + 2u] = v.z;
        tile_a[four.z + 3u] = v.w;
    }
}

fn stage_b(base: u32, lead: u32, q0: u32, thread: u32) {
    let across = p.trans_b == 0u;
    let sizes = select(vec2<u32>(p.n, p.k), vec2<u32>(p.k, p.n), across);
    let corner = select(vec2<u32>(lead, q0), vec2<u32>(q0, lead), across);
    for (var i = thread; i < TILE * STEP / 4u; i += THREADS) {
        let four = four_of(i, across);
        let at = corner + four.xy;
        let inside = (at.x < sizes.x) & (at.y < sizes.y);
        let v = select(vec4<f16>(), b[select(0u, (base + at.x * sizes.y + at.y) / 4u, inside)], inside);
        tile_b[four.z] = v.x;
        tile_b[four.z + 1u] = v.y;
        tile_b[four.z + 2u] = v.z;
        tile_b[four.z + 3u] = v.w;
    }
}
