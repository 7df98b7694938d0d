// Positions on a grid whose last two axes have sizes `sizes`, without a division for each step.

// Where position q is.
fn step_of(q: u32, sizes: vec2<u32>) -> vec3<u32> {
    return vec3<u32>(q / (sizes.x * sizes.y), q / sizes.y % sizes.x, q % sizes.y);
}

// So many positions further.
fn stepped(at: vec3<u32>, by: vec3<u32>, sizes: vec2<u32>) -> vec3<u32> {
    let z = at.z + by.z;
    let over_z = select(0u, 1u, z >= sizes.y);
    let y = at.y + by.y + over_z;
    let over_y = select(0u, 1u, y >= sizes.x);
    return vec3<u32>(at.x + by.x + over_y, y - over_y * sizes.x, z - over_z * sizes.y);
}
