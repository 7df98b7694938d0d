//! EfficientNet-Lite0 from its published weights: the logits of PyTorch, and how many sample images it gets right.
//!
//! Needs the folder `ACCLIMATE_DATA` with the weights and the sample images; without it the tests say what they skipped.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use std::path::PathBuf;

use acclimate_kernels::TensorOps;
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::imagenet;
use acclimate_train::nn::zoo::EfficientNetLite0;
use acclimate_train::{Layer, Pass, Statistics, weights};

/// A file of the data folder, or a visible skip.
fn data(name: &str) -> Option<PathBuf> {
    let found =
        std::env::var_os("ACCLIMATE_DATA").map(|folder| PathBuf::from(folder).join(name)).filter(|p| p.exists());
    if found.is_none() {
        eprintln!("skipped: {name} is not in the folder ACCLIMATE_DATA");
    }
    found
}

#[test]
fn it_answers_as_in_pytorch() {
    let files = (data("efficientnet_lite0.safetensors"), data("imagenet_samples_256_every7th.tar"));
    let (Some(file), Some(samples)) = files else { return };
    let device = Device::cpu();
    let model = EfficientNetLite0::for_pixels([224, 224], 1000).unwrap();
    let params = weights::load(file, &model.init(&device, 0).unwrap()).unwrap();
    assert_eq!(params.n_values(), 4_652_008);
    let images = imagenet::read(samples, 224).unwrap();
    assert_eq!((images.len(), images.labels()[0], images.labels()[142]), (143, 0, 994));
    let x = Tensor::from_slice(&device, &images.to_f32(0..1).unwrap(), &[1, 3, 224, 224]).unwrap();
    let logits = model.forward(&params, &x).unwrap();
    assert_eq!(logits.argmax(1).unwrap().to_vec::<u32>().unwrap(), [0]);
    let logits = logits.to_vec::<f32>().unwrap();
    // JPEG decoders round differently: a level of a pixel here and there.
    for (found, expected) in logits.iter().zip([10.1461, 5.4999, 1.7841, 1.6472, 1.2981]) {
        assert!((found - expected).abs() < 0.1, "{:?}", &logits[..5]);
    }
}

/// Names, sizes and asymmetric padding need no file.
#[test]
fn names_and_sizes_are_the_papers() {
    let device = Device::null();
    let model = EfficientNetLite0::for_pixels([224, 224], 1000).unwrap();
    let params = model.init(&device, 0).unwrap();
    assert_eq!(params.n_values(), 4_652_008);
    let affine = params.select(|_, kind| kind.is_norm_affine());
    let n: usize = affine.iter().map(|path| params.get(path).unwrap().numel()).sum();
    assert_eq!((affine.len(), n), (98, 42_016));
    assert_eq!(params.get("_blocks.3._depthwise_conv.weight").unwrap().dims(), [144, 1, 5, 5]);
    let mut pass = Pass::infer().with_taps();
    let x = Tensor::zeros(&device, &[2, 3, 224, 224]).unwrap();
    assert_eq!(model.apply(&params, &x, &mut pass).unwrap().dims(), [2, 1000]);
    let taps = pass.take_taps();
    assert_eq!(taps.len(), 49);
    assert_eq!(taps[0].1.dims(), [2, 32, 112, 112]);
    assert_eq!(taps[48].1.dims(), [2, 1280, 7, 7]);
    // Another size of image, which no stride divides.
    let odd = EfficientNetLite0::for_pixels([33, 47], 10).unwrap();
    let params = odd.init(&device, 0).unwrap();
    assert_eq!(odd.forward(&params, &Tensor::zeros(&device, &[1, 3, 33, 47]).unwrap()).unwrap().dims(), [1, 10]);
    assert!(EfficientNetLite0::for_pixels([0, 224], 10).is_err());
}

/// Depthwise kernels of both sizes and strides, padded unevenly: the shaders compute what the processor does.
#[test]
fn software_a_small_image_is_answered_as_on_the_cpu() {
    let Some(device) = adapter::open(Device::named) else { return };
    let model = EfficientNetLite0::for_pixels([33, 47], 10).unwrap();
    let pixels: Vec<f32> = (0..2 * 3 * 33 * 47).map(|i| 0.5 + 0.5 * (i as f32 * 0.37).sin()).collect();
    let answer = |device: &Device| {
        let params = model.init(device, 5).unwrap();
        let x = Tensor::from_slice(device, &pixels, &[2, 3, 33, 47]).unwrap();
        let mut pass = Pass::infer().with_statistics(Statistics::Batch);
        model.apply(&params, &x, &mut pass).unwrap().to_vec::<f32>().unwrap()
    };
    let (found, expected) = (answer(&device), answer(&Device::cpu()));
    // Each of 49 normalizations divides what came before by its size, so roundings of √1000 (products over up to 1152
    // values) add up layer by layer: 49·√1152·ε of the largest answer, twice for both.
    let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let bound = 2.0 * 49.0 * 1152f32.sqrt() * f32::EPSILON * scale;
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() <= bound, "{f} {e}, bound {bound}");
    }
    assert!(scale > 1e-3 && expected[..10] != expected[10..]);
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.tar");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        imagenet::read(&path, 8).unwrap_err().to_string()
    };
    assert!(read(&[7; 600]).contains("tar archive"));
    assert!(read(&[0; 1024]).contains("named by their label"));
    let mut header = [0u8; 512];
    header[..12].copy_from_slice(b"0007_cat.jpg");
    header[124..136].copy_from_slice(b"00000001000\0");
    header[257..262].copy_from_slice(b"ustar");
    assert!(read(&header).contains("bytes"));
    let mut all = header.to_vec();
    all.extend([1; 512]);
    assert!(read(&all).contains("PNG or JPEG"), "{}", read(&all));
    assert!(imagenet::read(folder.path(), 8).is_err());
}
