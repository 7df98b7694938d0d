//! The CPU engine with narrower vectors than the processor has: every case conforms on every path.

use acclimate_kernels::testkit::{all_cases, check_all, conforms};
use acclimate_tensor::Device;
use acclimate_tensor::engine::cpu::simd::Path;

#[test]
fn every_vector_path_conforms() {
    let (widest, narrower) = Path::present().split_last().unwrap();
    for &path in narrower {
        Path::force(path);
        assert_eq!(Path::now(), path);
        let device = Device::cpu();
        assert!(device.info().driver.contains(&path.to_string()), "{device}");
        assert!(check_all(&all_cases(), &device, conforms).unwrap() > 0);
    }
    Path::force(*widest);
}
