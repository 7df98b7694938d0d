//! Groups that are computed where an op stores its result: every way to launch a product or a convolution, on a software adapter
//! (or the one that `ACCLIMATE_DEVICE` names) against the f64 oracle, in as few dispatches as the op alone takes. Of a software
//! adapter only what every adapter has, else it would take products of its own, which nothing is fused into.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use acclimate_kernels::testkit::Input;
use acclimate_kernels::{Conv2d, TensorOps};
use acclimate_tensor::{DType, Device, DeviceOptions, Passes, Result, Tensor, grad, oracle};

/// A layer's output of channels along `axis`: scaled, shifted, rectified, and added to what came before.
fn layer(y: &Tensor, axis: usize) -> Result<Tensor> {
    let d = y.device();
    let mut channels = vec![1; y.dims().len()];
    channels[axis] = y.dims()[axis];
    let scale = Input::uniform(&channels, 0.5, 1.5).tensor(d, 11)?;
    let shift = Input::normal(&channels).tensor(d, 12)?;
    let before = Input::normal(y.dims()).tensor(d, 13)?;
    y.mul(&scale)?.add(&shift)?.relu()?.add(&before)
}

/// The layers, and the gradient of a square by a convolution's input, whose rectifier's mask is computed with it.
fn layers(d: &Device) -> Result<Vec<(String, Tensor)>> {
    let mut all = Vec::new();
    let input = |dims: &[usize], seed: u64| Input::normal(dims).tensor(d, seed);
    // With few rows, in one block and in several, with sums in slices, of several matrices.
    for (m, k, n) in [(3, 40, 12), (20, 33, 17), (130, 36, 68), (32, 6000, 32)] {
        let y = input(&[m, k], 1)?.matmul(&input(&[k, n], 2)?)?;
        all.push((format!("{m}x{k} times {k}x{n}"), layer(&y, 1)?));
    }
    let y = input(&[3, 20, 16], 1)?.matmul(&input(&[3, 16, 24], 2)?)?;
    all.push(("three products".into(), layer(&y, 2)?));
    let halves = |t: Tensor| t.cast(DType::F16);
    let y = halves(input(&[36, 64], 1)?)?.matmul(&halves(input(&[64, 40], 2)?)?)?;
    all.push(("a product of halves".into(), layer(&y, 1)?));
    let strided = Conv2d { stride: [2, 2], ..Conv2d::same(3) };
    let depthwise = Conv2d { groups: 8, ..Conv2d::same(3) };
    let cases = [(Conv2d::same(3), 20, 24), (strided, 16, 36), (depthwise, 8, 8), (Conv2d::same(1), 32, 16)];
    for (conv, ins, outs) in cases {
        let x = input(&[2, ins, 9, 10], 1)?;
        let k = if conv == Conv2d::same(1) { 1 } else { 3 };
        let w = input(&[outs, ins / conv.groups, k, k], 2)?;
        all.push((format!("{conv:?}"), layer(&x.conv2d(&w, &conv)?, 1)?));
        // Behind a rectifier: where that gives 0 nothing flows on.
        let loss = x.relu()?.conv2d(&w, &conv)?.square()?.sum(&[])?;
        all.push((format!("gradient of {conv:?}"), grad(&loss, x)?));
    }
    Ok(all)
}

/// What the layers are on a device, and how many dispatches each took.
fn computed(d: &Device, want: &[Vec<f64>]) -> Result<Vec<u64>> {
    let mut dispatches = Vec::new();
    for ((name, t), want) in layers(d)?.iter().zip(want) {
        let before = d.stats().dispatches;
        let got = t.to_vec::<f32>()?;
        dispatches.push(d.stats().dispatches - before);
        let scale = want.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!((f64::from(*g) - w).abs() <= 1e-5 * scale, "{name}, element {i}: got {g}, oracle {w}");
        }
    }
    Ok(dispatches)
}

#[test]
fn every_way_finishes() -> Result<()> {
    let cpu = Device::cpu();
    let oracle = |t: &Tensor| Ok(oracle::evaluate(t, &[])?.real().to_vec());
    let want = layers(&cpu)?.iter().map(|(_, t)| oracle(t)).collect::<Result<Vec<_>>>()?;
    let Some(device) = adapter::open(Device::gpu_restricted) else { return Ok(()) };
    let without = computed(&device.with_passes(Passes { finish: false, ..Passes::ALL })?, &want)?;
    for way in 0..=6 {
        let Some(device) = adapter::open(|name| Device::open(name, DeviceOptions::restricted().way(way))) else {
            break;
        };
        for ((few, many), (name, _)) in computed(&device, &want)?.iter().zip(&without).zip(layers(&cpu)?) {
            // Another way may take a dispatch more than the first by itself.
            assert!(few < many || way > 0, "{name}: {few} dispatches, {many} without the pass");
        }
    }
    Ok(())
}
