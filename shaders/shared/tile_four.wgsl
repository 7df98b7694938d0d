// The inner part of a tiled product in which each thread makes four by four of a block.
// #import shared/tile_place

alias Block = mat4x4<f32>;
const SIDE: u32 = TILE / 4u;

// Adds the product of both tiles to this thread's block: acc[i][j] is row 4·ty + i, column 4·tx + j.
fn tile_product(acc: Block, ty: u32, tx: u32) -> Block {
    var r0 = acc[0];
    var r1 = acc[1];
    var r2 = acc[2];
    var r3 = acc[3];
    for (var kk = 0u; kk < STEP; kk++) {
        let a = tile_a[slot(kk, ty)];
        let b = tile_b[slot(kk, tx)];
        r0 += a.x * b;
        r1 += a.y * b;
        r2 += a.z * b;
        r3 += a.w * b;
    }
    return Block(r0, r1, r2, r3);
}
