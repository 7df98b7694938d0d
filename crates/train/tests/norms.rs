//! Normalization layers against PyTorch: values, gradients, running statistics.
#![allow(clippy::unwrap_used, clippy::panic)]

mod golden;

use acclimate_kernels::random::Key;
use acclimate_tensor::{Device, Tensor};
use acclimate_train::nn::{BatchNorm, GroupNorm, LayerNorm};
use acclimate_train::{Kind, Layer, Params, Pass, Statistics};
use golden::{Case, assert_close, cases, check, scale};

/// Roundings on the way to a normalized value: a serial sum over the values of one statistic (twice, for mean and
/// variance), and about sixteen for differences, root, scale and shift. A gradient adds two more such sums.
fn roundings(per_statistic: usize) -> usize {
    4 * per_statistic + 16
}

fn statistics(case: &Case) -> Statistics {
    match case.text("mode") {
        "source" | "train" => Statistics::Source,
        "batch" => Statistics::Batch,
        "alpha" => Statistics::Alpha(case.number("alpha")),
        "prior" => Statistics::Prior(case.number("prior")),
        "ema" => Statistics::Ema(case.number("momentum")),
        other => panic!("unknown mode {other}"),
    }
}

fn batch_norm(inputs: &[Tensor], pass: &mut Pass) -> Tensor {
    let [x, gamma, beta, mean, variance] = inputs else { panic!("five inputs") };
    let c = x.dims()[1];
    let layer = BatchNorm::new("bn", c);
    let params = layer.init(x.device(), 0).unwrap();
    let named = |path: &str, tensor: &Tensor| (format!("bn.{path}"), tensor.clone());
    let params = params
        .with_overrides([
            named("weight", gamma),
            named("bias", beta),
            named("running_mean", mean),
            named("running_var", variance),
        ])
        .unwrap();
    layer.apply(&params, x, pass).unwrap()
}

#[test]
fn batch_norm_in_every_mode() {
    let device = Device::cpu();
    let mut n_updates = 0;
    for case in cases("batch_norm") {
        // Ours lets no gradient flow through updated running statistics; there is a case of its own for that.
        if case.text("mode") == "ema" && !case.flag("stop_gradient") {
            continue;
        }
        assert_eq!(case.number("eps"), 1e-5);
        let n = case.inputs[0].values.len() / case.inputs[0].dims[1];
        let pass = || match case.text("mode") {
            "train" => Pass::train(Key::new(&device, 1).unwrap()),
            _ => Pass::infer().with_statistics(statistics(&case)),
        };
        check(&case, &device, roundings(n), |inputs| batch_norm(inputs, &mut pass()));
        let mut pass = pass();
        let inputs: Vec<Tensor> = case.inputs.iter().map(|a| a.to(&device)).collect();
        batch_norm(&inputs, &mut pass);
        let updates = pass.take_updates();
        assert_eq!(updates.len(), case.outputs.len() - 1, "{}", case.name);
        let paths = ["bn.running_mean", "bn.running_var"];
        for (((path, found), expected), wanted) in updates.iter().zip(&case.outputs[1..]).zip(paths) {
            assert_eq!(path, wanted);
            let bound = roundings(n) as f32 * f32::EPSILON * scale(&expected.values).max(1.0);
            assert_close(&case.name, found, expected, bound);
            n_updates += 1;
        }
    }
    assert!(n_updates >= 8);
}

#[test]
fn layer_norm() {
    let device = Device::cpu();
    for case in cases("layer_norm").iter().filter(|case| case.flag("affine")) {
        let n = case.inputs[1].values.len();
        check(case, &device, roundings(n), |inputs| {
            let layer = LayerNorm::new("ln", inputs[1].dims());
            layer.forward(&affine(&layer, "ln", inputs), &inputs[0]).unwrap()
        });
    }
}

#[test]
fn group_norm() {
    let device = Device::cpu();
    for case in cases("group_norm").iter().filter(|case| case.flag("affine")) {
        let groups = case.number("groups") as usize;
        let n = case.inputs[0].values.len() / case.inputs[0].dims[0] / groups;
        check(case, &device, roundings(n), |inputs| {
            let layer = GroupNorm::new("gn", groups, inputs[0].dims()[1]);
            layer.forward(&affine(&layer, "gn", inputs), &inputs[0]).unwrap()
        });
    }
}

