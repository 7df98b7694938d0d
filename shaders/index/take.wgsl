// Rows of a table (an embedding): out[b,j,:] = table[b, index[b,j], :]. Words are copied as they are.
// Inputs:  table [batch,n_rows,width] of any 32-bit type, index [batch,n_idx] u32.  Output: out [batch,n_idx,width].
// Params:  batch, n_idx, n_rows, width, table_batch_stride, index_batch_stride (elements from one entry of the batch to
//          the next; 0 = shared), invalid (word given for an index not below n_rows: 0x7fc00000, a NaN, for f32).
// Workgroups: ⌈batch·n_idx·width / 256⌉.
// #import shared/index

struct Params {
    batch: u32, n_idx: u32, n_rows: u32, width: u32,
    table_batch_stride: u32, index_batch_stride: u32,
    invalid: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let i = element_index(wid, nwg, thread);
    if (i >= p.batch * p.n_idx * p.width) { return; }
    let b = i / (p.n_idx * p.width);
    let row = index[b * p.index_batch_stride + i / p.width % p.n_idx];
    var word = p.invalid;
    if (row < p.n_rows) { word = table[b * p.table_batch_stride + row * p.width + i % p.width]; }
    out[i] = word;
}
