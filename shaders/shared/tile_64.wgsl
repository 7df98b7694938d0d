// Tiles for a block of 64×64 of a product by 256 threads, 16 steps of k at a time.

const TILE: u32 = 64u;
const STEP: u32 = 16u;
const THREADS: u32 = 256u;

var<workgroup> tile_a: array<vec4<f32>, 272>;
var<workgroup> tile_b: array<vec4<f32>, 272>;

// #import shared/tile_four
