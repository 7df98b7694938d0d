//! A small network on the rows that a mask keeps: forward, loss and gradients, once with all rows in place behind
//! [`Tensor::live_rows`], once on a batch of exactly the kept rows.

use acclimate_kernels::testkit::Input;
use acclimate_kernels::{Conv2d, Pool2d, TensorOps};
use acclimate_tensor::{Device, Result, Tensor, grad};

/// Images of a batch.
pub const N: usize = 7;

/// The parameters: a convolution, its shift, a matrix.
pub fn params(device: &Device) -> Result<Vec<Tensor>> {
    let of = |dims: &[usize], seed| Input::normal(dims).tensor(device, seed);
    Ok(vec![of(&[18, 2, 3, 3], 1)?, of(&[18, 1, 1], 2)?, of(&[18 * 9, 5], 3)?, of(&[18 * 9, 5], 4)?])
}

/// Loss of each row: [n, 2, 6, 6] and labels `[n]` → `[n]`.
fn losses(p: &[Tensor], x: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let y = x.conv2d(&p[0], &Conv2d::same(3))?.add(&p[1])?.relu()?;
    let y = y.max_pool2d(&Pool2d::new(2))?;
    let flat = y.reshape(&[x.dims()[0], 18 * 9])?;
    // Two products of the same rows, one through softmax.
    let logits = flat.matmul(&p[2])?.add(&flat.matmul(&p[3])?.softmax(-1)?)?;
    let picked = logits.log_softmax(-1)?.gather(1, &labels.unsqueeze(1)?)?;
    picked.squeeze(1)?.neg()
}

/// Loss and gradients: the rows of `x` that `keep` marks.
pub fn masked(p: &[Tensor], x: &Tensor, labels: &Tensor, keep: &Tensor) -> Result<Vec<Tensor>> {
    let (list, count) = keep.compact()?;
    // Rows beyond the count take from nowhere, which gives NaN, and are left out.
    let (rows, labels) = (x.index_select(0, &list)?.live_rows(&count)?, labels.index_select(0, &list)?);
    let loss = losses(p, &rows, &labels)?.live_rows(&count)?.sum(&[])?;
    let mut all = vec![loss.clone()];
    all.extend(grad(&loss, p.to_vec())?);
    Ok(all)
}

/// The same on a batch of exactly these rows.
pub fn exact(p: &[Tensor], x: &[f32], labels: &[u32], keep: &[bool]) -> Result<Vec<Tensor>> {
    let device = p[0].device();
    let kept: Vec<usize> = (0..N).filter(|&i| keep[i]).collect();
    if kept.is_empty() {
        let zeros = |t: &Tensor| Tensor::zeros(device, t.dims());
        let mut all = vec![Tensor::zeros(device, &[])?];
        all.extend(p.iter().map(zeros).collect::<Result<Vec<_>>>()?);
        return Ok(all);
    }
    let rows: Vec<f32> = kept.iter().flat_map(|&i| x[i * 72..(i + 1) * 72].iter().copied()).collect();
    let labels: Vec<u32> = kept.iter().map(|&i| labels[i]).collect();
    let rows = Tensor::from_slice(device, &rows, &[kept.len(), 2, 6, 6])?;
    let loss = losses(p, &rows, &Tensor::from_slice(device, &labels, &[kept.len()])?)?.sum(&[])?;
    let mut all = vec![loss.clone()];
    all.extend(grad(&loss, p.to_vec())?);
    Ok(all)
}

/// Runs both for masks that keep none, some and all, and compares within rounding: sums of up to N·36 terms of the
/// tensor's size, in different orders.
#[track_caller]
pub fn check(device: &Device) -> Result<()> {
    let p = params(device)?;
    let x = Input::normal(&[N, 2, 6, 6]).tensor(device, 9)?;
    let values = x.to_vec::<f32>()?;
    let labels: Vec<u32> = (0..N as u32).map(|i| i % 5).collect();
    let label = Tensor::from_slice(device, &labels, &[N])?;
    for bits in [0u32, 1, 0b100_0000, 0b010_1010, 0b111_0111, 0b111_1111] {
        let keep: Vec<bool> = (0..N).map(|i| bits >> i & 1 == 1).collect();
        let words: Vec<u32> = keep.iter().map(|&k| u32::from(k)).collect();
        let mask = Tensor::from_slice(device, &words, &[N])?;
        let got = masked(&p, &x, &label, &mask)?;
        // Together, or one after the other: then what was kept on the way is an input of the next plan.
        if bits & 2 == 0 {
            Tensor::realize(&got.iter().collect::<Vec<_>>())?;
        }
        let want = exact(&p, &values, &labels, &keep)?;
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let (got, want) = (got.to_vec::<f32>()?, want.to_vec::<f32>()?);
            let size = want.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (k, (g, w)) in got.iter().zip(&want).enumerate() {
                let bound = (N * 36) as f32 * f32::EPSILON * size;
                assert!(
                    (g - w).abs() <= bound,
                    "{bits:07b}, result {i}, element {k}: {g}, expected {w} within {bound}"
                );
            }
        }
    }
    Ok(())
}
