//! The CPU engine against the f64 oracle: element-wise groups, views, reductions, gradients, vmap, compile.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use acclimate_tensor::oracle::{self, Data};
use acclimate_tensor::{DType, Device, Peaks, Result, Tensor, compile, grad, vmap};

fn values(n: usize, seed: u32) -> Vec<f32> {
    (0..n)
        .map(|i| {
            ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(97)) >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn tensor(d: &Device, dims: &[usize], seed: u32) -> Tensor {
    Tensor::from_slice(d, &values(dims.iter().product(), seed), dims).unwrap()
}

/// The engine's answer equals the oracle's within `tolerance` relative to the largest magnitude.
fn check(t: &Tensor, tolerance: f64) {
    let want = oracle::evaluate(t, &[]).unwrap();
    match want {
        Data::Real(want) => {
            let got: Vec<f32> = t.to_vec().unwrap();
            assert_eq!(got.len(), want.len());
            let scale = want.iter().filter(|x| x.is_finite()).fold(1e-30f64, |m, x| m.max(x.abs()));
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                let same =
                    f64::from(*g) == *w || (g.is_nan() && w.is_nan()) || (f64::from(*g) - w).abs() <= tolerance * scale;
                assert!(same, "element {i} of {t:?}: got {g}, oracle {w}");
            }
        }
        Data::Word(want) => assert_eq!(
            if t.dtype() == DType::I32 {
                t.to_vec::<i32>().unwrap().iter().map(|&x| x as u32).collect()
            } else {
                t.to_vec::<u32>().unwrap()
            },
            want
        ),
        Data::Half(_) => {}
    }
}

#[test]
fn elementwise_and_views() -> Result<()> {
    let d = Device::cpu();
    for n in [1, 2, 7, 33, 257, 1025, 40_000] {
        let (a, b) = (tensor(&d, &[n], 1), tensor(&d, &[n], 2));
        check(&a.mul(&b)?.add(&a)?.tanh()?, 1e-6);
        check(&a.abs()?.add_scalar(0.5)?.pow(&b)?, 1e-6);
        check(&a.flip(0)?.sub(&b)?, 1e-6);
        check(&a.gt(&b)?.select(&a, &b)?, 0.0);
    }
    let x = tensor(&d, &[3, 5, 7], 3);
    check(&x.permute(&[2, 0, 1])?.exp()?, 1e-6);
    check(&x.permute(&[2, 0, 1])?.reshape(&[7, 15])?.add(&x.reshape(&[7, 15])?)?, 1e-6);
    check(&x.strided_slice(&[2, 0, 6], &[-1, 2, -3], &[3, 3, 3])?.mul_scalar(2.0)?, 1e-6);
    check(&x.pad(&[(1, 0), (0, 2), (3, 1)])?.add_scalar(1.0)?, 1e-6);
    check(&x.sum(&[1])?.pad_strided(&[1, 0], &[2, 3], &[6, 20])?, 1e-6);
    check(&x.add(&tensor(&d, &[5, 1], 4))?.mul(&tensor(&d, &[3, 1, 1], 5))?, 1e-6);
    check(&Tensor::iota(&d, &[4, 6], 0)?.cast(DType::F32)?.mul(&Tensor::iota(&d, &[4, 6], 1)?.cast(DType::F32)?)?, 0.0);
    let k = Tensor::full_u32(&d, &[9], 7)?;
    check(&Tensor::philox(&k, &k, &Tensor::iota(&d, &[9], 0)?, &k)?, 0.0);
    Ok(())
}

#[test]
fn reductions_over_all_patterns() -> Result<()> {
    let d = Device::cpu();
    for dims in [&[4, 5, 6][..], &[1, 33, 1], &[2, 600, 3], &[3, 2, 700], &[100_000], &[40, 9, 200], &[9, 200, 40]] {
        let x = tensor(&d, dims, 1);
        for mask in 1..1u32 << dims.len() {
            let axes: Vec<isize> = (0..dims.len() as isize).filter(|d| mask >> d & 1 == 1).collect();
            check(&x.mul(&x)?.sum(&axes)?, 1e-6);
            check(&x.max(&axes)?, 0.0);
            check(&x.neg()?.min(&axes)?, 0.0);
            check(&x.mul_scalar(0.01)?.add_scalar(1.0)?.prod(&axes)?, 1e-5);
        }
    }
    let none = Tensor::from_slice::<f32>(&d, &[], &[0, 3])?;
    assert_eq!(none.sum(&[0])?.to_vec::<f32>()?, [0.0; 3]);
    assert_eq!(none.max(&[0])?.to_vec::<f32>()?, [f32::NEG_INFINITY; 3]);
    Ok(())
}

#[test]
fn gradients_follow_numeric_ones() -> Result<()> {
    let d = Device::cpu();
    let f = |x: &Tensor, w: &Tensor| -> Result<Tensor> {
        let y = x.mul(w)?.tanh()?.sum_keep(&[1])?;
        let z = x.sigmoid()?.div(&w.square()?.add_scalar(1.0)?)?.max(&[0])?;
        y.mul(&z)?.strided_slice(&[2, 1], &[-1, 2], &[3, 2])?.exp()?.sum(&[])
    };
    let (x, w) = (tensor(&d, &[3, 5], 1), tensor(&d, &[3, 5], 2));
    let loss = f(&x, &w)?;
    let (dx, dw) = grad(&loss, (x.clone(), w.clone()))?;
    let second = grad(&dx.square()?.sum(&[])?, w.clone())?;
    let numeric = |value: &dyn Fn() -> Result<Tensor>, at: &Tensor| -> Vec<f64> {
        let t = value().unwrap();
        let base: Vec<f64> = at.to_vec::<f32>().unwrap().iter().map(|&x| f64::from(x)).collect();
        (0..base.len())
            .map(|i| {
                let side = |h: f64| {
                    let mut p = base.clone();
                    p[i] += h;
                    oracle::evaluate(&t, &[(at.clone(), p)]).unwrap().real()[0]
                };
                (side(1e-5) - side(-1e-5)) / 2e-5
            })
            .collect()
    };
    for (g, at) in [(&dx, &x), (&dw, &w)] {
        check(g, 1e-5);
        let want = numeric(&|| f(&x, &w), at);
        for (got, want) in oracle::evaluate(g, &[])?.real().iter().zip(want) {
            assert!((got - want).abs() < 1e-6 * (1.0 + want.abs()), "{got} {want}");
        }
    }
    let want = numeric(&|| grad(&f(&x, &w)?, x.clone())?.square()?.sum(&[]), &w);
    for (got, want) in second.to_vec::<f32>()?.iter().zip(want) {
        assert!((f64::from(*got) - want).abs() < 1e-4 * (1.0 + want.abs()), "{got} {want}");
    }
    Ok(())
}

#[test]
fn slices_of_an_arena_assemble_their_gradient() -> Result<()> {
    let d = Device::cpu();
    let theta = tensor(&d, &[256], 1);
    let (a, b) = (theta.narrow(0, 0, 12)?.reshape(&[3, 4])?, theta.narrow(0, 64, 100)?.reshape(&[4, 25])?);
    let loss = a.square()?.sum(&[])?.add(&b.sum(&[0])?.square()?.sum(&[])?)?.add(&theta.narrow(0, 5, 3)?.sum(&[])?)?;
    let g = grad(&loss, theta.clone())?;
    check(&g, 1e-6);
    Ok(())
}

#[test]
fn vmap_equals_a_loop() -> Result<()> {
    let d = Device::cpu();
    let (xs, w) = (tensor(&d, &[5, 3, 4], 1), tensor(&d, &[3, 4], 2));
    let f = |x: Tensor| -> Result<(Tensor, Tensor)> {
        let y = x.mul(&w)?.sum_keep(&[0])?.exp()?;
        let loss = y.sum(&[])?;
        Ok((grad(&loss, x.clone())?, y.pad(&[(0, 1), (2, 0)])?.flip(1)?))
    };
    let (g, y) = vmap(f, xs.clone())?;
    for i in 0..5 {
        let (gi, yi) = f(xs.narrow(0, i, 1)?.squeeze(0)?)?;
        assert_eq!(g.narrow(0, i, 1)?.to_vec::<f32>()?, gi.to_vec::<f32>()?);
        assert_eq!(y.narrow(0, i, 1)?.to_vec::<f32>()?, yi.to_vec::<f32>()?);
    }
    Ok(())
}

#[test]
fn the_second_step_is_free() -> Result<()> {
    let d = Device::cpu();
    let step = compile(|(w, m, x, rate): (Tensor, Tensor, Tensor, Tensor)| {
        let loss = x.mul(&w)?.tanh()?.square()?.sum(&[])?;
        let g = grad(&loss, w.clone())?;
        let m = m.mul_scalar(0.9)?.add(&g)?;
        Ok::<_, acclimate_tensor::Error>((w.sub(&m.mul(&rate)?)?, m, loss))
    });
    let (mut w, mut m) = (tensor(&d, &[1000], 1), Tensor::zeros(&d, &[1000])?);
    Tensor::realize(&[&m])?;
    let mut last = f32::INFINITY;
    let (mut after_two, mut first) = (None, None);
    for i in 0..200 {
        let x = tensor(&d, &[1000], 7);
        let rate = Tensor::from_slice(&d, &[0.01 / (1.0 + i as f32 * 0.01)], &[1])?;
        let (w2, m2, loss) = step.call((w, m, x, rate))?;
        (w, m) = (w2, m2);
        let loss = loss.item()?;
        last = last.min(loss);
        first.get_or_insert(loss);
        let s = d.stats();
        let now = (s.plans_built, s.buffers_allocated, s.bytes_live, s.refused_donations);
        if i == 1 {
            after_two = Some(now);
        }
        if i > 1 {
            assert_eq!(Some(now), after_two);
        }
    }
    assert!(first.is_some_and(|f| last < 0.5 * f), "{first:?} {last}");
    Ok(())
}

#[test]
fn a_plain_loop_stays_flat() -> Result<()> {
    let d = Device::cpu();
    let x = tensor(&d, &[1000], 7);
    let mut w = tensor(&d, &[1000], 1);
    let mut after = None;
    for i in 0..300 {
        let loss = x.mul(&w)?.tanh()?.square()?.sum(&[])?;
        let g = grad(&loss, w.clone())?;
        w = w.sub(&(&g * 0.01))?;
        loss.item()?;
        let s = d.stats();
        if i == 3 {
            after = Some((s.plans_built, s.bytes_live));
        }
        if i > 3 {
            assert_eq!(Some((s.plans_built, s.bytes_live)), after);
        }
    }
    Ok(())
}

#[test]
fn a_chain_of_a_million_nodes() -> Result<()> {
    let d = Device::cpu();
    let mut x = Tensor::from_slice(&d, &[0.0f32], &[1])?;
    for _ in 0..1_000_000 {
        x = &x + 1.0;
    }
    drop(x);
    let mut x = Tensor::from_slice(&d, &[0.0f32], &[1])?;
    for _ in 0..20_000 {
        x = &x + 1.0;
    }
    assert_eq!(x.item()?, 20_000.0);
    Ok(())
}

/// Two outputs of one op, the second of which is not the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Both;

impl acclimate_tensor::Kernel for Both {
    const NAME: &'static str = "both";
    fn shape(&self, inputs: &[acclimate_tensor::Spec]) -> Result<Vec<acclimate_tensor::Spec>> {
        Ok(vec![inputs[0].clone(), inputs[0].clone()])
    }
    fn reference<R: acclimate_tensor::Real>(&self, call: &mut acclimate_tensor::op::Call<'_, R>) {
        let x = call.real(0);
        let [a, b] = call.outs_real();
        for ((a, b), &x) in a.iter_mut().zip(b).zip(x) {
            (*a, *b) = (x + R::ONE, x - R::ONE);
        }
    }
    fn launch(
        &self,
        _: &[acclimate_tensor::Spec],
        _: &[acclimate_tensor::Spec],
        _: &acclimate_tensor::Caps,
    ) -> Result<acclimate_tensor::op::Launches> {
        Ok(acclimate_tensor::op::Launches::default())
    }
}

#[test]
fn each_output_of_a_computed_op_is_a_value() -> Result<()> {
    let d = Device::cpu();
    let both = acclimate_tensor::record(Both, &[&tensor(&d, &[5], 1)])?;
    Tensor::realize(&[&both[0]])?;
    let difference = both[0].sub(&both[1])?;
    assert_eq!(difference.to_vec::<f32>()?, [2.0; 5]);
    assert_eq!(both[1].mul_scalar(2.0)?.to_vec::<f32>()?.len(), 5);
    Ok(())
}

#[test]
fn a_piece_at_several_places_is_copied() -> Result<()> {
    let d = Device::cpu();
    let x = tensor(&d, &[64], 1).exp()?;
    let twice = Tensor::assemble(&[&x, &x, &x.neg()?], &[0, 64, 192], 256)?;
    check(&twice, 1e-6);
    check(&twice.mul(&twice)?.sum(&[])?, 1e-6);
    Ok(())
}

/// What the engine computes in one pass over a block gives the bits of its functions one by one.
#[test]
fn joint_functions_change_no_bit() -> Result<()> {
    let d = Device::cpu();
    let dims = [3, 7, 201];
    let (x, y) = (tensor(&d, &dims, 1), tensor(&d, &dims, 2));
    let [m, s, b] = [3, 4, 5].map(|seed| tensor(&d, &[7, 1], seed));
    type Step<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;
    let relu = |t: &Tensor| t.relu();
    let (sub, mul) = (|t: &Tensor| t.sub(&m), |t: &Tensor| s.mul(t));
    let (add, add_y) = (|t: &Tensor| b.add(t), |t: &Tensor| t.add(&y));
    let gt = |t: &Tensor| t.gt(&b);
    let choose = |t: &Tensor| t.select(&y, &m.add(&x.zeros_like()?)?);
    let chains: [&[Step<'_>]; 6] = [
        &[&sub, &mul],
        &[&mul, &add_y],
        &[&sub, &mul, &add],
        &[&sub, &mul, &add, &relu],
        &[&gt, &choose],
        &[&mul, &add],
    ];
    for (number, chain) in chains.iter().enumerate() {
        let at_once = chain.iter().try_fold(x.clone(), |t, f| f(&t))?.to_vec()?;
        let one_by_one = chain.iter().try_fold(x.clone(), |t, f| {
            let t = f(&t)?;
            Tensor::realize(&[&t])?;
            Ok(t)
        })?;
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(at_once), bits(one_by_one.to_vec()?), "chain {number}");
        // A value with another reader is still there.
        let first = chain[0](&x)?;
        let last = chain[1..].iter().try_fold(first.clone(), |t, f| f(&t))?;
        Tensor::realize(&[&first, &last])?;
        check(&last, 1e-6);
    }
    Ok(())
}

#[test]
fn a_profile_against_peaks_has_a_column_of_shares() -> Result<()> {
    let d = Device::cpu();
    let x = tensor(&d, &[1000], 1);
    let (_, profile) = d.profile(|| x.exp()?.sum(&[])?.item())?;
    let launch = &profile.launches()[0];
    assert!(launch.bytes >= 4000 && !profile.to_string().contains("peak"));
    // As fast as memory of which this launch takes half a second: its share is that of its time.
    let peaks = Peaks { bytes_per_s: 2.0 * launch.bytes as f64, flop_per_s: 1e30 };
    let share = profile.share_of_peak(peaks);
    let bytes: u64 = profile.launches().iter().map(|l| l.bytes).sum();
    let want = bytes as f64 / peaks.bytes_per_s / profile.time().as_secs_f64();
    assert!((share / want - 1.0).abs() < 1e-9, "{share} {want}");
    assert!(profile.against(peaks).to_string().lines().next().unwrap().contains(" peak  launch"));
    Ok(())
}
