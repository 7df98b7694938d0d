// A block of 128×128 of a tiled product by 256 threads, 8 steps of k at a time, eight by eight for each thread: rows and columns
// 4t .. 4t+3 of both halves of the block. For products with blocks enough to go around.
// #import shared/tile_place

const TILE: u32 = 128u;
const STEP: u32 = 8u;
const THREADS: u32 = 256u;
const SIDE: u32 = 16u;

var<workgroup> tile_a: array<vec4<f32>, 264>;
var<workgroup> tile_b: array<vec4<f32>, 264>;

struct Block {
    r0: mat2x4<f32>,
    r1: mat2x4<f32>,
    r2: mat2x4<f32>,
    r3: mat2x4<f32>,
    r4: mat2x4<f32>,
    r5: mat2x4<f32>,
    r6: mat2x4<f32>,
    r7: mat2x4<f32>,
}

// Adds the product of both tiles to this thread's block.
fn tile_product(acc: Block, ty: u32, tx: u32) -> Block {
    var r = acc;
    for (var kk = 0u; kk < STEP; kk++) {
        let near = tile_a[slot(kk, ty)];
        let far = tile_a[slot(kk, SIDE + ty)];
        let left = tile_b[slot(kk, tx)];
        let right = tile_b[slot(kk, SIDE + tx)];
        r.r0 += mat2x4<f32>(near.x * left, near.x * right);
        r.r1 += mat2x4<f32>(near.y * left, near.y * right);
        r.r2 += mat2x4<f32>(near.z * left, near.z * right);
        r.r3 += mat2x4<f32>(near.w * left, near.w * right);
        r.r4 += mat2x4<f32>(far.x * left, far.x * right);
        r.r5 += mat2x4<f32>(far.y * left, far.y * right);
        r.r6 += mat2x4<f32>(far.z * left, far.z * right);
        r.r7 += mat2x4<f32>(far.w * left, far.w * right);
    }
    return r;
}

// Hands four columns at a time of each row to the shader's `store`.
fn store_tile(at: vec4<u32>, acc: Block, ty: u32, tx: u32) {
    let row = at.y + 4u * ty;
    let column = at.z + 4u * tx;
    store_both(at, row, column, acc.r0);
    store_both(at, row + 1u, column, acc.r1);
    store_both(at, row + 2u, column, acc.r2);
    store_both(at, row + 3u, column, acc.r3);
    store_both(at, row + 64u, column, acc.r4);
    store_both(at, row + 65u, column, acc.r5);
    store_both(at, row + 66u, column, acc.r6);
    store_both(at, row + 67u, column, acc.r7);
}

fn store_both(at: vec4<u32>, row: u32, column: u32, halves: mat2x4<f32>) {
    store(at, row, column, halves[0]);
    store(at, row, column + 64u, halves[1]);
}
