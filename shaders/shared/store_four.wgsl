// How a block of four by four leaves a thread.

// Hands four columns of each row to the shader's `store`. No index that changes: it would put the block into memory.
fn store_tile(at: vec4<u32>, acc: Block, ty: u32, tx: u32) {
    let row = at.y + 4u * ty;
    let column = at.z + 4u * tx;
    store(at, row, column, acc[0]);
    store(at, row + 1u, column, acc[1]);
    store(at, row + 2u, column, acc[2]);
    store(at, row + 3u, column, acc[3]);
}
