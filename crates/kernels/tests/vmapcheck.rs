//! Batching rules of every primitive and every op, and of their gradients, against a loop.

use acclimate_kernels::testkit::{all_cases, check_all, vmap_is_the_loop};
use acclimate_tensor::Device;

#[test]
fn vmap_is_a_loop() {
    check_all(&all_cases(), &Device::cpu(), vmap_is_the_loop).unwrap();
}
