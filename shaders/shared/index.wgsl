// Where a workgroup stands in a dispatch. The host asks for a number of workgroups and folds more than
// 65535 of them into two axes, so the last row may hold workgroups that have nothing to do.

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.y * nwg.x + wid.x;
}

// The element of a thread, for workgroups of 256 threads and one element each.
fn element_index(wid: vec3<u32>, nwg: vec3<u32>, thread: u32) -> u32 {
    return workgroup_index(wid, nwg) * 256u + thread;
}
