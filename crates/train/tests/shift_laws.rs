//! What each shift must do to the statistics of images, for every severity.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use acclimate_train::data::{DataError, Images, idx};
use acclimate_train::shift::{self, Family, Severity, Shift};

const STEP: f64 = 1.0 / 255.0;
const SEED: u64 = 7;

fn flat(value: u8, n: usize, size: [usize; 3]) -> Images {
    Images::new(vec![value; n * size.iter().product::<usize>()], vec![0; n], size, 1).unwrap()
}

fn fashion(n: usize) -> Images {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    idx::fashion8k(folder).unwrap().1.subset(0..n).unwrap()
}

/// The same pixels as images of three channels.
fn as_color(images: &Images) -> Images {
    let n = images.len() / 3;
    let pixels = images.pixels()[..3 * n * images.image_len()].to_vec();
    Images::new(pixels, vec![0; n], [3, images.height(), images.width()], 1).unwrap()
}

fn apply(images: &Images, shift: Shift, severity: Severity, family: Family) -> Images {
    shift::apply(images, shift, severity, family, SEED).unwrap()
}

fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (mean, (values.map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
}

fn units(pixels: &[u8]) -> impl Iterator<Item = f64> + Clone + '_ {
    pixels.iter().map(|&pixel| f64::from(pixel) / 255.0)
}

/// The shift of a flat image has this mean and this standard deviation.
fn check_noise(shift: Shift, family: Family, value: u8, expected: [(f64, f64); 5]) {
    let images = flat(value, 200, [1, 28, 28]);
    let n = images.pixels().len() as f64;
    for (severity, (mean, std)) in Severity::ALL.into_iter().zip(expected) {
        let (found_mean, found_std) = moments(units(apply(&images, shift, severity, family).pixels()));
        // 4.5 standard errors; that of the deviation is std·sqrt((k − 1) / 4n), and no kurtosis k here passes 3.2.
        let (mean_error, std_error) = (4.5 * std / n.sqrt(), 4.5 * std * (0.55 / n).sqrt());
        // Truncation takes 0 to 1 step from each value: the mean falls by up to a step, the deviation moves by up to
        // the largest deviation of a number in 0..1, half a step.
        let name = format!("{shift} {severity} {family}: {found_mean} {found_std}, expected {mean} {std}");
        assert!(found_mean > mean - STEP - mean_error && found_mean < mean + mean_error, "{name}");
        assert!((found_std - std).abs() < 0.5 * STEP + std_error, "{name}");
    }
}

/// Moments of a normal clipped to 0..1, by a midpoint sum over ±8 deviations.
fn clipped_normal(mean: f64, std: f64) -> (f64, f64) {
    let (mut weight, mut first, mut second) = (0.0, 0.0, 0.0);
    for i in 0..16_000 {
        let z = (f64::from(i) + 0.5) / 1_000.0 - 8.0;
        let (p, x) = ((-z * z / 2.0).exp(), (mean + std * z).clamp(0.0, 1.0));
        weight += p;
        first += p * x;
        second += p * x * x;
    }
    let mean = first / weight;
    (mean, (second / weight - mean * mean).sqrt())
}

#[test]
fn gaussian_and_speckle_follow_the_clipped_normal() {
    let x = 128.0 * STEP;
    let camera = [0.08, 0.12, 0.18, 0.26, 0.38].map(|std| clipped_normal(x, std));
    check_noise(Shift::Gaussian, Family::Camera, 128, camera);
    let cifar = [0.04, 0.06, 0.08, 0.09, 0.10].map(|std| clipped_normal(x, std));
    check_noise(Shift::Gaussian, Family::Cifar, 128, cifar);
    let speckle = [0.06, 0.10, 0.12, 0.16, 0.20].map(|std| clipped_normal(x, std * x));
    check_noise(Shift::Speckle, Family::Cifar, 128, speckle);
}

