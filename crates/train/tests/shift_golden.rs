//! Every shift against images computed by SciPy, OpenCV, Pillow and ImageMagick from the same random draws.
//! `golden/make_shift.py` made them.
#![allow(clippy::unwrap_used, clippy::panic)]

use acclimate_train::data::Images;
use acclimate_train::shift::{self, Family, Frost, Severity, Shift};
use safetensors::SafeTensors;

const SEED: u64 = 7;

/// How far a shift may be from what the other libraries make of the image.
struct Bound {
    /// The largest difference of a byte.
    most: u8,
    /// The largest share of bytes that differ at all.
    share: f64,
    /// The largest share of bytes that differ by more than one.
    far: f64,
}

/// Both sides compute in f64 and truncate to bytes: a value within 1e-12 of a whole number may fall on either side, and
/// exact arithmetic (means of equal bytes) puts some there.
const EXACT: Bound = Bound { most: 1, share: 0.002, far: 0.0 };

fn bound(shift: Shift) -> Bound {
    match shift {
        // OpenCV converts colors in f32, which puts whole numbers of bytes a hair below or above.
        Shift::Brightness | Shift::Saturate => Bound { most: 1, share: 0.5, far: 0.0 },
        _ => EXACT,
    }
}

#[test]
fn shifts_equal_the_libraries_of_the_published_generator() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/shift_cifar.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let picture = |name: &str| {
        let tensor = file.tensor(name).unwrap();
        let &[channels, height, width] = tensor.shape() else { panic!("{name}: {:?}", tensor.shape()) };
        Images::new(tensor.data().to_vec(), vec![0], [channels, height, width], 1).unwrap()
    };
    let textures = Frost::new(&[0, 1, 2].map(|i| picture(&format!("texture{i}")))).unwrap();
    let mut wrong = Vec::new();
    let mut n_compared = 0;
    for kind in ["color", "gray"] {
        let image = picture(kind);
        for shift in Shift::ALL.into_iter().filter(|shift| *shift != Shift::LowLight) {
            let Ok(golden) = file.tensor(&format!("{kind}.{shift}")) else {
                assert!((kind, shift) == ("gray", Shift::Saturate), "no golden image of {shift}, {kind}");
                continue;
            };
            let Bound { most, share, far } = bound(shift);
            for (severity, expected) in Severity::ALL.into_iter().zip(golden.data().chunks_exact(image.image_len())) {
                let found = shift::apply_with(&image, shift, severity, Family::Cifar, SEED, Some(&textures)).unwrap();
                let apart: Vec<u8> = found.pixels().iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).collect();
                let count = |over: u8| apart.iter().filter(|&&by| by > over).count() as f64 / apart.len() as f64;
                let worst = apart.iter().copied().max().unwrap();
                let line = format!(
                    "{shift} {severity} {kind}: worst {worst}, {:.4} differ, {:.4} by more than 1",
                    count(0),
                    count(1)
                );
                println!("{line}");
                if worst > most || count(0) > share || count(1) > far {
                    wrong.push(line);
                }
                // The golden image is not the clean one: the comparison would see a shift that does nothing.
                assert!(
                    shift == Shift::Defocus
                        || shift == Shift::Glass
                        || shift == Shift::Spatter
                        || expected != image.pixels(),
                    "{shift} {severity} {kind}"
                );
                n_compared += 1;
            }
        }
    }
    assert_eq!(n_compared, 5 * (19 + 18));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
