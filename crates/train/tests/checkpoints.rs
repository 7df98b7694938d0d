//! Checkpoints: a resumed run is the straight one bit for bit; damaged files are refused by name; saving is atomic.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use acclimate_tensor::{Device, Tensor};
use acclimate_train::checkpoint::{self, Snapshot};
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Convergence, Ended, Fit, Progress, Rule, Training};
use acclimate_train::nn::{Mlp, Norm};
use acclimate_train::optim::{self, Schedule};
use acclimate_train::{Error, Layer, Params, Result, loss};

const N: usize = 40;

fn fresh(device: &Device) -> Params {
    let named = |path: &str, dims: &[usize], from: f32| {
        let n: usize = dims.iter().product();
        (path.to_owned(), dims.to_vec(), (0..n).map(|i| from + i as f32 * 0.3).collect())
    };
    Params::from_named(device, vec![named("hidden.weight", &[3, 4], -1.0), named("out.weight", &[4, 1], 0.2)]).unwrap()
}

/// Σ (tanh(x w₁) w₂ + noise − y)², with noise from the step's key so that a wrong key shows.
fn objective(params: &Params, (x, y): (Tensor, Tensor), key: Tensor) -> Result<Tensor> {
    let product = |a: &Tensor, b: &Tensor| -> Result<Tensor> { Ok(a.unsqueeze(2)?.mul(b)?.sum(&[1])?) };
    let hidden = product(&x, &params.get("hidden.weight")?)?.tanh()?;
    let n = y.dims()[0];
    let count = Tensor::iota(x.device(), &[n], 0)?;
    let half = |i| -> Result<Tensor> { Ok(key.narrow(0, i, 1)?.expand(&[n])?) };
    let zero = Tensor::full_u32(x.device(), &[n], 0)?;
    let noise = Tensor::philox(&half(0)?, &half(1)?, &count, &zero)?.cast(acclimate_tensor::DType::F32)?;
    let noise = noise.mul_scalar(1e-11)?.unsqueeze(1)?;
    Ok(product(&hidden, &params.get("out.weight")?)?.add(&noise)?.sub(&y)?.square()?.sum(&[])?)
}

type Batch = (Tensor, Tensor);

fn fit(schedule: Schedule) -> Fit<Batch> {
    Fit::new(optim::adam(schedule).clip_norm(1.0), objective)
        .epochs(3)
        .check_every(2)
        .seed(9)
        .progress(Progress::Silent)
}

fn batches() -> Batches {
    Batches::new(N, 10, 5, Tail::Keep).unwrap()
}

fn data(device: &Device) -> impl FnMut(&[usize]) -> Result<Batch> {
    let device = device.clone();
    move |positions| {
        let x: Vec<f32> =
            positions.iter().flat_map(|&i| [0, 1, 2].map(|k| ((i * 7 + k * 3) % 11) as f32 / 11.0)).collect();
        let y: Vec<f32> = positions.iter().map(|&i| (i as f32 / 5.0).sin()).collect();
        let n = positions.len();
        Ok((Tensor::from_slice(&device, &x, &[n, 3])?, Tensor::from_slice(&device, &y, &[n, 1])?))
    }
}

fn bits(training: &Training) -> Vec<Vec<u32>> {
    let words = |t: &Tensor| t.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect();
    std::iter::once(training.params.arena()).chain(training.state.iter().map(|(_, t)| t)).map(words).collect()
}

