//! What the planner puts together, on a software adapter (or the one that `ACCLIMATE_DEVICE` names) against the f64 oracle.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod adapter;

use acclimate_tensor::{Device, Result, Tensor, grad, oracle};

fn tensor(d: &Device, dims: &[usize], seed: u32) -> Tensor {
    let word = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(97));
    let values: Vec<f32> = (0..dims.iter().product()).map(|i| (word(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect();
    Tensor::from_slice(d, &values, dims).unwrap()
}

/// What the oracle says of each, then what the device computes of all of them together: equal within so many roundings of the
/// largest magnitude. (In this order: of a value that is there already the oracle would say the same.)
fn check(tensors: &[&Tensor], roundings: f64) -> Result<()> {
    let want = tensors.iter().map(|t| Ok(oracle::evaluate(t, &[])?.real().to_vec())).collect::<Result<Vec<_>>>()?;
    Tensor::realize(tensors)?;
    for (t, want) in tensors.iter().zip(&want) {
        let got = t.to_vec::<f32>()?;
        assert_eq!(got.len(), want.len());
        let scale = want.iter().filter(|x| x.is_finite()).fold(f64::from(f32::MIN_POSITIVE), |m, x| m.max(x.abs()));
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let g = f64::from(*g);
            let same = g == *w || (g - w).abs() <= roundings * f64::from(f32::EPSILON) * scale;
            assert!(same, "element {i} of {t:?}: got {g}, oracle {w}, scale {scale}");
        }
    }
    Ok(())
}

/// Shapes and axes of sums that go by lanes, by a tree, in chunks, of fours and of single words.
fn sums() -> [(Vec<usize>, Vec<isize>); 8] {
    [
        (vec![5, 3], vec![1]),
        (vec![5, 3], vec![0]),
        (vec![2, 7, 300], vec![0, 2]),
        (vec![3, 64, 8], vec![0, 2]),
        (vec![4, 100_000], vec![1]),
        (vec![70_000, 2], vec![0]),
        (vec![50_000], vec![0]),
        (vec![0, 3], vec![0]),
    ]
}

/// Reductions over the same elements are made together: by lanes, by a tree, in chunks, of fours and of single words, and cut off
/// from each other where one needs the other.
#[test]
fn reductions_of_one_pass_are_each_right() -> Result<()> {
    let Some(d) = adapter::open(Device::named) else { return Ok(()) };
    for (dims, axes) in sums() {
        let (x, y) = (tensor(&d, &dims, 1), tensor(&d, &dims, 2));
        let sums = [x.sum_keep(&axes)?, x.mul(&y)?.sum_keep(&axes)?, x.sub(&y)?.relu()?.sum_keep(&axes)?];
        let largest = [x.max_keep(&axes)?, x.mul(&y)?.max_keep(&axes)?];
        let after = x.sub(&sums[0])?.square()?.sum_keep(&axes)?;
        let before = d.stats().dispatches;
        check(&[&sums[0], &sums[1], &sums[2], &largest[0], &largest[1], &after], 256.0)?;
        let launched = d.stats().dispatches - before;
        // Three steps; those in chunks have a second dispatch.
        assert!(launched <= 3 + 3, "{dims:?}: {launched} dispatches");
    }
    Ok(())
}

/// What many readers share, what is stored for one of them, and pieces of one buffer at any word.
#[test]
fn pieces_are_computed_where_they_lie() -> Result<()> {
    let Some(d) = adapter::open(Device::named) else { return Ok(()) };
    let flat = tensor(&d, &[300], 3);
    let (a, b, c) = (flat.narrow(0, 0, 7)?, flat.narrow(0, 64, 33)?, flat.narrow(0, 128, 100)?);
    let weights = tensor(&d, &[7], 4);
    let loss = a.mul(&weights)?.sum(&[])?.add(&b.exp()?.sum(&[])?)?.add(&c.mul_scalar(3.0)?.square()?.sum(&[])?)?;
    let by = grad(&loss, flat.clone())?;
    // Of the size of a piece, and earlier: the piece must not go there, before the gaps are set to zero. And who reads the pieces
    // once more finds them too.
    let before = tensor(&d, &[7], 5).mul_scalar(2.0)?;
    check(&[&before, &by, &by.mul(&flat)?], 8.0)
}

/// What is left of sums after them is computed where they are stored: by lanes, by a tree, in chunks; from two sums, stored with
/// and without these, beside other reads, in other dtypes.
#[test]
fn what_follows_a_sum_is_computed_with_it() -> Result<()> {
    let Some(d) = adapter::open(Device::named) else { return Ok(()) };
    for (dims, axes) in sums() {
        let (x, y) = (tensor(&d, &dims, 1), tensor(&d, &dims, 2));
        let (a, b) = (x.abs()?.sum_keep(&axes)?, x.mul(&y)?.square()?.sum_keep(&axes)?);
        let factor = tensor(&d, a.dims(), 3);
        let ratio = b.div(&a.add_scalar(1.0)?)?.mul(&factor)?;
        let deviation = b.add_scalar(1e-5)?.sqrt()?;
        let largest = x.max_keep(&axes)?.mul_scalar(2.0)?;
        let before = d.stats().dispatches;
        check(&[&a, &ratio, &deviation, &largest], 256.0)?;
        let launched = d.stats().dispatches - before;
        // Both sums are one step, the maximum another; in chunks each has a second dispatch.
        assert!(launched <= 2 * 2, "{dims:?}: {launched} dispatches");
        let less = a.lt(&b)?;
        let want: Vec<u32> = a.to_vec::<f32>()?.iter().zip(b.to_vec::<f32>()?).map(|(a, b)| (*a < b).into()).collect();
        let (a, b) = (x.abs()?.sum_keep(&axes)?, x.mul(&y)?.square()?.sum_keep(&axes)?);
        assert_eq!(a.lt(&b)?.to_vec::<u32>()?, want);
        assert_eq!(less.to_vec::<u32>()?, want);
    }
    Ok(())
}
