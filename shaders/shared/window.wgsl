// What a window's tap reads of the image `x`, in any case, so that no read waits for a branch. Of either: a place in x, how far
// down and how far right; left of the image and above it numbers wrap.
fn x_at(window: vec3<u32>, tap: vec3<u32>, inside: bool) -> f32 {
    let read = inside & (window.y + tap.y < p.h) & (window.z + tap.z < p.w);
    let v = x[select(0u, window.x + tap.x, read)];
    return select(0.0, v, read);
}
