// What `reduce` is for threads that have a row each: nothing to combine.

// What `main` asks for to call them.
struct Lane {
    @builtin(local_invocation_index) thread: u32,
}

// Threads of a row.
const LANES: u32 = 1u;

fn row_of(wid: vec3<u32>, nwg: vec3<u32>, lane: Lane) -> u32 { return element_index(wid, nwg, lane.thread); }

fn in_row(lane: Lane) -> u32 { return 0u; }

fn workgroup_sum(value: f32, lane: Lane) -> f32 { return value; }

fn workgroup_max(value: f32, lane: Lane) -> f32 { return value; }
