//! Losses: against PyTorch, against worked examples, and what they refuse.
#![allow(clippy::unwrap_used, clippy::panic)]

mod golden;
mod worked;

use acclimate_kernels::{Conv2d, TensorOps};
use acclimate_tensor::{Device, Tensor, grad};
use acclimate_train::loss::{self, Labels};
use golden::{cases, check};

/// Roundings on the way to a loss: two serial sums over a row of classes, one over the rows, and about sixteen for
/// exponentials and logarithms; a gradient passes through the same sums again.
fn roundings(case: &golden::Case) -> usize {
    let dims = &case.inputs[0].dims;
    4 * dims.iter().product::<usize>() + 32
}

fn reduce(reduction: &str, each: Tensor) -> Tensor {
    match reduction {
        "mean" | "batchmean" => loss::mean(&each).unwrap(),
        "sum" => each.sum(&[]).unwrap(),
        _ => each,
    }
}

#[test]
fn losses_against_targets_are_pytorchs() {
    let device = Device::cpu();
    type Each = fn(&golden::Case, &[Tensor]) -> Tensor;
    let table: [(&str, Each); 5] = [
        ("mse", |_, i| loss::mse_each(&i[0], &i[1]).unwrap()),
        ("huber", |case, i| loss::huber_each(&i[0], &i[1], case.number("delta")).unwrap()),
        ("bce_with_logits", |_, i| loss::bce_with_logits_each(&i[0], &i[1]).unwrap()),
        ("cross_entropy", |case, i| loss::cross_entropy_rows(&i[0], &i[1], case.number("label_smoothing")).unwrap()),
        ("kl_div", |_, i| loss::kl_div_rows(&i[0], &i[1]).unwrap()),
    ];
    for (name, each) in table {
        for case in cases(name) {
            check(&case, &device, roundings(&case), |inputs| reduce(case.text("reduction"), each(&case, inputs)));
        }
    }
}

#[test]
fn losses_against_a_teacher_are_pytorchs() {
    let device = Device::cpu();
    type Mean = fn(&golden::Case, &[Tensor]) -> Tensor;
    let table: [(&str, Mean); 4] = [
        ("soft_kl", |case, i| loss::soft_kl(&i[0], &i[1], case.number("temperature")).unwrap()),
        ("kd", |case, i| {
            let [temperature, alpha] = ["temperature", "alpha"].map(|name| case.number(name));
            loss::mean(&loss::kd(&i[0], &i[1], &i[2], temperature, alpha).unwrap()).unwrap()
        }),
        ("hint", |_, i| {
            let regressed = i[0].conv2d(&i[1], &Conv2d::default()).unwrap();
            loss::mean(&loss::hint_rows(&regressed, &i[2]).unwrap()).unwrap()
        }),
        ("attention", |_, i| loss::mean(&loss::attention_rows(&i[0], &i[1]).unwrap()).unwrap()),
    ];
    for (name, mean) in table {
        for case in cases(name) {
            // T² and T amplify what softening rounds, the logits over T being of the size of the logits at most.
            let amplified =
                if name == "kd" || name == "soft_kl" { case.number("temperature").powi(2) as usize } else { 1 };
            check(&case, &device, amplified * roundings(&case), |inputs| mean(&case, inputs));
        }
    }
}

/// The gradient through the graph is the closed form T·(p − t), and the teacher feels nothing.
#[test]
fn softened_divergence_pulls_by_the_closed_form() {
    let device = Device::cpu();
    let (z, t) = (rows(&device, &B), rows(&device, &[T, Z, T, Z].concat()));
    for temperature in [0.5f32, 1.0, 4.0, 20.0] {
        let soft = |z: &Tensor| z.mul_scalar(1.0 / temperature).unwrap().softmax(1).unwrap();
        let closed = soft(&z).sub(&soft(&t)).unwrap().mul_scalar(temperature).unwrap().to_vec::<f32>().unwrap();
        let sum = loss::soft_kl_rows(&z, &t, temperature).unwrap().sum(&[]).unwrap();
        let (slope, none) = grad(&sum, (z.clone(), t.clone())).unwrap();
        assert_near(&format!("slope at {temperature}"), &slope, &closed);
        assert_near("no gradient to the teacher", &none, &[0.0; 12]);
    }
}

#[test]
fn a_map_of_zeros_has_no_direction() {
    let device = Device::cpu();
    let (nothing, some) =
        (Tensor::zeros(&device, &[2, 3, 4, 4]).unwrap(), Tensor::ones(&device, &[2, 5, 4, 4]).unwrap());
    let apart = loss::attention_rows(&nothing, &some).unwrap();
    let slope = grad(&apart.sum(&[]).unwrap(), nothing).unwrap().to_vec::<f32>().unwrap();
    assert_near("zeros against a unit map", &apart, &[1.0, 1.0]);
    assert!(slope.iter().all(|g| *g == 0.0));
}

