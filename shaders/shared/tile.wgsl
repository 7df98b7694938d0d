// The inner part of every tiled product: 64×64 of the result by 256 threads, 16 steps of k at a time.
// Slot (kk, g) of a tile holds rows (or columns) 4g .. 4g+3 at step kk. Rows of slots are 17 long, not 16,
// so that threads which write down a column meet different banks.

const TILE: u32 = 64u;
const STEP: u32 = 16u;

var<workgroup> tile_a: array<vec4<f32>, 272>;
var<workgroup> tile_b: array<vec4<f32>, 272>;

fn tile_slot(kk: u32, group: u32) -> u32 {
    return kk * 17u + group;
}

// Adds the product of both tiles to this thread's block: acc[i][j] is row 4·ty + i, column 4·tx + j.
fn tile_product(acc: mat4x4<f32>, ty: u32, tx: u32) -> mat4x4<f32> {
    var r0 = acc[0];
    var r1 = acc[1];
    var r2 = acc[2];
    var r3 = acc[3];
    for (var kk = 0u; kk < STEP; kk++) {
        let a = tile_a[tile_slot(kk, ty)];
        let b = tile_b[tile_slot(kk, tx)];
        r0 += a.x * b;
        r1 += a.y * b;
        r2 += a.z * b;
        r3 += a.w * b;
    }
    return mat4x4<f32>(r0, r1, r2, r3);
}