#[test]
fn photon_noise_follows_poisson() {
    // At 64 / 255 the clip at 1 is 10 deviations away.
    let x = 64.0 * STEP;
    check_noise(Shift::Shot, Family::Cifar, 64, [500.0, 250.0, 100.0, 75.0, 50.0].map(|n: f64| (x, (x / n).sqrt())));
    // White at gain g has g·photons counts; both noises add their variances. Severity 5 lies 2.9 deviations above
    // the clip at 0, which moves mean and deviation by less than a tenth of what is allowed for truncation.
    let rows =
        [(0.6, 400.0, 0.005), (0.45, 250.0, 0.01), (0.35, 150.0, 0.015), (0.25, 100.0, 0.02), (0.18, 60.0, 0.03)];
    let expected = rows.map(|(gain, photons, read): (f64, f64, f64)| (gain, (gain / photons + read * read).sqrt()));
    check_noise(Shift::LowLight, Family::Camera, 255, expected);
}

#[test]
fn impulses_hit_their_share() {
    let images = flat(128, 200, [1, 28, 28]);
    let n = images.pixels().len() as f64;
    for (severity, amount) in Severity::ALL.into_iter().zip([0.01, 0.02, 0.03, 0.05, 0.07]) {
        let shifted = apply(&images, Shift::Impulse, severity, Family::Cifar);
        let share = |value: u8| shifted.pixels().iter().filter(|&&pixel| pixel == value).count() as f64 / n;
        for (value, expected) in [(0, amount / 2.0), (255, amount / 2.0), (128, 1.0 - amount)] {
            let error = 4.5 * (expected * (1.0 - expected) / n).sqrt();
            assert!((share(value) - expected).abs() < error, "{severity}: {value} {}", share(value));
        }
    }
}

#[test]
fn contrast_scales_the_deviation_about_the_mean() {
    let images = fashion(100);
    let rows = [(Family::Camera, [0.4, 0.3, 0.2, 0.1, 0.05]), (Family::Cifar, [0.75, 0.5, 0.4, 0.3, 0.15])];
    for (family, factors) in rows {
        for (severity, factor) in Severity::ALL.into_iter().zip(factors) {
            let shifted = apply(&images, Shift::Contrast, severity, family);
            for i in 0..images.len() {
                let (mean, std) = moments(units(images.image(i)));
                let (found_mean, found_std) = moments(units(shifted.image(i)));
                assert!(found_mean <= mean + 1e-9 && found_mean > mean - STEP, "{severity} {i}");
                assert!((found_std - factor * std).abs() <= 0.5 * STEP, "{severity} {i}");
            }
        }
    }
}

#[test]
fn the_published_bytes_of_contrast() {
    // Mean 0.5, factor 0.15: 0.425 and 0.575, times 255 = 108.4 and 146.6, truncated.
    let images = Images::new(vec![0, 255], vec![0], [1, 1, 2], 1).unwrap();
    assert_eq!(apply(&images, Shift::Contrast, Severity::ALL[4], Family::Cifar).pixels(), [108, 146]);
}

/// The keys, the generator and the formula, computed by a second implementation in Python.
#[test]
fn the_same_noise_on_every_platform() {
    let shifted = apply(&flat(128, 2, [1, 2, 4]), Shift::Gaussian, Severity::ALL[4], Family::Camera);
    assert_eq!(shifted.image(0), [154, 160, 0, 213, 116, 33, 118, 40]);
    assert_eq!(shifted.image(1), [55, 121, 120, 212, 164, 62, 0, 203]);
}

/// On a flat image of 32 x 32 the veil shows its whole range: from x²/(x + s) where it is thinnest to x.
#[test]
fn fog_spans_its_range() {
    let x = 200.0 * STEP;
    let rows = [(Family::Camera, [0.5, 0.8, 1.1, 1.4, 1.8]), (Family::Cifar, [0.2, 0.5, 0.75, 1.0, 1.5])];
    for (family, strengths) in rows {
        for (severity, strength) in Severity::ALL.into_iter().zip(strengths) {
            let shifted = apply(&flat(200, 3, [3, 32, 32]), Shift::Fog, severity, family);
            for i in 0..3 {
                let image = shifted.image(i);
                let thinnest = x * x / (x + strength);
                assert_eq!(image.iter().min(), Some(&((255.0 * thinnest + 1e-9) as u8)), "{family} {severity}");
                assert_eq!(image.iter().max(), Some(&200));
                assert_eq!(image[..1024], image[1024..2048], "one veil for all channels");
            }
            assert_ne!(shifted.image(0), shifted.image(1));
        }
    }
}

