// What attention and its gradients share: products of tiles of 64×64 whose operands lie row by row in memory, or, on
// the left, in the registers of the workgroup. A kernel defines `fetch(what, index)` over its arrays and the numbers of
// `what`. Thread t = 16·high + low has rows 4·high .. +3 and columns 4·low .. +3 of a tile.
// #import shared/index
// #import shared/tile_64
// #import shared/exp

struct Params {
    batch: u32, n_q: u32, n_k: u32, d: u32, e: u32,
    // Entries of the batch that share a mask; 0 without one.
    mask_share: u32,
    causal: u32,
    scale: f32,
}
@group(0) @binding(0) var<uniform> p: Params;

// A matrix in an array: `rows` of `width` numbers, the first at `base`.
struct Matrix { what: u32, base: u32, rows: u32, width: u32 }

fn at(m: Matrix, row: u32, column: u32) -> f32 {
    // Read in any case, so that no read waits for a branch.
    let inside = (row < m.rows) & (column < m.width);
    return select(0.0, fetch(m.what, select(0u, m.base + row * m.width + column, inside)), inside);
}

// Rows from row0 on of one matrix by rows from row1 on of another, of one width: their inner products.
fn rows_by_rows(left: Matrix, row0: u32, right: Matrix, row1: u32, thread: u32) -> mat4x4<f32> {
    let low = thread % 16u;
    let high = thread / 16u;
    let l = row0 + 4u * high;
    let r = row1 + 4u * high;
    var acc = mat4x4<f32>();
    for (var q0 = 0u; q0 < left.width; q0 += STEP) {
        let q = q0 + low;
        tile_a[slot(low, high)] = vec4<f32>(at(left, l, q), at(left, l + 1u, q), at(left, l + 2u, q),
                                                 at(left, l + 3u, q));
        tile_b[slot(low, high)] = vec4<f32>(at(right, r, q), at(right, r + 1u, q), at(right, r + 2u, q),
                                                 at(right, r + 3u, q));
        workgroupBarrier();
        acc = tile_product(acc, high, low);
        workgroupBarrier();
    }
    return acc;
}

// Adds a tile in registers times 64 rows of a matrix, from row0 on; of its columns those from column0 on.
fn tile_by_rows(acc: mat4x4<f32>, tile: mat4x4<f32>, right: Matrix, row0: u32, column0: u32, thread: u32) -> mat4x4<f32> {
    let low = thread % 16u;
    let high = thread / 16u;
    let columns = transpose(tile);
    let c = column0 + 4u * low;
    var sum = acc;
    for (var chunk = 0u; chunk < 4u; chunk++) {
        if (low / 4u == chunk) {
            let step = low % 4u * 4u;
            tile_a[slot(step, high)] = columns[0];
            tile_a[slot(step + 1u, high)] = columns[1];
            tile_a[slot(step + 2u, high)] = columns[2];
            tile_a[slot(step + 3u, high)] = columns[3];
        }
        let r = row0 + chunk * STEP + high;
        tile_b[slot(high, low)] = vec4<f32>(at(right, r, c), at(right, r, c + 1u), at(right, r, c + 2u),
                                                 at(right, r, c + 3u));
        workgroupBarrier();
        sum = tile_product(sum, high, low);
        workgroupBarrier();
    }
    return sum;
}

// Whether a query may look at a key.
fn visible(entry: u32, query: u32, key: u32) -> bool {
    let there = (query < p.n_q) & (key < p.n_k) & ((p.causal == 0u) | (key <= query));
    if (p.mask_share == 0u) { return there; }
    let word = mask[select(0u, (entry / p.mask_share * p.n_q + query) * p.n_k + key, there)];
    return there & (word != 0u);
}
