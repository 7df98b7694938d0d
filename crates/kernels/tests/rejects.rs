//! What every op must refuse, and the words that say why.

use acclimate_kernels::registry;
use acclimate_kernels::testkit::is_refused;
use acclimate_tensor::Device;

#[test]
fn null_bad_input_is_refused() {
    for device in [Device::null(), Device::cpu()] {
        for entry in registry::ALL {
            for row in (entry.rejects)() {
                is_refused(&row, &device).unwrap_or_else(|f| panic!("{}: {f}", entry.name));
            }
        }
    }
}
