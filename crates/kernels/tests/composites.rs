//! Composites where PyTorch's vectors do not look: kinks, ties, NaN, bits under a map.

use acclimate_kernels::{TensorOps, concat, stack};
use acclimate_tensor::{Device, Error, Result, Tensor, grad, vmap};

fn of(data: &[f32], dims: &[usize]) -> Result<Tensor> {
    static DEVICE: std::sync::LazyLock<Device> = std::sync::LazyLock::new(Device::cpu);
    Tensor::from_slice(&DEVICE, data, dims)
}

fn bits(t: &Tensor) -> Result<Vec<u32>> {
    Ok(t.to_vec::<f32>()?.into_iter().map(f32::to_bits).collect())
}

#[test]
fn gradients_at_kinks() -> Result<()> {
    let slope = |f: fn(&Tensor) -> Result<Tensor>, at: &[f32]| -> Result<Vec<f32>> {
        let x = of(at, &[at.len()])?;
        grad(&f(&x)?.sum(&[])?, x)?.to_vec::<f32>()
    };
    assert_eq!(slope(|x| x.softplus(), &[0.0, -200.0, 200.0])?, [0.5, 0.0, 1.0]);
    assert_eq!(slope(|x| x.relu6(), &[-1.0, 0.0, 3.0, 6.0, 7.0])?, [0.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(slope(|x| x.clamp(-1.0, 1.0), &[-2.0, -1.0, 0.0, 1.0, 2.0])?, [0.0, 1.0, 1.0, 1.0, 0.0]);
    // A row of nothing but −∞ and one with ∞: no NaN is made.
    let x = of(&[f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, 1.0], &[2, 2])?;
    assert_eq!(x.logsumexp(1)?.to_vec::<f32>()?, [f32::NEG_INFINITY, f32::INFINITY]);
    Ok(())
}

#[test]
fn the_first_extreme_wins_and_nan_before_all() -> Result<()> {
    let x = of(&[1.0, f32::NAN, 9.0, f32::NAN, 2.0, 5.0, 5.0, 2.0], &[2, 4])?;
    assert_eq!(x.argmax(1)?.to_vec::<u32>()?, [1, 1]);
    assert_eq!(x.argmin(-1)?.to_vec::<u32>()?, [1, 0]);
    let infinite = of(&[f32::NEG_INFINITY; 3], &[3])?;
    assert_eq!(infinite.argmax(0)?.to_vec::<u32>()?, [0]);
    assert!(of(&[], &[2, 0])?.argmax(1).is_err());
    Ok(())
}

/// Bits are kept along any axis, alone and under a map, and each part gets its own gradient.
#[test]
fn joining_moves_bits() -> Result<()> {
    let a = of(&[f32::NAN, -0.0, 1.0, f32::INFINITY, -0.0, 2.0], &[3, 2])?;
    let b = of(&[-0.0, 5.0, f32::NAN], &[3, 1])?;
    let joined = concat(&[&a, &b], 1)?;
    let want = [f32::NAN, -0.0, -0.0, 1.0, f32::INFINITY, 5.0, -0.0, 2.0, f32::NAN].map(f32::to_bits);
    assert_eq!(bits(&joined)?, want);
    let mapped = vmap(|(a, b)| concat(&[&a, &b], 0), (a.clone(), b.clone()))?;
    assert_eq!(bits(&mapped)?, want);
    let mapped = vmap(|a: Tensor| stack(&[&a, &a], 1), a.clone())?;
    assert_eq!(mapped.dims(), [3, 2, 2]);
    let pairs: Vec<u32> = bits(&a)?.into_iter().flat_map(|x| [x, x]).collect();
    assert_eq!(bits(&mapped)?, pairs);
    let (x, y) = (of(&[1.0, 2.0], &[2])?, of(&[3.0], &[1])?);
    let weighted = concat(&[&x, &y, &x], 0)?.mul(&of(&[1.0, 10.0, 100.0, 1000.0, 10_000.0], &[5])?)?;
    let (dx, dy) = grad(&weighted.sum(&[])?, (x, y))?;
    assert_eq!((dx.to_vec::<f32>()?, dy.to_vec::<f32>()?), (vec![1001.0, 10_010.0], vec![100.0]));
    Ok(())
}

#[test]
fn sorted_gradients_go_home() -> Result<()> {
    let x = of(&[2.0, 1.0, 3.0, 5.0, 4.0, 0.0], &[2, 3])?;
    let best = x.topk(2, true)?.0.mul(&of(&[1.0, 10.0], &[2])?)?;
    assert_eq!(grad(&best.sum(&[])?, x)?.to_vec::<f32>()?, [10.0, 0.0, 1.0, 1.0, 10.0, 0.0]);
    Ok(())
}

#[test]
fn null_rejects() -> Result<()> {
    let d = Device::null();
    let (x, row) = (Tensor::zeros(&d, &[2, 3])?, Tensor::zeros(&d, &[3])?);
    let says = |r: Result<Tensor>, word: &str| {
        let message = r.err().map(|e: Error| e.to_string()).unwrap_or_default();
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    };
    says(concat(&[], 0), "at least one tensor");
    says(concat(&[&x, &row], 0), "[2, 3]");
    says(concat(&[&x, &x.gt(&x)?], 0), "dtype");
    says(stack(&[&x, &row], 0), "[2, 3]");
    says(x.softmax(2), "axis 2");
    says(x.mean(&[5]), "axis 5");
    says(x.cumsum(-3), "axis -3");
    says(x.topk(4, true).map(|(y, _)| y), "at most");
    says(x.clamp(1.0, 0.0), "low");
    says(x.clamp(f32::NAN, 0.0), "low");
    says(x.index_select(0, &Tensor::full_u32(&d, &[1, 2], 0)?), "rank 1");
    says(x.gt(&x)?.softmax(0), "f32");
    Ok(())
}
