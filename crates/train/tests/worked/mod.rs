//! Worked examples of the losses that adaptation uses: value and gradient, worked out in f64 to nine digits and checked
//! there against finite differences.

use acclimate_tensor::{Device, Tensor, grad};
use acclimate_train::{Result, loss};

const Z: [f32; 3] = [2.0, 0.5, -1.0];
const T: [f32; 3] = [1.0, 1.5, -0.5];
const B: [f32; 12] = [2.0, 0.5, -1.0, 0.2, 0.1, 0.9, -0.3, 1.4, 0.0, 1.0, 1.0, -2.0];
/// Nine digits were worked out; f32 gives six.
const TOLERANCE: f32 = 1e-5;

type Loss = fn(&Tensor) -> Result<Tensor>;

/// Name, logits, loss, its value (summed over rows) and its gradient.
type Example = (&'static str, &'static [f32], Loss, f32, &'static [f32]);

fn teacher(z: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_slice(z.device(), &T, &[1, 3])?)
}

const EXAMPLES: &[Example] = &[
    ("entropy", &Z, loss::entropy, 0.621_584_6, &[-0.298_741_58, 0.196_277_33, 0.102_464_25]),
    ("soft likelihood ratio", &Z, loss::soft_likelihood_ratio, -0.623_517_9, &[-1.116_990_3, 0.854_874_5, 0.262_115_8]),
    (
        "generalized cross-entropy",
        &Z,
        |z| loss::generalized_cross_entropy(z, 0.8),
        0.219_448_07,
        &[-0.176_762_71, 0.144_516_68, 0.032_246_03],
    ),
    (
        "symmetric cross-entropy",
        &Z,
        |z| loss::symmetric_cross_entropy(z, &teacher(z)?, 0.5),
        1.180_762,
        &[0.230_076_67, -0.240_686_26, 0.010_609_597],
    ),
    // −Σ t ln p and p − t, with softmax(Z) = (.785597, .175290, .039112) and t = (.348207, .574096, .077695).
    (
        "consistency",
        &Z,
        |z| loss::consistency(z, &teacher(z)?),
        1.335_543_5,
        &[0.437_389_6, -0.398_806_6, -0.038_583_01],
    ),
    (
        "conservative entropy",
        &Z,
        loss::conservative_entropy,
        1.024_444_4,
        &[-0.068_783_58, 0.190_258_05, -0.042_438_13],
    ),
    (
        "marginal entropy",
        &B,
        loss::marginal_entropy,
        1.045_575_5,
        &[
            -0.007_418_017,
            0.000_037_269,
            0.007_380_748,
            -0.026_554_719,
            -0.021_798_247,
            0.048_352_966,
            -0.005_233_018,
            -0.021_890_027,
            0.027_123_045,
            -0.004_645_898,
            0.000_064_413,
            0.004_581_486,
        ],
    ),
    (
        "information maximization",
        &B,
        loss::information_maximization,
        -0.231_254_55,
        &[
            -0.067_267_38,
            0.049_032_064,
            0.018_235_315,
            0.048_031_65,
            0.047_004_102,
            -0.095_035_754,
            0.044_893_04,
            -0.058_365_51,
            0.013_472_468,
            -0.004_241_207,
            -0.008_951_518,
            0.013_192_725,
        ],
    ),
];

/// Compares every example on a device; panics at the first that differs.
pub fn check(device: &Device) {
    for (name, logits, loss, value, slope) in EXAMPLES {
        let z = Tensor::from_slice(device, logits, &[logits.len() / 3, 3]).unwrap();
        let y = loss(&z).unwrap().sum(&[]).unwrap();
        let g = grad(&y, z.clone()).unwrap().to_vec::<f32>().unwrap();
        let y = y.item().unwrap();
        assert!((y - value).abs() <= TOLERANCE, "{name}: {y}, expected {value}");
        for (i, (f, e)) in g.iter().zip(*slope).enumerate() {
            assert!((f - e).abs() <= TOLERANCE, "gradient of {name} at {i}: {f}, expected {e}");
        }
    }
}
