//! Every row runs, small, and agrees with the oracle; in full size its bits do not depend on the number of threads.

use acclimate_benches::{Size, rows};
use acclimate_tensor::Device;

#[test]
fn every_row_agrees_with_the_oracle() {
    for (name, make) in rows::ROWS.iter().chain(rows::LARGE) {
        let mut row = make(&Device::cpu(), Size::Small).unwrap();
        assert_eq!(row.name(), *name);
        // Chains of a few hundred roundings in f32, relative to the largest value; Adam's first steps have the length
        // of the rate wherever the gradient is far from zero.
        row.check(2e-4).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let bits = |n_threads: usize| -> Vec<Vec<u32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let run = |make: rows::Make| {
            let mut row = make(&Device::cpu(), Size::Full).unwrap();
            row.run().unwrap();
            row.run().unwrap().to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
        };
        pool.install(|| rows::ROWS.iter().map(|row| run(row.1)).collect())
    };
    let (one, three) = (bits(1), bits(3));
    for ((name, _), (a, b)) in rows::ROWS.iter().zip(one.iter().zip(&three)) {
        assert!(a == b, "{name} differs between one thread and three");
    }
}
