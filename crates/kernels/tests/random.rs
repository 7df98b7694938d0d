//! Draws: repeated, apart, mapped, and of the distribution they are named after.
//!
//! Seeds are fixed, so nothing here fails by chance; the bounds are those that a right generator exceeds once in a
//! thousand seeds or less.

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use acclimate_kernels::random::{Key, bernoulli, bits, normal, permutation, poisson, uniform};
use acclimate_tensor::{DType, Device, EngineKind, Result, Tensor, compile, vmap};

const N: usize = 100_000;

/// Mean and variance within 4 standard errors; `fourth` is the fourth central moment.
fn moments(x: &[f32], mean: f64, variance: f64, fourth: f64) {
    let n = x.len() as f64;
    let got = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    assert!((got - mean).abs() < 4.0 * (variance / n).sqrt(), "mean {got} for {mean}");
    let spread = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let error = ((fourth - variance * variance) / n).sqrt();
    assert!((spread - variance).abs() < 4.0 * error, "variance {spread} for {variance}");
}

/// Kolmogorov's statistic against a distribution function, below the value that one in a thousand exceeds.
fn follows(x: &[f32], cdf: impl Fn(f64) -> f64) {
    let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    let distance = x.iter().zip(0u32..).fold(0.0f64, |d, (&x, i)| {
        let (low, f) = (f64::from(i) / n, cdf(x));
        d.max((f - low).abs()).max((f - low - 1.0 / n).abs())
    });
    assert!(distance < 1.95 / n.sqrt(), "distance {distance}");
}

/// Correlation of neighbors, which has standard error 1/√n.
fn neighbors_are_unrelated(x: &[f32], mean: f64, variance: f64) {
    let n = x.len() as f64;
    let lagged: f64 = x.windows(2).map(|w| (f64::from(w[0]) - mean) * (f64::from(w[1]) - mean)).sum();
    assert!((lagged / (n * variance)).abs() < 4.0 / n.sqrt());
}