#[test]
fn ten_steps_equal_five_saved_loaded_and_five() {
    let d = Device::cpu();
    for schedule in [Schedule::constant(0.05), Schedule::cosine(0.05, 12).warm_up(3), Schedule::plateau(0.05)] {
        let fit = fit(schedule.clone());
        let straight = fit.run_to(10, fit.begin(&fresh(&d)).unwrap(), &batches(), data(&d)).unwrap();
        // Five is in the middle of an epoch of four.
        let half = fit.run_to(5, fit.begin(&fresh(&d)).unwrap(), &batches(), data(&d)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        half.save(folder.path(), 9).unwrap();
        assert_ne!(bits(&half), bits(&straight));
        drop((half, fit));
        // As in a new process: another device, another compiled step.
        let d = Device::cpu();
        let again = self::fit(schedule.clone());
        let resumed = Training::load(folder.path(), &fresh(&d), again.optimizer()).unwrap();
        assert_eq!(resumed.run.step, 5);
        let resumed = again.run_to(10, resumed, &batches(), data(&d)).unwrap();
        assert_eq!(bits(&resumed), bits(&straight), "{schedule:?}");
        assert_eq!(resumed.run, straight.run, "{schedule:?}");
        assert_eq!(resumed.params.hash().unwrap(), straight.params.hash().unwrap());
        let done = again.run(resumed, &batches(), data(&d)).unwrap();
        assert_eq!((done.run.step, done.run.ended), (12, Some(Ended::Done)));
    }
}

/// The same with running statistics and dropout: buffers are saved, and keys follow the step.
#[test]
fn a_network_with_buffers_and_dropout_resumes_bit_for_bit() {
    let model = || Mlp::new("net", 3, &[8], 1).with_norm(Norm::Batch).with_dropout(0.5);
    let fit = || {
        let optimizer = optim::adamw(Schedule::cosine(0.05, 12)).clip_norm(1.0);
        Fit::supervised(model(), optimizer, loss::mse).epochs(3).check_every(1).seed(4).progress(Progress::Silent)
    };
    let d = Device::cpu();
    let begin = |fit: &Fit<Batch>| fit.begin(&model().init(&d, 2).unwrap()).unwrap();
    let (straight, half) = (fit(), fit());
    let straight = straight.run_to(10, begin(&straight), &batches(), data(&d)).unwrap();
    let half = half.run_to(5, begin(&half), &batches(), data(&d)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    half.save(folder.path(), 4).unwrap();
    let again = fit();
    let resumed = Training::load(folder.path(), &model().init(&d, 77).unwrap(), again.optimizer()).unwrap();
    assert_eq!(resumed.params.hash().unwrap(), half.params.hash().unwrap());
    let resumed = again.run_to(10, resumed, &batches(), data(&d)).unwrap();
    assert_eq!(bits(&resumed), bits(&straight));
    assert_eq!(resumed.params.hash().unwrap(), straight.params.hash().unwrap());
    assert_eq!(resumed.run, straight.run);
    let fresh = model().init(&d, 2).unwrap().buffers_to_named().unwrap();
    assert!(!fresh.is_empty() && straight.params.buffers_to_named().unwrap() != fresh, "the statistics moved");
    // Another seed draws other masks.
    let other = fit().seed(5);
    let other = other.run_to(10, begin(&other), &batches(), data(&d)).unwrap();
    assert_ne!(bits(&other), bits(&straight));
}

#[test]
fn a_run_that_failed_can_be_saved_and_looked_at() {
    let d = Device::cpu();
    let fit = Fit::new(optim::sgd(0.1), |p: &Params, x: Tensor, _| {
        Ok(p.get("out.weight")?.mul(&x)?.sum(&[])?.sub(&p.get("hidden.weight")?.sum(&[])?)?)
    })
    .converge(Convergence::default())
    .check_every(1)
    .progress(Progress::Silent);
    let nan = |_: &[usize]| Ok(Tensor::full(&d, &[1], f32::NAN)?);
    let failed = fit.run(fit.begin(&fresh(&d)).unwrap(), &batches(), nan).unwrap();
    let Some(Ended::Verdict(verdict)) = &failed.run.ended else { panic!("{:?}", failed.run.ended) };
    assert_eq!((verdict.rule, verdict.step), (Rule::NotFinite, 0));
    let folder = tempfile::tempdir().unwrap();
    failed.save(folder.path(), 0).unwrap();
    let loaded = Training::load(folder.path(), &fresh(&d), fit.optimizer()).unwrap();
    assert!(loaded.run.history.last().unwrap().loss.is_nan());
}

fn saved() -> (tempfile::TempDir, Training) {
    let d = Device::cpu();
    let fit = fit(Schedule::constant(0.05));
    let training = fit.run_to(3, fit.begin(&fresh(&d)).unwrap(), &batches(), data(&d)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    training.save(folder.path(), 9).unwrap();
    (folder, training)
}

fn file(folder: &Path, prefix: &str) -> PathBuf {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<PathBuf> =
        names.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect();
    assert_eq!(found.len(), 1, "{prefix}: {found:?}");
    found.remove(0)
}

fn refused(folder: &Path, words: &[&str]) {
    let error = checkpoint::load(folder).expect_err(&words.join(", ")).to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error} should say {words:?}");
}

#[test]
fn damage_is_found_and_named() {
    for part in ["parameters-", "optimizer-"] {
        let (folder, _) = saved();
        let path = file(folder.path(), part);
        let whole = fs::read(&path).unwrap();
        checkpoint::load(folder.path()).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        refused(folder.path(), &[part, "truncated"]);
        fs::write(&path, [whole.as_slice(), &[0]].concat()).unwrap();
        refused(folder.path(), &[part, "too long"]);
        for at in [0, 8, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            refused(folder.path(), &[part, "damaged"]);
        }
        fs::remove_file(&path).unwrap();
        refused(folder.path(), &[part, "cannot be read"]);
    }
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    let (folder, _) = saved();
    let path = folder.path().join("manifest.json");
    let whole = fs::read_to_string(&path).unwrap();
    let with = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        fs::write(&path, whole.replace(from, to)).unwrap();
    };
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused(folder.path(), &["manifest.json"]);
    with("\"version\": 1", "\"version\": 2");
    refused(folder.path(), &["version 1", "found 2"]);
    with("acclimate checkpoint", "another");
    refused(folder.path(), &["format"]);
    with("\"hidden.weight\"", "\"hidden.wait\"");
    refused(folder.path(), &["hidden.wait"]);
    // A file outside the folder is not read, whatever its hash.
    with("\"parameters-", "\"../parameters-");
    refused(folder.path(), &["manifest.json", "../parameters-"]);
    fs::remove_file(&path).unwrap();
    refused(folder.path(), &["manifest.json", "cannot be read"]);
}

#[test]
fn a_checkpoint_of_another_model_or_optimizer_is_refused() {
    let (folder, _) = saved();
    let d = Device::cpu();
    let loaded = checkpoint::load(folder.path()).unwrap();
    let model = |path: &str, dims: &[usize]| {
        let n = dims.iter().product();
        let fixed = ("hidden.weight".to_owned(), vec![3, 4], vec![0.0; 12]);
        Params::from_named(&d, vec![fixed, (path.to_owned(), dims.to_vec(), vec![0.0; n])]).unwrap()
    };
    let error = loaded.params(&model("out.wheight", &[4, 1])).unwrap_err().to_string();
    assert!(error.contains("`out.weight`") && error.contains("`out.wheight`"), "{error}");
    let error = loaded.params(&model("out.weight", &[4, 2])).unwrap_err().to_string();
    assert!(error.contains("[4, 1]") && error.contains("[4, 2]"), "{error}");
    let sgd = optim::sgd(0.1).momentum(0.9);
    let error = loaded.state(&sgd.init(&fresh(&d)).unwrap(), &d).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(_)), "{error}");
    assert!(loaded.run::<()>().is_err(), "the run is not nothing");
}

