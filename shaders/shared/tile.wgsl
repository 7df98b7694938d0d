// A block of 64×64 of a tiled product.
// #import shared/tile_64
// #import shared/store_four
