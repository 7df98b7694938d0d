//! Products of halves against the f32 products of the same numbers, forward and backward.

#![allow(clippy::unwrap_used)]

use acclimate_kernels::testkit::Input;
use acclimate_kernels::{Conv2d, TensorOps};
use acclimate_tensor::{DType, Device, Result, Tensor, grad};

type Product = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Products with the shapes of their operands, and how many terms a gradient sums at most.
fn products() -> Vec<(Product, Vec<usize>, Vec<usize>)> {
    vec![
        (|a, b| a.matmul(b), vec![5, 33, 7], vec![7, 9]),
        (|a, b| a.matmul_nt(b), vec![3, 17, 31], vec![3, 5, 31]),
        (|a, b| a.conv2d(b, &Conv2d::same(3)), vec![2, 9, 7, 5], vec![17, 9, 3, 3]),
        (|a, b| a.conv2d(b, &Conv2d::same(3).grouped(7)), vec![2, 7, 5, 5], vec![7, 1, 3, 3]),
    ]
}

/// Value and gradients of Σ weight · (a · b), where a and b pass through halves; `by_halves`: so does the product.
fn answers(device: &Device, which: usize, by_halves: bool) -> Vec<Tensor> {
    let (product, a, b) = products().swap_remove(which);
    let a = Input::normal(&a).tensor(device, 1).unwrap();
    let b = Input::normal(&b).tensor(device, 2).unwrap();
    let (mut x, mut y) = (a.cast(DType::F16).unwrap(), b.cast(DType::F16).unwrap());
    if !by_halves {
        (x, y) = (x.cast(DType::F32).unwrap(), y.cast(DType::F32).unwrap());
    }
    let c = product(&x, &y).unwrap();
    // Powers of two, so that rounding the upstream gradient changes nothing.
    let weight: Vec<f32> = (0..c.numel()).map(|i| [0.5, -1.0, 2.0, 4.0, -0.25][i % 5]).collect();
    let weight = Tensor::from_slice(device, &weight, c.dims()).unwrap();
    let (da, db) = grad(&c.mul(&weight).unwrap().sum(&[]).unwrap(), (a, b)).unwrap();
    assert_eq!((da.dtype(), db.dtype()), (DType::F32, DType::F32));
    vec![c, da, db]
}

fn agree(device: &Device) {
    for which in 0..products().len() {
        let halves = answers(device, which, true);
        let floats = answers(device, which, false);
        for (i, (half, float)) in halves.iter().zip(&floats).enumerate() {
            let (half, float) = (half.to_vec::<f32>().unwrap(), float.to_vec::<f32>().unwrap());
            for (h, f) in half.iter().zip(&float) {
                // The same kernel on the same numbers: the same value. Both gradients go back through a cast, and are
                // rounded to halves there; where the product was of halves, by the product itself.
                assert_eq!(h, f, "product {which}, result {i}");
            }
            assert!(half.iter().any(|x| *x != 0.0));
        }
    }
}

#[test]
fn cpu_products_of_halves_are_those_of_their_numbers() {
    agree(&Device::cpu());
}

/// An upstream gradient beyond the largest half becomes infinite: what a loss scale looks for.
#[test]
fn a_gradient_that_is_no_half_overflows() {
    let device = Device::cpu();
    let a = Tensor::ones(&device, &[2, 3]).unwrap();
    let b = Tensor::ones(&device, &[3, 4]).unwrap();
    let c = a.to_f16().unwrap().matmul(&b.to_f16().unwrap()).unwrap();
    let da = |scale: f32| grad(&c.mul_scalar(scale).unwrap().sum(&[]).unwrap(), a.clone()).unwrap();
    assert_eq!(da(1000.0).to_vec::<f32>().unwrap(), [4000.0; 6]);
    // The sum of four is too large, each of them is not.
    assert_eq!(da(30000.0).to_vec::<f32>().unwrap(), [f32::INFINITY; 6]);
}

/// Two uses of the same halves: their gradients are added.
#[test]
fn gradients_of_halves_add_up() {
    let device = Device::cpu();
    let x = Tensor::from_slice(&device, &[1.0f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
    let half = x.to_f16().unwrap();
    let dx = grad(&half.matmul(&half).unwrap().sum(&[]).unwrap(), x.clone()).unwrap();
    // d Σ (x·x) / dx[i,j] = row sum of x[j,·] + column sum of x[·,i].
    assert_eq!(dx.to_vec::<f32>().unwrap(), [3.0 + 4.0, 7.0 + 4.0, 3.0 + 6.0, 7.0 + 6.0]);
}
