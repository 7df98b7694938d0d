// A block of 32×32 of a tiled product by 64 threads, 8 steps of k at a time: for products with few blocks.

const TILE: u32 = 32u;
const STEP: u32 = 8u;
const THREADS: u32 = 64u;

var<workgroup> tile_a: array<vec4<f32>, 72>;
var<workgroup> tile_b: array<vec4<f32>, 72>;

// #import shared/tile_four
// #import shared/store_four