#[test]
fn means_are_the_means() {
    let device = Device::cpu();
    let x = Tensor::from_slice(&device, &[1.0f32, -2.0, 0.5, 3.0], &[2, 2]).unwrap();
    let t = Tensor::from_slice(&device, &[0.25f32, 0.75, 0.5, 0.5], &[2, 2]).unwrap();
    let y = Labels::new(&device, &[1, 0], 2).unwrap();
    let pairs = [
        (loss::mse(&x, &t), loss::mse_each(&x, &t)),
        (loss::huber(&x, &t, 1.0), loss::huber_each(&x, &t, 1.0)),
        (loss::bce_with_logits(&x, &t), loss::bce_with_logits_each(&x, &t)),
        (loss::kl_div(&x, &t), loss::kl_div_rows(&x, &t)),
        (loss::cross_entropy_smoothed(&x, &y, 0.1), loss::cross_entropy_rows(&x, &y, 0.1)),
        (loss::cross_entropy(&x, &y), loss::cross_entropy_rows(&x, &y, 0.0)),
    ];
    for (mean, each) in pairs {
        assert_eq!(mean.unwrap().item().unwrap(), loss::mean(&each.unwrap()).unwrap().item().unwrap());
    }
}

const Z: [f32; 3] = [2.0, 0.5, -1.0];
const T: [f32; 3] = [1.0, 1.5, -0.5];
const B: [f32; 12] = [2.0, 0.5, -1.0, 0.2, 0.1, 0.9, -0.3, 1.4, 0.0, 1.0, 1.0, -2.0];
/// Values were worked out in f64 to nine digits; f32 gives six.
const TOLERANCE: f32 = 1e-5;

fn rows(device: &Device, values: &[f32]) -> Tensor {
    Tensor::from_slice(device, values, &[values.len() / 3, 3]).unwrap()
}

fn assert_near(what: &str, found: &Tensor, expected: &[f32]) {
    let found = found.to_vec::<f32>().unwrap();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= TOLERANCE, "{what}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn worked_examples_with_gradients() {
    let device = Device::cpu();
    worked::check(&device);
    let z = rows(&device, &Z);
    // p − 1[k = y] with p = softmax(z), y = 0.
    let e: Vec<f32> = Z.iter().map(|z| (z - 2.0).exp()).collect();
    let total: f32 = e.iter().sum();
    let own = loss::pseudo_label(&z).unwrap();
    let slope = [1.0 / total - 1.0, e[1] / total, e[2] / total];
    assert_near("gradient of pseudo-label", &grad(&own, z.clone()).unwrap(), &slope);
    assert_near("pseudo-label", &own, &[total.ln()]);

    let b = rows(&device, &B);
    assert_near("entropies", &loss::entropy(&b).unwrap(), &[0.621_584_6, 1.029_094_7, 0.816_001_84, 0.790_602_6]);

    let teacher = rows(&device, &T);
    let y = Labels::new(&device, &[0], 3).unwrap();
    let kd = loss::kd(&z, &teacher, &y, 4.0, 0.9).unwrap();
    let (slope, none) = grad(&kd, (z.clone(), teacher)).unwrap();
    assert_near("gradient of kd", &slope, &[0.369_094_36, -0.283_154_27, -0.085_940_09]);
    assert_near("no gradient to the teacher", &none, &[0.0; 3]);
    assert_near("kd", &kd, &[0.388_726_25]);

    let labels = Labels::new(&device, &[0, 2, 1, 0], 3).unwrap();
    let t = Tensor::full(&device, &[1], 1.5).unwrap();
    let nll = loss::mean(&loss::nll_temperature(&b, &labels, &t).unwrap()).unwrap();
    assert_near("derivative by temperature", &grad(&nll, t).unwrap(), &[0.208_632_75]);
    assert_near("nll", &nll, &[0.625_11]);
}

/// Invariant: K identical views pull as one view.
#[test]
fn identical_views_are_one_view() {
    let device = Device::cpu();
    let (one, four) = (rows(&device, &Z), rows(&device, &[Z, Z, Z, Z].concat()));
    let slope = grad(&loss::marginal_entropy(&four).unwrap(), four).unwrap().sum(&[0]).unwrap();
    let entropy = loss::entropy(&one).unwrap();
    assert_near("slope", &slope, &grad(&entropy, one).unwrap().to_vec::<f32>().unwrap());
}

