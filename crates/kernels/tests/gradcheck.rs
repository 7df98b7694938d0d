//! Gradient rules of every primitive and every op against differences in f64, first and second order.

use acclimate_kernels::testkit::{all_cases, check_all, gradient_is_right};
use acclimate_tensor::Device;

#[test]
fn gradients_are_right() {
    check_all(&all_cases(), &Device::cpu(), |case, _| gradient_is_right(case)).unwrap();
}
