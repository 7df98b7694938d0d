// Reductions over the 256 threads of a workgroup by a fixed tree. All threads must call, and all get the result. The
// twins of this file, `reduce_subgroup` and `reduce_alone`, say the same by subgroup operations, and for rows of one thread.
// #import shared/rows

// What `main` asks for to call them.
struct Lane {
    @builtin(local_invocation_index) thread: u32,
}

var<workgroup> reduce_parts: array<f32, 256>;

fn workgroup_sum(value: f32, lane: Lane) -> f32 {
    let thread = lane.thread;
    reduce_parts[thread] = value;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) { reduce_parts[thread] += reduce_parts[thread + half]; }
    }
    workgroupBarrier();
    let result = reduce_parts[0];
    workgroupBarrier();
    return result;
}

fn workgroup_max(value: f32, lane: Lane) -> f32 {
    let thread = lane.thread;
    reduce_parts[thread] = value;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) { reduce_parts[thread] = max(reduce_parts[thread], reduce_parts[thread + half]); }
    }
    workgroupBarrier();
    let result = reduce_parts[0];
    workgroupBarrier();
    return result;
}
