// Reductions over the 256 threads of a workgroup: subgroups first, then one part of each in order. All threads must
// call, and all get the result. Subgroups may have any size from 4 on, and threads may lie in them in any order.
// #import shared/rows

// What `main` asks for to call them.
struct Lane {
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
}

// One part of each subgroup: 256 / 4 at most.
var<workgroup> reduce_parts: array<f32, 64>;

fn workgroup_sum(value: f32, lane: Lane) -> f32 {
    let part = subgroupAdd(value);
    if (lane.in_subgroup == 0u) { reduce_parts[lane.subgroup] = part; }
    workgroupBarrier();
    var result = reduce_parts[0];
    for (var i = 1u; i < lane.n_subgroups; i++) { result += reduce_parts[i]; }
    workgroupBarrier();
    return result;
}

fn workgroup_max(value: f32, lane: Lane) -> f32 {
    let part = subgroupMax(value);
    if (lane.in_subgroup == 0u) { reduce_parts[lane.subgroup] = part; }
    workgroupBarrier();
    var result = reduce_parts[0];
    for (var i = 1u; i < lane.n_subgroups; i++) { result = max(result, reduce_parts[i]); }
    workgroupBarrier();
    return result;
}
