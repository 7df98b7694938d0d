// What softmax and log-softmax over rows share.
// #import shared/index
// #import shared/reduce
// #import shared/exp

struct Params {
    rows: u32, n: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