#[test]
fn brightness_is_added() {
    for (severity, shift) in Severity::ALL.into_iter().zip([0.05, 0.1, 0.15, 0.2, 0.3]) {
        for value in [0u8, 100, 250] {
            let expected = (f64::from(value) + 255.0 * shift).min(255.0);
            let shifted = apply(&flat(value, 1, [3, 2, 2]), Shift::Brightness, severity, Family::Cifar);
            assert!(shifted.pixels().iter().all(|&pixel| pixel == (expected + 1e-9) as u8), "{severity} {value}");
        }
    }
    let two = flat(1, 1, [2, 2, 2]);
    for shift in Shift::ALL.into_iter().filter(|shift| shift.channels().is_some()) {
        let refused = shift::apply(&two, shift, Severity::ALL[0], Family::Cifar, 0);
        assert!(matches!(refused, Err(DataError::Argument { .. })), "{shift}");
    }
}

/// What only moves light between neighbors leaves a flat image alone: no value is lost at borders or to rounding.
#[test]
fn blur_leaves_flat_images_alone() {
    for value in [0, 1, 127, 128, 255] {
        let images = flat(value, 1, [3, 7, 5]);
        for severity in Severity::ALL {
            assert_eq!(apply(&images, Shift::Defocus, severity, Family::Camera), images);
            for shift in [
                Shift::Defocus,
                Shift::GaussianBlur,
                Shift::Pixelate,
                Shift::Glass,
                Shift::Motion,
                Shift::Zoom,
                Shift::Elastic,
            ] {
                assert_eq!(apply(&images, shift, severity, Family::Cifar), images, "{shift} {severity}");
            }
        }
    }
}

