//! Every row runs, small, and agrees with the oracle.
#![expect(clippy::unwrap_used, reason = "tests")]

use acclimate_benches::{Size, rows};
use acclimate_tensor::Device;

#[test]
fn every_row_agrees_with_the_oracle() {
    for (name, make) in rows::ROWS {
        let mut row = make(&Device::cpu(), Size::Small).unwrap();
        assert_eq!(row.name(), *name);
        // Chains of a few hundred roundings in f32, relative to the largest value; Adam's first steps have the length
        // of the rate wherever the gradient is far from zero.
        row.check(2e-4).unwrap_or_else(|error| panic!("{error}"));
    }
}
