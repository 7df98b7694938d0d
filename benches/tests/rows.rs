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

/// The device and the oracle round other numbers to halves now and then, 2⁻¹⁰ of a term apart; a loss is a mean over many.
#[test]
fn rows_of_halves_agree_with_the_oracle() {
    for (name, make) in rows::MIXED {
        let mut row = make(&Device::cpu(), Size::Small).unwrap();
        assert_eq!(row.name(), *name);
        row.check(2.0 / 1024.0).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Of the convolutional network's activations what is kept for the backward pass is halves; what a layer has in hand is f32.
#[test]
fn halves_take_less_room() {
    let peak = |name: &str| {
        let device = Device::cpu();
        rows::make(name, &device, Size::Full).unwrap().run().unwrap();
        device.plan_memory().iter().map(|plan| plan.peak).max().unwrap()
    };
    let (single, half) = (peak("cnn_step"), peak("cnn_step_half"));
    assert!(10 * half < 8 * single, "{half} bytes of {single}");
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
