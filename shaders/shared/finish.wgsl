// What becomes of a result, number `at` of its array, before it is stored. An engine may put a fused group in place of this.
fn finish(at: u32, value: f32) -> f32 { return value; }
