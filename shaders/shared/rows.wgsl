// Rows of a workgroup each; `reduce_alone` says the same for rows of a thread.
// #import shared/index

// Threads of a row.
const LANES: u32 = 256u;

fn row_of(wid: vec3<u32>, nwg: vec3<u32>, lane: Lane) -> u32 { return workgroup_index(wid, nwg); }

fn in_row(lane: Lane) -> u32 { return lane.thread; }
