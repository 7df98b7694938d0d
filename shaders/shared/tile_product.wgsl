// The inner part of every tiled product. STEP threads stand along each side of a block, each makes 4×4 of it.
// Slot (kk, g) of a tile holds rows (or columns) 4g .. 4g+3 at step kk. Rows of slots are one longer than they need be,
// so that threads which write down a column meet different banks.

fn tile_slot(kk: u32, group: u32) -> u32 {
    return kk * (STEP + 1u) + group;
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