fn affine(layer: &dyn Layer, path: &str, inputs: &[Tensor]) -> Params {
    let params = layer.init(inputs[0].device(), 0).unwrap();
    let [_, gamma, beta] = inputs else { panic!("three inputs") };
    let named = [(format!("{path}.weight"), gamma.clone()), (format!("{path}.bias"), beta.clone())];
    params.with_overrides(named).unwrap()
}

/// Alpha 0 is the source, alpha 1 the batch but for the unbiased variance.
#[test]
fn the_ends_of_alpha() {
    let device = Device::cpu();
    let layer = BatchNorm::new("bn", 2);
    let params = layer.init(&device, 0).unwrap();
    let x = Tensor::from_slice(&device, &[1.0f32, -3.0, 2.0, 0.5, 4.0, 7.0, 5.0, 1.0], &[4, 2]).unwrap();
    let run = |statistics| {
        let y = layer.apply(&params, &x, &mut Pass::infer().with_statistics(statistics)).unwrap();
        y.to_vec::<f32>().unwrap()
    };
    assert_eq!(run(Statistics::Alpha(0.0)), run(Statistics::Source));
    // (σ² + eps) and (σ²·4/3 + eps): the ratio is √(4/3) but for eps.
    for (a, b) in run(Statistics::Alpha(1.0)).iter().zip(run(Statistics::Batch)) {
        assert!((b / a - (4.0f32 / 3.0).sqrt()).abs() < 1e-5);
    }
}

/// The worked example of alpha-BN: x = [1, 2, 4, 5], source mean 0 and variance 1, α = 0.1.
#[test]
fn alpha_by_hand() {
    let device = Device::cpu();
    let layer = BatchNorm::new("bn", 1);
    let x = Tensor::from_slice(&device, &[1.0f32, 2.0, 4.0, 5.0], &[4, 1]).unwrap();
    let mut pass = Pass::infer().with_statistics(Statistics::Alpha(0.1));
    let y = layer.apply(&layer.init(&device, 0).unwrap(), &x, &mut pass).unwrap().to_vec::<f32>().unwrap();
    for (found, expected) in y.iter().zip([0.630_312_7, 1.530_759_4, 3.331_652_7, 4.232_099_4]) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn refuses_what_has_no_statistics() {
    let device = Device::cpu();
    let layer = BatchNorm::new("bn", 2);
    let params = layer.init(&device, 0).unwrap();
    let run = |dims: &[usize], mut pass: Pass| layer.apply(&params, &Tensor::zeros(&device, dims).unwrap(), &mut pass);
    let with = |statistics| Pass::infer().with_statistics(statistics);
    let error = run(&[1, 2], with(Statistics::Batch)).unwrap_err().to_string();
    assert!(error.starts_with("batch_norm in bn: expected at least 2 values"), "{error}");
    assert!(run(&[0, 2, 3, 3], with(Statistics::Batch)).is_err());
    assert!(run(&[1, 2], Pass::train(Key::new(&device, 1).unwrap())).is_err());
    assert!(run(&[1, 2], with(Statistics::Prior(16.0))).is_ok());
    assert!(run(&[4, 3], Pass::infer()).unwrap_err().is_shape());
    for share in [-0.1, 1.5, f32::NAN] {
        assert!(run(&[4, 2], with(Statistics::Alpha(share))).is_err());
    }
    assert!(run(&[4, 2], with(Statistics::Prior(-5.0))).is_err());
    assert!(
        GroupNorm::new("gn", 4, 6)
            .init(&device, 0)
            .and_then(|p| { GroupNorm::new("gn", 4, 6).forward(&p, &Tensor::zeros(&device, &[1, 6, 2]).unwrap()) })
            .is_err()
    );
}

#[test]
fn taps_are_the_inputs_of_the_normalizations() {
    let device = Device::cpu();
    let layer = LayerNorm::new("ln", &[3]);
    let params = layer.init(&device, 0).unwrap();
    let x = Tensor::from_slice(&device, &[1.0f32, 2.0, 4.0], &[1, 3]).unwrap();
    let mut pass = Pass::infer().with_taps();
    layer.apply(&params, &x, &mut pass).unwrap();
    let taps = pass.take_taps();
    assert_eq!(taps.len(), 1);
    assert!(taps[0].0 == "ln" && taps[0].1.is(&x));
    assert!(pass.take_taps().is_empty());
    assert_eq!(params.select(|_, kind| kind == Kind::NormShift), ["ln.bias"]);
}
