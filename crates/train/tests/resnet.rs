//! The published residual networks for CIFAR-10, from their weight files: the same logits as in PyTorch.
//!
//! Needs the folder `ACCLIMATE_DATA` with the weights and the first test images; without it the tests say what they
//! skipped.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::cifar;
use acclimate_train::nn::zoo::CifarResNet;
use acclimate_train::{Layer, weights};

/// A file of the data folder, or a visible skip.
fn data(name: &str) -> Option<PathBuf> {
    let found =
        std::env::var_os("ACCLIMATE_DATA").map(|folder| PathBuf::from(folder).join(name)).filter(|p| p.exists());
    if found.is_none() {
        eprintln!("skipped: {name} is not in the folder ACCLIMATE_DATA");
    }
    found
}

fn check(depth: usize, weights_file: &str, n_values: usize, expected: [f32; 10]) {
    let (Some(weights_file), Some(images)) = (data(weights_file), data("cifar10_test_first1017.bin")) else { return };
    let device = Device::cpu();
    let model = CifarResNet::for_pixels(depth, 10).unwrap();
    let params = weights::load(weights_file, &model.init(&device, 0).unwrap()).unwrap();
    assert_eq!(params.n_values(), n_values);
    let images = cifar::read(&images, 10).unwrap();
    let pixels: Vec<f32> = images.pixels()[..3 * 32 * 32].iter().map(|&p| f32::from(p) / 255.0).collect();
    let x = Tensor::from_slice(&device, &pixels, &[1, 3, 32, 32]).unwrap();
    let logits = model.forward(&params, &x).unwrap().to_vec::<f32>().unwrap();
    // Published to four decimals; f32 through 20 or 56 layers on logits of up to 24.
    for (found, expected) in logits.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-3, "{logits:?}");
    }
}

#[test]
fn resnet20_answers_as_in_pytorch() {
    let expected = [-5.3097, -0.4958, 0.8773, 23.7305, -4.1050, 4.4637, -0.2344, -5.4179, -3.7118, -9.8822];
    check(20, "cifar10_resnet20-12fca82f.safetensors", 269_722, expected);
}

#[test]
fn resnet56_answers_as_in_pytorch() {
    let expected = [-5.5256, -1.5469, -0.7158, 19.4394, -5.0977, 3.0219, -1.5109, -0.9350, -1.7958, -5.4049];
    check(56, "cifar10_resnet56-4bfd9763.safetensors", 853_018, expected);
}

#[test]
fn names_and_sizes_are_the_papers() {
    let device = Device::cpu();
    let params = CifarResNet::new(20, 10).unwrap().init(&device, 0).unwrap();
    assert_eq!(params.n_values(), 269_722);
    assert_eq!(params.paths().next(), Some("conv1.weight"));
    assert!(params.get("layer2.0.conv1.weight").unwrap().dims() == [32, 16, 3, 3]);
    assert_eq!(params.buffer_paths().count(), 38);
    let affine = params.select(|_, kind| kind.is_norm_affine());
    let n: usize = affine.iter().map(|path| params.get(path).unwrap().numel()).sum();
    assert_eq!((affine.len(), n), (38, 1376));
    for depth in [0, 2, 21] {
        assert!(CifarResNet::new(depth, 10).is_err());
    }
}