#[test]
fn extremes_stay_finite() {
    let device = Device::cpu();
    let z = rows(&device, &[1e4, 0.0, -1e4, -3e38, 3e38, 0.0]);
    let losses = [
        loss::entropy(&z),
        loss::pseudo_label(&z),
        loss::marginal_entropy(&z),
        loss::generalized_cross_entropy(&z, 0.8),
        loss::soft_likelihood_ratio(&z),
        loss::symmetric_cross_entropy(&z, &rows(&device, &[0.0; 6]), 0.5),
        loss::information_maximization(&z),
        loss::conservative_entropy(&rows(&device, &[0.0; 3])),
        loss::soft_kl_rows(&z, &rows(&device, &[-1e4, 0.0, 1e4, 0.0, 3e38, 0.0]), 2.0),
    ];
    for loss in losses {
        let loss = loss.unwrap().sum(&[]).unwrap();
        let slope = grad(&loss, z.clone()).unwrap().to_vec::<f32>().unwrap();
        assert!(slope.iter().all(|g| g.is_finite()), "{slope:?}");
        assert!(loss.item().unwrap().is_finite());
    }
}

/// A row that is not kept may hold anything: it enters neither the sum nor any gradient.
#[test]
fn rows_that_are_not_kept_do_not_count() {
    let device = Device::cpu();
    let z = rows(&device, &B);
    let keep = Tensor::from_bools(&device, &[true, false, true, false], &[4]).unwrap();
    let poisoned = Tensor::from_slice(&device, &[1.0, f32::NAN, 2.0, f32::INFINITY], &[4]).unwrap();
    assert_eq!(loss::kept_sum(&poisoned, Some(&poisoned), &keep).unwrap().item().unwrap(), 5.0);
    let sum = loss::kept_sum(&loss::entropy(&z).unwrap(), None, &keep).unwrap();
    let slope = grad(&sum, z).unwrap().to_vec::<f32>().unwrap();
    assert!(slope[3..6].iter().chain(&slope[9..]).all(|g| *g == 0.0), "{slope:?}");
    assert!(slope[0] != 0.0 && slope[6] != 0.0);
}

#[test]
fn refuses_what_is_no_loss() {
    let device = Device::cpu();
    let labels = |list: &[u32]| Labels::new(&device, list, 3);
    let error = labels(&[0, 3]).unwrap_err().to_string();
    assert_eq!(
        error,
        "labels: label of item 1: expected a class below 3, found 3; check the file and the number of classes"
    );
    assert!(labels(&[]).unwrap_err().to_string().contains("an empty batch"));
    let z = rows(&device, &B);
    assert!(loss::cross_entropy(&z, &labels(&[0]).unwrap()).unwrap_err().is_shape());
    assert!(loss::cross_entropy(&z, &z).is_err());
    assert!(loss::cross_entropy_smoothed(&z, &labels(&[0; 4]).unwrap(), 1.5).is_err());
    assert!(loss::mse(&z, &z.sum(&[0]).unwrap()).unwrap_err().is_shape());
    assert!(loss::huber(&z, &z, 0.0).is_err());
    assert!(loss::kd(&z, &z, &labels(&[0; 4]).unwrap(), f32::NAN, 0.5).is_err());
    assert!(loss::kd(&z, &z, &labels(&[0; 4]).unwrap(), 4.0, 1.5).is_err());
    assert!(loss::soft_kl(&z, &rows(&device, &Z), 4.0).unwrap_err().is_shape());
    assert!(loss::soft_kl(&z, &z, 0.0).unwrap_err().to_string().contains("a positive number"));
    assert!(loss::hint_rows(&z, &rows(&device, &Z)).unwrap_err().is_shape());
    assert!(loss::hint_rows(&z.sum(&[1]).unwrap(), &z.sum(&[1]).unwrap()).unwrap_err().is_shape());
    assert!(loss::attention_rows(&z, &z).unwrap_err().is_shape());
    assert!(loss::mean(&Tensor::zeros(&device, &[0, 3]).unwrap()).unwrap_err().is_shape());
    assert!(loss::marginal_entropy(&Tensor::zeros(&device, &[0, 3]).unwrap()).is_err());
    assert!(loss::entropy(&Tensor::zeros(&device, &[3]).unwrap()).is_err());
    assert!(loss::generalized_cross_entropy(&z, 0.0).unwrap_err().to_string().contains("(0, 1]"));
    assert!(loss::symmetric_cross_entropy(&z, &z, 1.5).is_err());
    assert!(loss::consistency(&z, &rows(&device, &Z)).unwrap_err().is_shape());
    assert!(loss::information_maximization(&Tensor::zeros(&device, &[0, 3]).unwrap()).is_err());
    // On the device nobody looks: the row shows it.
    let unknown = Tensor::full_u32(&device, &[4], 3).unwrap();
    assert!(loss::cross_entropy(&z, &unknown).unwrap().item().unwrap().is_nan());
}