fn mean_square_distance(a: &Images, b: &Images) -> f64 {
    let squares = a.pixels().iter().zip(b.pixels()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>() / a.pixels().len() as f64
}

/// What the family has constants for, on images of so many channels.
fn with_constants(family: Family, channels: usize) -> Vec<Shift> {
    let probe = flat(9, 1, [channels, 2, 2]);
    let known = |shift: &Shift| shift::apply(&probe, *shift, Severity::ALL[0], family, 0).is_ok();
    Shift::ALL.into_iter().filter(known).collect()
}

#[test]
fn severity_grows() {
    assert_eq!((with_constants(Family::Cifar, 3).len(), with_constants(Family::Cifar, 1).len()), (19, 18));
    let mut camera = Shift::CAMERA.to_vec();
    camera.sort_by_key(|shift| shift.name());
    let mut found = with_constants(Family::Camera, 1);
    found.sort_by_key(|shift| shift.name());
    assert_eq!(found, camera);
    // Published constants that change several things at once, so that a severity may be nearer to the clean image.
    let unordered = [Shift::Glass, Shift::Frost, Shift::Elastic, Shift::Spatter, Shift::Saturate];
    let mut turned = Vec::new();
    for images in [fashion(60), as_color(&fashion(180))] {
        for family in Family::ALL {
            for shift in with_constants(family, images.channels()) {
                let mut before = 0.0;
                for severity in Severity::ALL {
                    let shifted = apply(&images, shift, severity, family);
                    assert_eq!((shifted.len(), shifted.labels()), (images.len(), images.labels()));
                    let distance = mean_square_distance(&images, &shifted);
                    assert!(distance > 0.0, "{shift} {severity} {family}");
                    if distance <= before {
                        assert!(unordered.contains(&shift), "{shift} {severity} {family}: {distance} after {before}");
                        turned.push(shift);
                    }
                    before = distance;
                }
            }
        }
    }
    assert!(unordered.iter().all(|shift| turned.contains(shift)), "{turned:?} need no exception");
}

/// Flakes add their mean twice (once turned), and light lifts a flat image by a known amount.
#[test]
fn snow_adds_its_mean() {
    let images = flat(51, 200, [1, 28, 28]);
    let n = images.pixels().len() as f64;
    for (severity, (mean, std, threshold, keep)) in
        [(0, (0.1, 0.2, 0.6, 0.95)), (1, (0.1, 0.2, 0.5, 0.9))].map(|(i, row)| (Severity::ALL[i], row))
    {
        // The flakes' first two moments, by a midpoint sum.
        let (mut first, mut second, mut weight) = (0.0, 0.0, 0.0);
        for i in 0..16_000 {
            let z = (f64::from(i) + 0.5) / 1_000.0 - 8.0;
            let (p, x) = ((-z * z / 2.0f64).exp(), mean + std * z);
            let x = if x < threshold { 0.0 } else { x.min(1.0) };
            (first, second, weight) = (first + p * x, second + p * x * x, weight + p);
        }
        let (first, second) = (first / weight, second / weight);
        let expected = keep * 0.2 + (1.0 - keep) * (1.5 * 0.2 + 0.5) + 2.0 * first;
        let found = moments(units(apply(&images, Shift::Snow, severity, Family::Cifar).pixels())).0;
        // Flakes are smeared, and edges repeated up to twenty times: that many fewer independent values at worst.
        let error = 4.5 * 2.0 * (second / (n / 20.0)).sqrt();
        // Stored twice and truncated; of a sum of two smears above white nothing is lost worth a step.
        assert!((found - expected).abs() < error + STEP, "{severity}: {found}, expected {expected} within {error}");
    }
}

#[test]
fn frost_is_a_mixture_with_the_texture() {
    let texture = |value: u8| Images::new(vec![value; 3 * 40 * 50], vec![0], [3, 40, 50], 1).unwrap();
    let frost = shift::Frost::new(&[texture(100)]).unwrap();
    let rows = [[1.0, 0.2], [1.0, 0.3], [0.9, 0.4], [0.85, 0.4], [0.75, 0.45]];
    for (severity, [share, cover]) in Severity::ALL.into_iter().zip(rows) {
        for value in [0u8, 90, 255] {
            let expected = (share * f64::from(value) + cover * 100.0 + 1e-9).min(255.0) as u8;
            for channels in [1, 3] {
                let images = flat(value, 1, [channels, 32, 32]);
                let frosted =
                    shift::apply_with(&images, Shift::Frost, severity, Family::Cifar, SEED, Some(&frost)).unwrap();
                assert!(frosted.pixels().iter().all(|&x| x == expected), "{severity} {value} {channels}");
            }
        }
    }
    // Larger than the texture, and with the drawn ones.
    let large = flat(9, 1, [3, 45, 60]);
    assert!(shift::apply_with(&large, Shift::Frost, Severity::ALL[0], Family::Cifar, 1, Some(&frost)).is_ok());
    assert_ne!(apply(&large, Shift::Frost, Severity::ALL[0], Family::Cifar), large);
}

#[test]
fn a_shift_is_a_function_of_seed_position_and_name() {
    let images = as_color(&fashion(60));
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let three_threads = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for family in Family::ALL {
        for shift in with_constants(family, 3) {
            let run = || apply(&images, shift, Severity::ALL[2], family);
            let shifted = one_thread.install(run);
            assert_eq!(shifted, three_threads.install(run), "{shift}");
            // The first images of a set are shifted as if they were alone.
            let first = images.subset(0..2).unwrap();
            assert_eq!(apply(&first, shift, Severity::ALL[2], family), shifted.subset(0..2).unwrap(), "{shift}");
            let other = shift::apply(&images, shift, Severity::ALL[2], family, SEED + 1).unwrap();
            let fixed = [
                Shift::GaussianBlur,
                Shift::Defocus,
                Shift::Contrast,
                Shift::Brightness,
                Shift::Pixelate,
                Shift::Zoom,
                Shift::Jpeg,
                Shift::Saturate,
            ];
            assert_eq!(other == shifted, fixed.contains(&shift), "{shift} and another seed");
        }
    }
}

#[test]
fn odd_images_are_shifted_too() {
    for size in [[1, 1, 1], [3, 1, 2], [1, 33, 3], [3, 2, 65]] {
        for value in [0, 255] {
            let images = flat(value, 2, size);
            for family in Family::ALL {
                for shift in with_constants(family, size[0]) {
                    for severity in Severity::ALL {
                        assert_eq!(apply(&images, shift, severity, family).pixels().len(), images.pixels().len());
                    }
                }
            }
        }
    }
    let none = flat(0, 0, [1, 2, 2]);
    assert!(apply(&none, Shift::Fog, Severity::ALL[0], Family::Camera).is_empty());
}

#[test]
fn a_shift_without_constants_is_refused_by_name() {
    let images = flat(0, 1, [1, 2, 2]);
    let error = shift::apply(&images, Shift::Shot, Severity::ALL[0], Family::Camera, 0).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("shot (cifar)") && message.contains("found camera"), "{message}");
}
