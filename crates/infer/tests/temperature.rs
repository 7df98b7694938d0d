//! The fitted temperature is PyTorch's, changes no class, and makes a network that is too sure of itself say what it knows.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use acclimate_infer::adapt::{frozen, statistics, temperature};
use acclimate_infer::calibration::{Temperature, scores};
use acclimate_infer::{Adaptation, Output, Session};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::{Batches, Images, Tail, idx};
use acclimate_train::fit::{Fit, Progress};
use acclimate_train::loss::{self, Labels};
use acclimate_train::nn::SmallCnn;
use acclimate_train::{Layer, optim};
use safetensors::SafeTensors;

#[test]
fn it_is_the_temperature_of_pytorch() {
    let path = format!("{}/golden/temperature.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for name in ["sure", "unsure", "two"] {
        let words = |what: &str| {
            let view = file.tensor(&format!("{name}.{what}")).unwrap();
            view.data().as_chunks::<4>().0.to_vec()
        };
        let real = |what: &str| words(what).into_iter().map(f32::from_le_bytes).collect::<Vec<_>>();
        let labels: Vec<usize> = words("labels").into_iter().map(|b| i32::from_le_bytes(b) as usize).collect();
        let (logits, classes) = (real("logits"), file.tensor(&format!("{name}.logits")).unwrap().shape()[1]);
        let fit = Temperature::fit(&logits, classes, &labels).unwrap();
        // L-BFGS stops where the slope is 1e-13; stored and fitted are f32.
        let expected = real("temperature")[0];
        assert!((fit.value - expected).abs() <= 2.0 * f32::EPSILON * expected, "{name}: {} {expected}", fit.value);
        // The file has NLL and ECE as f32; probabilities are f32, and an ECE may move a row at a bin's edge.
        let stored = real("scores");
        for (found, expected) in [fit.before.nll, fit.before.ece, fit.after.nll, fit.after.ece].iter().zip(&stored) {
            assert!((found - f64::from(*expected)).abs() < 2e-6, "{name}: {found} {expected}");
        }
        assert!(fit.iterations < 30, "{name}: {}", fit.iterations);
        assert!(fit.before.accuracy.to_bits() == fit.after.accuracy.to_bits(), "{name}: a class changed");
    }
}

/// Logits of frozen answers, and labels.
fn answers(session: &mut Session, images: &Images) -> (Vec<f32>, Vec<usize>) {
    let dims = [images.channels(), images.height(), images.width()];
    let answers = session.answer(&images.to_f32(0..images.len()).unwrap(), dims).unwrap();
    let labels = images.labels().iter().map(|&l| l as usize).collect();
    (answers.into_iter().flat_map(|a| a.logits).collect(), labels)
}

/// Trained on 600 images until it knows them by heart; the temperature comes from 500 it has not seen, and is judged on 500
/// test images.
#[test]
fn a_network_that_is_too_sure_is_corrected() {
    let (train, test) = idx::fashion8k(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k")).unwrap();
    let (learned, held_out) = (train.subset(0..600).unwrap(), train.subset(600..1100).unwrap());
    let test = test.subset(0..500).unwrap();
    let device = Device::cpu();
    let model = SmallCnn::new("", [1, 28, 28], &[8, 16], 10).unwrap();
    let batches = Batches::new(learned.len(), 50, 0, Tail::Drop).unwrap();
    let fit =
        Fit::supervised(model.clone(), optim::adam(5e-3), loss::cross_entropy).epochs(12).progress(Progress::Silent);
    let params = model.init(&device, 0).unwrap();
    let trained = fit
        .run(fit.begin(&params).unwrap(), &batches, |positions| {
            let x = Tensor::from_slice(&device, &learned.to_f32_at(positions)?, &[positions.len(), 1, 28, 28])?;
            Ok((x, Labels::new(&device, &learned.labels_at(positions)?, 10)?.tensor().clone()))
        })
        .unwrap();
    let model: Arc<dyn Layer> = Arc::new(model);
    let session = |method: Adaptation| Session::new(model.clone(), trained.params.clone(), method).unwrap();
    let (logits, labels) = answers(&mut session(frozen()), &held_out);
    let fitted = Temperature::fit(&logits, 10, &labels).unwrap();
    assert!(fitted.value > 1.1, "it is not too sure: {fitted:?}");

    let (plain, labels) = answers(&mut session(frozen()), &test);
    let (tempered, _) = answers(&mut session(temperature(fitted.value)), &test);
    let [before, after] = [&plain, &tempered].map(|z| scores(z, 10, &labels, 1.0).unwrap());
    println!(
        "T {:.3}: ECE {:.4} to {:.4}, NLL {:.3} to {:.3}, accuracy {:.3}",
        fitted.value, before.ece, after.ece, before.nll, after.nll, after.accuracy
    );
    assert!(before.accuracy.to_bits() == after.accuracy.to_bits());
    assert!(after.ece < 0.7 * before.ece && after.nll < before.nll);
    // A session divides as the scores do, and any method can.
    let worst =
        plain.iter().zip(&tempered).map(|(z, t)| (z / fitted.value - t).abs() / (1.0 + z.abs())).fold(0f32, f32::max);
    assert!(worst <= 2.0 * f32::EPSILON, "{worst}");
    let (batch, _) = answers(&mut session(statistics()), &test);
    let (both, _) = answers(&mut session(statistics().output(Output::Temperature(2.0))), &test);
    assert!(batch.iter().zip(&both).all(|(z, t)| (z / 2.0 - t).abs() <= f32::EPSILON * (1.0 + z.abs())));
}