fn normal_cdf(x: f64) -> f64 {
    // ½ erfc(−x/√2), by the series and continued fraction that the crate's own oracle is not made of: Simpson's rule.
    let steps = 400;
    let h = x / f64::from(steps);
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let inner: f64 = (1..steps).map(|i| density(h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    0.5 + h / 3.0 * (density(0.0) + inner + density(x))
}

fn distributions(d: &Device) -> Result<()> {
    let key = Key::new(d, 2024)?;
    let u = uniform(&key.fold_in(0)?, &[N])?.to_vec::<f32>()?;
    assert!(u.iter().all(|u| (0.0..1.0).contains(u)));
    moments(&u, 0.5, 1.0 / 12.0, 1.0 / 80.0);
    follows(&u, |x| x);
    neighbors_are_unrelated(&u, 0.5, 1.0 / 12.0);

    let z = normal(&key.fold_in(1)?, &[N])?.to_vec::<f32>()?;
    moments(&z, 0.0, 1.0, 3.0);
    follows(&z[..20_000], normal_cdf);
    neighbors_are_unrelated(&z, 0.0, 1.0);
    assert!(z.iter().any(|z| z.abs() > 3.5) && z.iter().all(|z| z.abs() < 5.8));

    for p in [0.0f32, 0.1, 0.5, 1.0] {
        let b = bernoulli(&key.fold_in(2)?, p, &[N])?.to_vec::<u32>()?;
        let share = f64::from(b.iter().sum::<u32>()) / N as f64;
        let p = f64::from(p);
        assert!((share - p).abs() <= 4.0 * (p * (1.0 - p) / N as f64).sqrt(), "{share} for {p}");
    }

    // Both ways of drawing, and the border between them.
    for (rate, i) in [(0.3f32, 0u32), (4.0, 1), (9.99, 2), (10.0, 3), (60.0, 4), (1000.0, 5)] {
        let rates = Tensor::full(d, &[N / 2], rate)?;
        let counts = poisson(&key.fold_in(100 + i)?, &rates)?.to_vec::<f32>()?;
        let rate = f64::from(rate);
        assert!(counts.iter().all(|k| *k >= 0.0 && k.fract() == 0.0));
        moments(&counts, rate, rate, rate + 3.0 * rate * rate);
        // Pearson's statistic over the counts that are expected at least 20 times.
        let (mut statistic, mut freedom, mut log_p) = (0.0f64, -1.0f64, -rate);
        let mut rest = (counts.len() as f64, counts.len() as f64);
        for k in 0..(4.0 * rate + 40.0) as u32 {
            if k > 0 {
                log_p += rate.ln() - f64::from(k).ln();
            }
            let expected = log_p.exp() * counts.len() as f64;
            if expected >= 20.0 {
                let seen = counts.iter().filter(|&&c| f64::from(c) == f64::from(k)).count() as f64;
                statistic += (seen - expected).powi(2) / expected;
                freedom += 1.0;
                rest = (rest.0 - seen, rest.1 - expected);
            }
        }
        if rest.1 > 5.0 {
            statistic += (rest.0 - rest.1).powi(2) / rest.1;
            freedom += 1.0;
        }
        // Wilson and Hilferty's approximation of the quantile at 0.999.
        let quantile = freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.09 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        assert!(statistic < quantile, "rate {rate}: {statistic} above {quantile}");
    }
    Ok(())
}

/// What the module's table of counters says, and the known answers of Philox behind it.
fn words_are_those_of_philox(d: &Device) -> Result<()> {
    use acclimate_tensor::expr::philox;
    let key = Key::new(d, 0x0123_4567_89ab_cdef)?;
    let k = key.tensor().to_vec::<u32>()?;
    assert_eq!(k, [0x89ab_cdef, 0x0123_4567]);
    let k = [k[0], k[1]];
    let want: Vec<u32> = (0..300).map(|i| philox(k, [i, 0, 0, 0])[0]).collect();
    assert_eq!(bits(&key, &[3, 100])?.to_vec::<u32>()?, want);
    let folded = |i: u32, c: u32| [philox(k, [i, c, 0, 0])[0], philox(k, [i, c + 1, 0, 0])[0]];
    assert_eq!(key.fold_in(7)?.tensor().to_vec::<u32>()?, folded(7, 0xF01D));
    let number = Tensor::from_slice(d, &[u32::MAX], &[1])?;
    assert_eq!(key.fold_in(&number)?.tensor().to_vec::<u32>()?, folded(u32::MAX, 0xF01D));
    assert_eq!(key.split(3)?[2].tensor().to_vec::<u32>()?, folded(2, 0x5B17));
    Ok(())
}

fn keys_repeat_and_part(d: &Device) -> Result<()> {
    let key = Key::new(d, 5)?;
    let draw = |key: &Key| -> Result<Vec<f32>> { normal(key, &[64])?.to_vec::<f32>() };
    assert_eq!(draw(&key)?, draw(&Key::new(d, 5)?)?);
    assert_ne!(draw(&key)?, draw(&Key::new(d, 6)?)?);
    // Numbers that differ in the highest bit alone are not the same key.
    assert_ne!(draw(&key.fold_in(1)?)?, draw(&key.fold_in(1 | 1 << 31)?)?);
    let mut seen = std::collections::HashSet::new();
    for i in 0..50 {
        assert!(seen.insert(key.fold_in(i)?.tensor().to_vec::<u32>()?));
    }
    for k in key.split(50)? {
        assert!(seen.insert(k.tensor().to_vec::<u32>()?));
    }
    Ok(())
}

/// A slot draws what it would draw alone, of every kind.
fn slots_draw_as_alone(d: &Device) -> Result<()> {
    let keys = Key::new(d, 9)?.split_stacked(3)?;
    let all = |key: &Key| -> Result<Vec<Tensor>> {
        let rates = uniform(&key.fold_in(3)?, &[20])?.mul_scalar(30.0)?;
        Ok(vec![
            normal(key, &[4, 5])?,
            bernoulli(&key.fold_in(1)?, 0.3, &[7])?.cast(DType::F32)?,
            poisson(&key.fold_in(2)?, &rates)?,
            permutation(&key.fold_in(4)?, 33)?.cast(DType::F32)?,
        ])
    };
    let mapped = vmap(|key: Tensor| all(&Key::from_tensor(key)?), keys.clone())?;
    for i in 0..3 {
        let key = Key::from_tensor(keys.narrow(0, i, 1)?.reshape(&[2])?)?;
        for (mapped, alone) in mapped.iter().zip(all(&key)?) {
            let row = mapped.narrow(0, i, 1)?.squeeze(0)?;
            assert_eq!(row.to_vec::<f32>()?, alone.to_vec::<f32>()?);
        }
    }
    Ok(())
}

/// Inside a compiled step a key that is an argument draws anew; the plan stays.
fn compiled_draws_follow_the_key(d: &Device) -> Result<()> {
    let step = compile(|key: Key| Ok::<_, acclimate_tensor::Error>((uniform(&key, &[16])?, key.fold_in(0u32)?)));
    let (first, key) = step.call(Key::new(d, 1)?)?;
    let (second, _) = step.call(key)?;
    assert_ne!(first.to_vec::<f32>()?, second.to_vec::<f32>()?);
    assert_eq!(first.to_vec::<f32>()?, uniform(&Key::new(d, 1)?, &[16])?.to_vec::<f32>()?);
    Ok(())
}

fn permutations_are_fair(d: &Device) -> Result<()> {
    let key = Key::new(d, 3)?;
    for n in [0, 1, 2, 1000] {
        let mut order = permutation(&key, n)?.to_vec::<u32>()?;
        order.sort_unstable();
        assert!(order.into_iter().eq(0..n as u32));
    }
    // Each of the 24 orders of 4 equally often.
    let n = 2400usize;
    let keys = key.split_stacked(n)?;
    let orders = vmap(|k: Tensor| permutation(&Key::from_tensor(k)?, 4), keys)?.to_vec::<u32>()?;
    let mut seen = std::collections::HashMap::new();
    orders.chunks_exact(4).for_each(|o| *seen.entry(o.to_vec()).or_insert(0.0) += 1.0);
    let statistic: f64 = seen.values().map(|&k: &f64| (k - 100.0).powi(2) / 100.0).sum();
    // 23 degrees of freedom: 49.7 is exceeded once in a thousand.
    assert!(seen.len() == 24 && statistic < 49.7, "{} {statistic}", seen.len());
    Ok(())
}

fn all(d: &Device) -> Result<()> {
    words_are_those_of_philox(d)?;
    keys_repeat_and_part(d)?;
    slots_draw_as_alone(d)?;
    compiled_draws_follow_the_key(d)?;
    permutations_are_fair(d)?;
    distributions(d)
}

#[test]
fn cpu_draws() -> Result<()> {
    all(&Device::cpu())
}

#[test]
fn software_draws() -> Result<()> {
    let Some(d) = adapter::open(Device::named) else { return Ok(()) };
    assert_eq!(d.kind(), EngineKind::Gpu);
    all(&d)?;
    // Words are the same on every device, and what is made of them in f32 alone.
    let (here, there) = (Key::new(&Device::cpu(), 1)?, Key::new(&d, 1)?);
    assert_eq!(bits(&here, &[1000])?.to_vec::<u32>()?, bits(&there, &[1000])?.to_vec::<u32>()?);
    assert_eq!(uniform(&here, &[1000])?.to_vec::<f32>()?, uniform(&there, &[1000])?.to_vec::<f32>()?);
    assert_eq!(permutation(&here, 300)?.to_vec::<u32>()?, permutation(&there, 300)?.to_vec::<u32>()?);
    Ok(())
}

#[test]
fn null_rejects() -> Result<()> {
    let d = Device::null();
    let key = Key::new(&d, 1)?;
    assert!(Key::from_tensor(Tensor::zeros(&d, &[2])?).is_err());
    assert!(Key::from_tensor(Tensor::full_u32(&d, &[3], 0)?).is_err());
    assert!(key.fold_in(&Tensor::full_u32(&d, &[2], 0)?).is_err());
    assert!(bernoulli(&key, f32::NAN, &[2]).is_err() && bernoulli(&key, -0.1, &[2]).is_err());
    assert!(uniform(&key, &[1 << 40, 1 << 40]).is_err() && uniform(&key, &[1 << 33]).is_err());
    Ok(())
}
