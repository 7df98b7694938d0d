// Adjoint of `take`: dtable[b,r,:] = Σ_j dy[b,j,:] over the j with index[b,j] = r. Other indices add to nothing.
// Inputs:  dy [batch,n_idx,width], index [batch,n_idx] u32.  Output: dtable [batch,n_rows,width].
// Params:  batch, n_idx, n_rows, width, index_batch_stride (0 = shared).
//          A table shared by the batch is one entry with batch·n_idx indices.
// Workgroups: batch · n_rows · ⌈width/256⌉. The 256 threads test as many indices at once, leave their hits in a bit set,
// and then add the rows that hit in order of j.
// #import shared/index

struct Params {
    batch: u32, n_idx: u32, n_rows: u32, width: u32,
    index_batch_stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;

var<workgroup> hits: array<atomic<u32>, 8>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let blocks = (p.width + 255u) / 256u;
    let workgroup = workgroup_index(wid, nwg);
    let row = workgroup / blocks;
    if (row >= p.batch * p.n_rows) { return; }
    let b = row / p.n_rows;
    let column = workgroup % blocks * 256u + thread;

    var sum = 0.0;
    for (var first = 0u; first < p.n_idx; first += 256u) {
        if (thread < 8u) { atomicStore(&hits[thread], 0u); }
        workgroupBarrier();
        let j = first + thread;
        if (j < p.n_idx && index[b * p.index_batch_stride + j] == row % p.n_rows) {
            atomicOr(&hits[thread / 32u], 1u << (thread % 32u));
        }
        workgroupBarrier();
        for (var word = 0u; word < 8u; word++) {
            var left = atomicLoad(&hits[word]);
            while (left != 0u) {
                let hit = first + word * 32u + firstTrailingBit(left);
                if (column < p.width) { sum += dy[(b * p.n_idx + hit) * p.width + column]; }
                left &= left - 1u;
            }
        }
        workgroupBarrier();
    }
    if (column < p.width) { dtable[row * p.width + column] = sum; }
}
