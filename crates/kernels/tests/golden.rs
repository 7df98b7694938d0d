//! The ops on the CPU engine against golden vectors from PyTorch, values and gradients.

#![allow(clippy::unwrap_used, clippy::panic)]

mod vectors;

use std::path::Path;

use acclimate_tensor::Device;

/// Losses and normalizations are functions of `acclimate-train`; these tests of it read their files.
const ELSEWHERE: [(&str, &str); 12] = [
    ("attention", "losses.rs"),
    ("batch_norm", "norms.rs"),
    ("bce_with_logits", "losses.rs"),
    ("cross_entropy", "losses.rs"),
    ("group_norm", "norms.rs"),
    ("hint", "losses.rs"),
    ("huber", "losses.rs"),
    ("kd", "losses.rs"),
    ("kl_div", "losses.rs"),
    ("layer_norm", "norms.rs"),
    ("mse", "losses.rs"),
    ("soft_kl", "losses.rs"),
];

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let device = Device::cpu();
    let only = std::env::var("ACCLIMATE_CASE").unwrap_or_default();
    let mut n = 0;
    for name in vectors::names().iter().filter(|n| vectors::is_here(n) && n.contains(&only)) {
        for case in vectors::cases(name) {
            n += vectors::check(name, &case, &device);
        }
    }
    assert!(n > 500 || !only.is_empty(), "{n} arrays were compared");
}

#[test]
fn null_every_file_is_read_by_some_test() {
    for name in vectors::names() {
        if vectors::is_here(&name) {
            continue;
        }
        let (_, test) =
            ELSEWHERE.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name}: no test reads it"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../train/tests").join(test);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("\"{name}\"")), "{} does not name {name}", path.display());
    }
}
