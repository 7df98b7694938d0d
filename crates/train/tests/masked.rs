//! Masks hide what they say, and the loss looks at nothing else.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use acclimate_kernels::random::Key;
use acclimate_tensor::{Device, Tensor, grad};
use acclimate_train::nn::{Masks, PixelShuffle, mask_loss};
use acclimate_train::{Layer, Params};

fn hides_as_it_says(device: &Device) {
    let values: Vec<f32> = (0..2 * 3 * 6 * 8).map(|i| (i as f32 * 0.71).sin()).collect();
    let x = Tensor::from_slice(device, &values, &[2, 3, 6, 8]).unwrap();
    let masks = Masks { count: 5, patch: 2, share: 0.75 };
    let masked = masks.of(&x, &Key::new(device, 4).unwrap()).unwrap();
    let (rows, hidden) = (masked.rows.to_vec::<f32>().unwrap(), bools(&masked.hidden));
    assert_eq!((masked.rows.dims(), masked.hidden.dims()), (&[10, 3, 6, 8][..], &[10, 1, 6, 8][..]));
    let mut patterns = Vec::new();
    for row in 0..10 {
        let image = &values[row % 2 * 144..][..144];
        let own = &hidden[row * 48..][..48];
        // 9 of 12 patches, each whole.
        assert_eq!(own.iter().filter(|&&h| h).count(), 36);
        for (i, h) in own.iter().enumerate() {
            assert_eq!(*h, own[i / 16 * 16 + i % 8 / 2 * 2], "a patch is hidden whole");
        }
        for channel in 0..3 {
            let plane = &image[channel * 48..][..48];
            let seen: Vec<f32> = plane.iter().zip(own).filter(|(_, h)| !**h).map(|(v, _)| *v).collect();
            let mean = seen.iter().sum::<f32>() / seen.len() as f32;
            for ((found, value), h) in rows[(row * 3 + channel) * 48..][..48].iter().zip(plane).zip(own) {
                // A sum of 12 values below 1 in any order.
                let expected = if *h { mean } else { *value };
                assert!((found - expected).abs() <= 12.0 * f32::EPSILON, "{found} {expected}");
            }
        }
        patterns.push(own.to_vec());
    }
    patterns.sort();
    patterns.dedup();
    assert!(patterns.len() >= 9, "masks differ");
    let again = masks.of(&x, &Key::new(device, 4).unwrap()).unwrap();
    assert_eq!(bools(&again.hidden), hidden);

    // The loss is the mean over hidden pixels, and its gradient is zero elsewhere.
    let painting = masked.targets.add_scalar(0.5).unwrap();
    let painting = Tensor::from_slice(device, &painting.to_vec::<f32>().unwrap(), painting.dims()).unwrap();
    let loss = mask_loss(&painting, &masked).unwrap();
    let slope = grad(&loss, painting).unwrap().to_vec::<f32>().unwrap();
    assert!((loss.item().unwrap() - 0.25).abs() < 1e-5);
    for (i, g) in slope.iter().enumerate() {
        let expected = if hidden[i / 144 * 48 + i % 48] { 1.0 / (10.0 * 3.0 * 36.0) } else { 0.0 };
        assert!((g - expected).abs() < 1e-7, "{g} {expected}");
    }
}

fn bools(t: &Tensor) -> Vec<bool> {
    t.cast(acclimate_tensor::DType::F32).unwrap().to_vec::<f32>().unwrap().iter().map(|&x| x > 0.5).collect()
}

#[test]
fn masks_hide_as_they_say() {
    hides_as_it_says(&Device::cpu());
}

#[test]
fn software_masks_hide_as_they_say() {
    if let Some(device) = adapter::open(Device::named) {
        hides_as_it_says(&device);
    }
}

/// What is hidden may be NaN: nothing seen becomes NaN by it.
#[test]
fn a_hidden_nan_stays_hidden() {
    let device = Device::cpu();
    let masks = Masks { count: 1, patch: 2, share: 0.5 };
    let key = Key::new(&device, 1).unwrap();
    let clean = vec![0.5f32; 16];
    let at = |values: &[f32]| masks.of(&Tensor::from_slice(&device, values, &[1, 1, 4, 4]).unwrap(), &key).unwrap();
    let hidden = bools(&at(&clean).hidden);
    let poisoned: Vec<f32> = clean.iter().zip(&hidden).map(|(x, h)| if *h { f32::NAN } else { *x }).collect();
    assert_eq!(at(&poisoned).rows.to_vec::<f32>().unwrap(), clean);
}

#[test]
fn what_cannot_be_masked_is_refused() {
    let device = Device::null();
    let (x, key) = (Tensor::zeros(&device, &[1, 1, 6, 6]).unwrap(), Key::new(&device, 0).unwrap());
    let error = |masks: Masks| masks.of(&x, &key).unwrap_err().to_string();
    assert!(error(Masks::new(1, 4)).contains("multiples of the patch"));
    assert!(error(Masks::new(0, 2)).contains("at least one mask"));
    assert!(error(Masks { share: f32::NAN, ..Masks::new(1, 2) }).contains("between 0 and 1"));
    assert!(error(Masks { share: 0.01, ..Masks::new(1, 2) }).contains("hides some"));
    assert!(Masks::new(1, 2).of(&x.reshape(&[1, 36]).unwrap(), &key).is_err());
    let masked = Masks::new(2, 2).of(&x, &key).unwrap();
    assert!(mask_loss(&x, &masked).unwrap_err().to_string().contains("mask_loss"));
}

/// torch.nn.functional.pixel_shuffle(arange(16).view(1, 8, 1, 2), 2).
#[test]
fn pixels_are_shuffled_as_in_pytorch() {
    let device = Device::cpu();
    let params = Params::from_named(&device, vec![("unused".into(), vec![1], vec![0.0])]).unwrap();
    let x = Tensor::from_slice(&device, &(0..16).map(|i| i as f32).collect::<Vec<_>>(), &[1, 8, 1, 2]).unwrap();
    let y = PixelShuffle(2).forward(&params, &x).unwrap();
    assert_eq!(y.dims(), [1, 2, 2, 4]);
    let expected = [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15].map(|i| i as f32);
    assert_eq!(y.to_vec::<f32>().unwrap(), expected);
    assert!(PixelShuffle(3).forward(&params, &x).is_err() && PixelShuffle(0).forward(&params, &x).is_err());
}