#[test]
fn saving_replaces_and_leaves_other_files_alone() {
    let (folder, training) = saved();
    let d = Device::cpu();
    let names = || {
        let mut names: Vec<String> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let before = names();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    fs::write(folder.path().join("parameters-mine.safetensors"), "mine").unwrap();
    let device_of_training = training.params.device().clone();
    let fit = fit(Schedule::constant(0.05));
    let next = fit.run_to(6, training, &batches(), data(&device_of_training)).unwrap();
    next.save(folder.path(), 9).unwrap();
    let after = names();
    assert_eq!(after.len(), before.len() + 2, "{before:?} {after:?}");
    assert!(after.contains(&"notes.txt".to_owned()) && after.contains(&"parameters-mine.safetensors".to_owned()));
    let loaded = Training::load(folder.path(), &fresh(&d), fit.optimizer()).unwrap();
    assert_eq!(bits(&loaded), bits(&next));
    assert_eq!(checkpoint::load(folder.path()).unwrap().manifest.parameters_hash, next.params.hash().unwrap());
}

#[test]
fn a_save_that_breaks_off_leaves_the_old_checkpoint() {
    let (folder, training) = saved();
    let old = checkpoint::load(folder.path()).unwrap();
    // The manifest cannot be renamed over a folder: everything up to it has been written by then.
    let manifest = folder.path().join("manifest.json");
    let kept = folder.path().join("kept.json");
    fs::rename(&manifest, &kept).unwrap();
    fs::create_dir_all(manifest.join("in the way")).unwrap();
    let d = training.params.device().clone();
    let next = fit(Schedule::constant(0.05)).run_to(6, training, &batches(), data(&d)).unwrap();
    let run = Snapshot { params: &next.params, state: &next.state, step: 6, seed: 9, run: () };
    assert!(checkpoint::save(folder.path(), &run).is_err());
    fs::remove_dir_all(&manifest).unwrap();
    fs::rename(&kept, &manifest).unwrap();
    let now = checkpoint::load(folder.path()).unwrap();
    assert_eq!((now.manifest, now.parameters), (old.manifest, old.parameters));
}
