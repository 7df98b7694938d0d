//! The GPU engine on a software adapter (or the one that `ACCLIMATE_DEVICE` names) against the f64 oracle, and what
//! happens when memory or the device is gone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod adapter;

use acclimate_shaders::shaders;
use acclimate_tensor::expr::Func;
use acclimate_tensor::op::{Bind, Call, Launch, Launches, arity};
use acclimate_tensor::oracle::{self, Data};
use acclimate_tensor::{
    Caps, DType, Device, Error, Kernel, Real, Result, Spec, Tensor, compile, f16, grad, record, record_one,
};

/// Roundings of f32.
const EPS: f64 = f32::EPSILON as f64;

macro_rules! device {
    () => {
        match adapter::open(Device::named) {
            Some(device) => device,
            None => return Ok(()),
        }
    };
}

/// Reproducible numbers in [−1, 1).
fn values(n: usize, seed: u32) -> Vec<f32> {
    let word = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(97));
    (0..n).map(|i| (word(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn tensor(d: &Device, dims: &[usize], seed: u32) -> Tensor {
    Tensor::from_slice(d, &values(dims.iter().product(), seed), dims).unwrap()
}

/// The engine's answer equals the oracle's: words exactly, real numbers within `roundings` of the largest magnitude.
fn check(t: &Tensor, roundings: f64) {
    let want = oracle::evaluate(t, &[]).unwrap();
    match want {
        Data::Real(want) => {
            let got: Vec<f32> = t.to_vec().unwrap();
            assert_eq!(got.len(), want.len());
            let scale = want.iter().filter(|x| x.is_finite()).fold(f64::from(f32::MIN_POSITIVE), |m, x| m.max(x.abs()));
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                let g = f64::from(*g);
                let same = g == *w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= roundings * EPS * scale;
                assert!(same, "element {i} of {t:?}: got {g}, oracle {w}, scale {scale}");
            }
        }
        Data::Word(want) if t.dtype() == DType::I32 => {
            let got: Vec<u32> = t.to_vec::<i32>().unwrap().iter().map(|&x| x as u32).collect();
            assert_eq!(got, want, "{t:?}");
        }
        Data::Word(want) => assert_eq!(t.to_vec::<u32>().unwrap(), want, "{t:?}"),
        Data::Half(want) => assert_eq!(t.to_vec::<f16>().unwrap(), want, "{t:?}"),
    }
}

#[test]
fn every_function_of_every_dtype() -> Result<()> {
    let d = device!();
    let n = 600;
    let input = |dtype: DType, seed: u32| -> Result<Tensor> {
        let x = values(n, seed);
        let word = |x: f32| ((x * 20.0) as i32).cast_unsigned();
        Ok(match dtype {
            DType::F32 => Tensor::from_slice(&d, &x.iter().map(|x| 4.0 * x).collect::<Vec<_>>(), &[n])?,
            DType::I32 => Tensor::from_slice(&d, &x.iter().map(|x| (x * 20.0) as i32).collect::<Vec<_>>(), &[n])?,
            DType::Bool => Tensor::from_bools(&d, &x.iter().map(|&x| x > 0.0).collect::<Vec<_>>(), &[n])?,
            _ => Tensor::from_slice(&d, &x.iter().map(|&x| word(x)).collect::<Vec<_>>(), &[n])?,
        })
    };
    let mut met = 0;
    for &f in Func::ALL {
        for first in [DType::F32, DType::I32, DType::U32, DType::Bool] {
            for other in [DType::F32, DType::I32, DType::U32, DType::Bool] {
                let dtypes: Vec<DType> = (0..f.arity()).map(|i| if i == 0 { first } else { other }).collect();
                // A negative number has no u32, and what the cast gives then is up to the device.
                let outside = f == Func::ToU32 && first == DType::F32;
                if f.dtype(&dtypes).is_err() || (f.arity() == 1 && other != first) || outside {
                    continue;
                }
                let inputs =
                    dtypes.iter().enumerate().map(|(i, &t)| input(t, i as u32 + 1)).collect::<Result<Vec<_>>>()?;
                let y = Tensor::map(f, &inputs.iter().collect::<Vec<_>>())?;
                // WGSL grants pow what exp2(b·log2(a)) has: |b·log2 a| ≤ 8 here, each with a few roundings. Sine and
                // cosine are granted 2⁻¹¹ absolutely within ±π, and nothing beyond.
                let roundings = match f {
                    Func::Sin | Func::Cos => 4096.0,
                    Func::Pow => 64.0,
                    _ => 16.0,
                };
                check(&y, roundings);
                met += 1;
            }
        }
    }
    assert!(met >= Func::ALL.len(), "{met}");
    let positive = input(DType::F32, 3)?.abs()?;
    assert_eq!(
        positive.cast(DType::U32)?.to_vec::<u32>()?,
        positive.to_vec::<f32>()?.iter().map(|&x| x as u32).collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn groups_and_views() -> Result<()> {
    let d = device!();
    // A product, a sum and a tanh (2 roundings each, tanh with 8).
    for n in [1, 2, 7, 33, 255, 256, 257, 1025, 40_000] {
        let (a, b) = (tensor(&d, &[n], 1), tensor(&d, &[n], 2));
        check(&a.mul(&b)?.add(&a)?.tanh()?, 12.0);
        check(&a.flip(0)?.sub(&b)?, 1.0);
        check(&a.gt(&b)?.select(&a, &b)?, 0.0);
    }
    let x = tensor(&d, &[3, 5, 7], 3);
    check(&x.permute(&[2, 0, 1])?.exp()?, 8.0);
    check(&x.permute(&[2, 0, 1])?.reshape(&[7, 15])?.add(&x.reshape(&[7, 15])?)?, 1.0);
    check(&x.strided_slice(&[2, 0, 6], &[-1, 2, -3], &[3, 3, 3])?.mul_scalar(2.0)?, 1.0);
    check(&x.pad(&[(1, 0), (0, 2), (3, 1)])?.add_scalar(1.0)?, 1.0);
    check(&x.pad_strided(&[2, 1, 5], &[4, 1, 3], &[13, 7, 30])?, 0.0);
    check(&x.sum(&[1])?.pad_strided(&[1, 0], &[2, 3], &[6, 20])?, 4.0);
    check(&x.pad(&[(0, 1), (2, 0), (0, 3)])?.square()?.sum(&[0, 2])?, 16.0);
    check(&x.add(&tensor(&d, &[5, 1], 4))?.mul(&tensor(&d, &[3, 1, 1], 5))?, 2.0);
    check(&Tensor::iota(&d, &[4, 6], 0)?.cast(DType::F32)?.mul(&Tensor::iota(&d, &[4, 6], 1)?.cast(DType::F32)?)?, 0.0);
    // A group whose results take over the memory of what it reads, as another dtype.
    let y = x.mul_scalar(3.0)?;
    let z = y.exp()?.sum(&[0])?;
    check(&z.gt(&z.mean_like()?)?, 0.0);
    let none = Tensor::from_slice::<f32>(&d, &[], &[0, 3])?;
    assert_eq!(none.add_scalar(1.0)?.to_vec::<f32>()?, []);
    assert_eq!(none.pad(&[(1, 0), (0, 0)])?.add_scalar(2.0)?.to_vec::<f32>()?, [2.0; 3]);
    Ok(())
}

trait MeanLike {
    fn mean_like(&self) -> Result<Tensor>;
}
impl MeanLike for Tensor {
    fn mean_like(&self) -> Result<Tensor> {
        let axes: Vec<isize> = (0..self.rank() as isize).collect();
        self.sum_keep(&axes)?.mul_scalar(1.0 / self.numel() as f32)?.broadcast_to(self.shape())
    }
}

#[test]
fn reductions_over_all_patterns() -> Result<()> {
    let d = device!();
    for dims in [&[4, 5, 6][..], &[1, 33, 1], &[2, 600, 3], &[3, 2, 700], &[100_000], &[40, 9, 200], &[9, 200, 40]] {
        let x = tensor(&d, dims, 1);
        for mask in 1..1u32 << dims.len() {
            let axes: Vec<isize> = (0..dims.len() as isize).filter(|d| mask >> d & 1 == 1).collect();
            let n: usize = axes.iter().map(|&d| dims[d as usize]).product();
            // All terms are positive, so the scale is the sum: a tree of blocks of 16 has about 40 roundings in a row.
            check(&x.mul(&x)?.sum(&axes)?, 40.0);
            check(&x.max(&axes)?, 0.0);
            check(&x.neg()?.min(&axes)?, 0.0);
            // A product carries one rounding of each factor and of each step; they are all near 1.
            check(&x.mul_scalar(0.01)?.add_scalar(1.0)?.prod(&axes)?, 2.0 + 2.0 * n as f64);
            // By a power of two: exact, so the cast cuts where the oracle does.
            let words = x.mul_scalar(128.0)?.cast(DType::I32)?;
            check(&words.sum(&axes)?, 0.0);
            check(&words.min(&axes)?, 0.0);
            check(&words.mul(&words)?.cast(DType::U32)?.max(&axes)?, 0.0);
        }
    }
    let none = Tensor::from_slice::<f32>(&d, &[], &[0, 3])?;
    assert_eq!(none.sum(&[0])?.to_vec::<f32>()?, [0.0; 3]);
    assert_eq!(none.prod(&[0])?.to_vec::<f32>()?, [1.0; 3]);
    assert_eq!(none.max(&[0])?.to_vec::<f32>()?, [f32::NEG_INFINITY; 3]);
    assert_eq!(none.min(&[0])?.to_vec::<f32>()?, [f32::INFINITY; 3]);
    Ok(())
}

#[test]
fn extrema_of_nan_are_nan() -> Result<()> {
    let d = device!();
    let mut x = values(700, 1);
    x[433] = f32::NAN;
    x[600] = f32::NEG_INFINITY;
    let x = Tensor::from_slice(&d, &x, &[7, 100])?;
    for y in [x.max(&[1])?, x.min(&[1])?] {
        let y: Vec<f32> = y.to_vec()?;
        assert!(y[4].is_nan() && y.iter().filter(|y| y.is_nan()).count() == 1, "{y:?}");
    }
    assert_eq!(x.min(&[1])?.to_vec::<f32>()?[6], f32::NEG_INFINITY);
    Ok(())
}

#[test]
fn long_sums_lose_few_digits() -> Result<()> {
    let d = device!();
    let n = 1 << 20;
    // Partial sums are no round numbers: a serial sum in f32 is off by about 1e-4 here.
    let x = Tensor::full(&d, &[n], 0.1)?.add(&tensor(&d, &[n], 9).mul_scalar(0.001)?)?;
    Tensor::realize(&[&x])?;
    let want: f64 = x.to_vec::<f32>()?.iter().map(|&x| f64::from(x)).sum();
    let got = f64::from(x.sum(&[])?.item()?);
    // Blocks of 16, 64 terms a lane, 8 levels of a tree, then 64 chunks by 16 lanes: 16 + 4 + 8 + 4 + 4.
    assert!((got - want).abs() <= 36.0 * EPS * want, "{got} {want}");
    let first = x.sum(&[])?.item()?;
    for _ in 0..20 {
        assert_eq!(x.sum(&[])?.item()?.to_bits(), first.to_bits());
    }
    Ok(())
}

#[test]
fn more_than_65535_workgroups() -> Result<()> {
    let d = device!();
    let n = 256 * 65_536 + 77;
    let i = Tensor::iota(&d, &[n], 0)?;
    let y = i.mul(&Tensor::full_u32(&d, &[n], 3)?)?;
    Tensor::realize(&[&y])?;
    let last = y.narrow(0, n as isize as usize - 2, 2)?.to_vec::<u32>()?;
    assert_eq!(last, [3 * (n as u32 - 2), 3 * (n as u32 - 1)]);
    assert!(y.to_vec::<u32>()?.iter().enumerate().all(|(i, &y)| y == 3 * i as u32));
    // A reduction with a workgroup for each of 70 000 outputs.
    let (rows, columns) = (70_000, 300);
    let x = Tensor::iota(&d, &[rows, 1], 0)?.broadcast_to(&acclimate_tensor::Shape::new(&[rows, columns])?)?;
    let sums = x.add(&Tensor::iota(&d, &[rows, columns], 1)?)?.sum(&[1])?.to_vec::<u32>()?;
    assert!(sums.iter().enumerate().all(|(i, &s)| s == (300 * i + 300 * 299 / 2) as u32));
    Ok(())
}

/// A product by the shader `matmul`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Product;

impl Kernel for Product {
    const NAME: &'static str = "test_product";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [a, b] = arity::<2>(Self::NAME, inputs)?;
        Ok(vec![Spec::f32(&[a.shape[0], b.shape[1]])?])
    }
    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (a, b) = (call.real(0), call.real(1));
        let (k, n) = (call.dims(0)[1], call.dims(1)[1]);
        for (i, y) in call.out_real(0).iter_mut().enumerate() {
            *y = (0..k).fold(R::ZERO, |s, q| s + a[i / n * k + q] * b[q * n + i % n]);
        }
    }
    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let (k, m, n) = (inputs[0].shape[1], outputs[0].shape[0], outputs[0].shape[1]);
        let launch = Launch::new(&shaders::MATMUL_SMALL, n.div_ceil(64)).u32s(&[m, n, k, 1, 0, 0, 0, 0]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)]).into())
    }
}

/// A step of gradient descent with momentum by the shader `sgd`, in place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Descend;

impl Kernel for Descend {
    const NAME: &'static str = "test_descend";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [_, _, _, theta, momentum] = arity::<5>(Self::NAME, inputs)?;
        Ok(vec![theta.clone(), momentum.clone()])
    }
    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (g, rate) = (call.real(0), call.real(1)[0]);
        let [theta, momentum] = call.outs_real::<2>();
        for i in 0..g.len() {
            momentum[i] = R::of(0.5) * momentum[i] + g[i];
            theta[i] -= rate * momentum[i];
        }
    }
    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].numel();
        let launch = Launch::threads(&shaders::SGD, n).u32s(&[n, n]).f32(0.5).f32(0.0).f32(0.0).u32(0);
        Ok(launch.bind(&[Bind::In(0), Bind::In(1), Bind::In(2), Bind::Out(0), Bind::Out(1)]).into())
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(3, 0), (4, 1)]
    }
}

#[test]
fn ops_with_shaders() -> Result<()> {
    let d = device!();
    let (a, b) = (tensor(&d, &[5, 37], 1), tensor(&d, &[37, 130], 2));
    let y = record_one(Product, &[&a.exp()?, &b.tanh()?])?.add_scalar(1.0)?;
    // 37 products and sums of terms that may cancel: within a serial sum of the magnitudes.
    check(&y, 80.0);
    let (rate, step) = (Tensor::full(&d, &[1], 0.1)?, Tensor::full(&d, &[1], 2.0)?);
    let (theta, momentum) = (tensor(&d, &[1000], 3), tensor(&d, &[1000], 4));
    let g = theta.square()?;
    let before = theta.to_vec::<f32>()?;
    let new = record(Descend, &[&g, &rate, &step, &theta, &momentum])?;
    check(&new[0], 4.0);
    check(&new[1], 4.0);
    // The old values are still held: they were copied, not overwritten.
    assert_eq!(theta.to_vec::<f32>()?, before);
    Ok(())
}

type State = (Tensor, Tensor, Tensor, Tensor);

fn step((w, m, x, rate): State) -> Result<(Tensor, Tensor, Tensor)> {
    let loss = x.mul(&w)?.tanh()?.square()?.sum(&[])?;
    let g = grad(&loss, w.clone())?;
    let one = Tensor::full(w.device(), &[1], 2.0)?;
    let new = record(Descend, &[&g, &rate, &one, &w, &m])?;
    Ok((new[0].clone(), new[1].clone(), loss))
}

#[test]
fn the_second_step_is_free() -> Result<()> {
    let d = device!();
    let compiled = compile(step);
    let (mut w, mut m) = (tensor(&d, &[1000], 1), Tensor::zeros(&d, &[1000])?);
    Tensor::realize(&[&m])?;
    let mut losses = Vec::new();
    let mut after_two = None;
    for i in 0..60 {
        let x = tensor(&d, &[1000], 7);
        let rate = Tensor::from_slice(&d, &[0.05 / (1.0 + i as f32 * 0.01)], &[1])?;
        let before = d.stats();
        let (w2, m2, loss) = compiled.call((w, m, x, rate))?;
        let after = d.stats();
        assert_eq!(after.submissions, before.submissions + 1, "one submission a step");
        (w, m) = (w2, m2);
        losses.push(loss.item()?);
        let s = d.stats();
        let now = (s.plans_built, s.pipelines_compiled, s.buffers_allocated, s.bytes_live, s.refused_donations);
        if i == 1 {
            after_two = Some(now);
        }
        if i > 1 {
            assert_eq!(Some(now), after_two, "step {i}");
        }
    }
    assert!(losses[59] < 0.5 * losses[0], "{losses:?}");
    Ok(())
}

#[test]
fn runs_of_one_plan_at_the_same_time() -> Result<()> {
    let d = device!();
    let compiled = compile(|(x, c): (Tensor, Tensor)| x.mul(&c)?.exp()?.sum(&[]));
    let run = |k: u32| -> Result<f32> {
        let x = tensor(&d, &[3000], k);
        compiled.call((x, Tensor::from_slice(&d, &[k as f32 * 0.1], &[1])?))?.item()
    };
    let alone = (0..8).map(run).collect::<Result<Vec<f32>>>()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|k| scope.spawn(move || (0..10).map(|_| run(k)).collect::<Result<Vec<f32>>>())).collect();
        for (thread, want) in threads.into_iter().zip(&alone) {
            let got = thread.join().unwrap().unwrap();
            assert!(got.iter().all(|g| g.to_bits() == want.to_bits()), "{got:?} {want}");
        }
    });
    Ok(())
}

#[test]
fn scalars_do_not_make_plans() -> Result<()> {
    let d = device!();
    let x = tensor(&d, &[100], 1);
    let mut after = None;
    for k in 0..10 {
        check(&x.add_scalar(k as f32)?.mul_scalar(0.5)?, 2.0);
        let s = d.stats();
        let now = (s.plans_built, s.pipelines_compiled, s.buffers_allocated);
        assert_eq!(*after.get_or_insert(now), now);
    }
    Ok(())
}

#[test]
fn shapes_share_pipelines() -> Result<()> {
    let d = device!();
    let f = |rows: usize, columns: usize| -> Result<()> {
        let (x, b) = (tensor(&d, &[rows, columns], 1), tensor(&d, &[columns], 2));
        check(&x.add(&b)?.relu()?, 1.0);
        check(&x.mul(&x)?.sum(&[1])?, 40.0);
        Ok(())
    };
    // Rows of whole fours are read four words at a time, others word by word; in whole sixteens lie runs of fours.
    let families = [[(3, 100), (7, 116), (41, 92)], [(3, 96), (7, 112), (41, 64)], [(3, 101), (7, 131), (41, 99)]];
    for [first, second, third] in families {
        f(first.0, first.1)?;
        let pipelines = d.stats().pipelines_compiled;
        f(second.0, second.1)?;
        f(third.0, third.1)?;
        assert_eq!(d.stats().pipelines_compiled, pipelines);
    }
    let pipelines = d.stats().pipelines_compiled;
    // And so do groups of one plan that differ only in their scalars.
    let mut y = tensor(&d, &[40, 99], 3);
    for k in 0..10 {
        y = y.sub(&y.sum_keep(&[1])?.mul_scalar(1e-4 + 1e-4 * k as f32)?)?.tanh()?;
    }
    // Ten steps, none of which enlarges an error: sums of at most 40 roundings, a tanh of 8.
    check(&y, 480.0);
    assert!(d.stats().pipelines_compiled <= pipelines + 3, "{:?}", d.stats());
    Ok(())
}

#[test]
fn reading_without_blocking() -> Result<()> {
    let d = device!();
    let x = tensor(&d, &[500], 1);
    let mut future = std::pin::pin!(x.mul_scalar(2.0)?.to_vec_async::<f32>()?);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let got = loop {
        if let std::task::Poll::Ready(got) = future.as_mut().poll(&mut cx) {
            break got?;
        }
    };
    assert_eq!(got, values(500, 1).iter().map(|x| x * 2.0).collect::<Vec<_>>());
    // A result that nobody waits for is dropped without harm.
    drop(x.mul_scalar(3.0)?.to_vec_async::<f32>()?);
    assert_eq!(x.mul_scalar(4.0)?.to_vec::<f32>()?[7], 4.0 * values(500, 1)[7]);
    Ok(())
}

/// The adapter's own timestamps, launch by launch; nothing of it is left when nobody looks.
#[test]
fn a_profile_tells_where_time_goes() -> Result<()> {
    let d = device!();
    let x = tensor(&d, &[5, 3], 1);
    // More launches than one set of timestamps holds.
    let center = |x: Tensor| x.sub(&x.sum(&[1])?.mul_scalar(1.0 / 3.0)?.unsqueeze(1)?);
    let chain = || (0..3000).try_fold(x.clone(), |x, _| center(x));
    let want = chain()?.to_vec::<f32>()?;
    let before = d.stats();
    let (got, profile) = d.profile(|| chain()?.to_vec::<f32>())?;
    assert_eq!(got, want);
    let dispatches = d.stats().dispatches - before.dispatches;
    assert!(dispatches > 2048 && profile.launches().len() as u64 == dispatches, "{dispatches} dispatches");
    assert!(profile.launches().windows(2).all(|two| two[0].start <= two[1].start), "in the order of the clock");
    assert!(profile.time() > std::time::Duration::ZERO && profile.time() <= profile.wall(), "{profile}");
    assert!(profile.launches().iter().all(|l| l.bytes > 0 && !l.label.is_empty()), "{profile}");
    assert_eq!(d.stats().plans_built, before.plans_built);
    let (_, nothing) = d.profile(|| Ok(()))?;
    assert!(nothing.launches().is_empty());
    Ok(())
}

#[test]
fn with_the_limits_of_webgpu() -> Result<()> {
    let Some(d) = adapter::open(Device::gpu_restricted) else { return Ok(()) };
    assert_eq!(d.caps().max_storage_buffers, 8);
    assert!(!d.caps().subgroups && !d.caps().f16);
    // More operands than a dispatch may bind: the group is cut.
    let xs: Vec<Tensor> = (0..20).map(|k| tensor(&d, &[300], k)).collect();
    let total = xs[1..].iter().try_fold(xs[0].clone(), |s, x| s.add(x))?;
    check(&total, 20.0);
    check(&total.square()?.sum(&[])?, 40.0);
    Ok(())
}

#[test]
fn a_destroyed_device_is_an_error() -> Result<()> {
    let d = device!();
    let x = tensor(&d, &[100], 1);
    let y = x.exp()?;
    let pending = x.mul_scalar(2.0)?.to_vec_async::<f32>()?;
    d.destroy();
    assert!(y.to_vec::<f32>().is_err_and(|e| e.is_device_lost()));
    assert!(x.to_vec::<f32>().is_err_and(|e| e.is_device_lost()));
    assert!(Tensor::from_slice(&d, &[1.0f32], &[1]).is_err_and(|e| e.is_device_lost()));
    drop(pending);
    // Another device is not concerned.
    let other = device!();
    check(&tensor(&other, &[10], 1).exp()?, 8.0);
    Ok(())
}

#[test]
fn memory_that_runs_out_is_an_error() -> Result<()> {
    let Some(d) = adapter::open(|name| Device::gpu_with_memory_limit(name, 1 << 20)) else { return Ok(()) };
    let x = tensor(&d, &[100_000], 1);
    let error = Tensor::from_slice(&d, &vec![0f32; 200_000], &[200_000]).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    let y = x.pad(&[(0, 200_000)])?;
    let error = y.to_vec::<f32>().unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    // What was there is still there, and smaller work goes on.
    check(&x.square()?.sum(&[])?, 40.0);
    drop((x, y));
    assert_eq!(d.stats().bytes_live, 0);
    Ok(())
}

#[test]
fn values_above_the_limit_are_refused() -> Result<()> {
    let d = device!();
    let n = d.caps().max_binding / 4 + 1;
    let x = Tensor::iota(&d, &[n], 0)?;
    let error = Tensor::realize(&[&x]).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    // Fused into a reduction it needs no memory.
    assert_eq!(x.max(&[0])?.to_vec::<u32>()?, [n as u32 - 1]);
    Ok(())
}

#[test]
fn devices_say_who_they_are() -> Result<()> {
    let d = device!();
    assert!(Device::present().iter().any(|name| name.contains(&d.info().name)));
    let part = d.info().name[..4].to_uppercase();
    assert_eq!(Device::named(&part)?.info().name, d.info().name);
    let error = Device::named("no such adapter").unwrap_err();
    assert!(error.to_string().contains(&d.info().name) && error.to_string().contains("cpu"), "{error}");
    assert!(d.to_string().contains(&d.info().driver));
    Ok(())
}

/// Without a Vulkan driver there is no adapter, and nothing else happens.
#[test]
fn without_a_driver_there_is_no_adapter() {
    const MARK: &str = "ACCLIMATE_TEST_WITHOUT_DRIVER";
    if std::env::var_os(MARK).is_some() {
        assert!(matches!(Device::named("software"), Err(Error::NoDevice { .. })));
        assert!(Device::auto().is_ok_and(|d| d.kind() == acclimate_tensor::EngineKind::Cpu));
        return;
    }
    let me = std::env::current_exe().unwrap();
    let status = std::process::Command::new(me)
        .args(["--exact", "without_a_driver_there_is_no_adapter"])
        .env(MARK, "1")
        .env_remove("ACCLIMATE_DEVICE")
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent")
        .status()
        .unwrap();
    assert!(status.success() || cfg!(not(target_os = "linux")));
}

/// One more tensor by a random op on random members of `pool`; all stay within [−1, 1].
fn grow(pool: &[Tensor], choose: &mut impl FnMut(usize) -> usize) -> Result<Tensor> {
    let x = &pool[choose(pool.len())];
    let axis = choose(x.rank());
    let along = axis as isize;
    let ones = vec![1; x.rank()];
    match choose(12) {
        0 => x.tanh(),
        1 => x.mul_scalar(0.7),
        2 => x.mul(&x.sum_keep(&[along])?.mul_scalar(1.0 / x.dims()[axis] as f32)?),
        3 => x.transpose(0, -1),
        4 => x.reshape(&[x.numel(), 1]),
        5 => x.flip(along),
        6 => x.pad(&vec![(1, 2); x.rank()]),
        7 => x.sub(&x.max_keep(&[along])?)?.mul_scalar(0.5),
        8 => x.sigmoid()?.mul(&x.min_keep(&[0])?),
        9 => x.pad_strided(&ones, &vec![2; x.rank()], &x.dims().iter().map(|n| 2 * n + 3).collect::<Vec<_>>()),
        10 => {
            let steps: Vec<isize> = x.dims().iter().map(|_| 2).collect();
            x.strided_slice(&vec![0; x.rank()], &steps, &x.dims().iter().map(|n| n.div_ceil(2)).collect::<Vec<_>>())
        }
        _ => {
            let same: Vec<&Tensor> = pool.iter().filter(|y| y.shape() == x.shape()).collect();
            x.mul(same[choose(same.len())])?.add(x)?.mul_scalar(0.5)
        }
    }
}

#[test]
fn random_graphs() -> Result<()> {
    let d = device!();
    for seed in 0..40u64 {
        let mut state = seed;
        let mut choose = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let mut pool = vec![tensor(&d, &[3, 5, 4], 1), tensor(&d, &[6, 11], 2), tensor(&d, &[3, 5, 4], 3)];
        for _ in 0..12 {
            let next = grow(&pool, &mut choose)?;
            if next.numel() < 20_000 {
                pool.push(next);
            }
        }
        // The oracle first: it walks the graph, which is forgotten when the values are there.
        let wanted = &pool[pool.len() - 4..];
        let oracle = wanted.iter().map(|t| oracle::evaluate(t, &[])).collect::<Result<Vec<_>>>()?;
        Tensor::realize(&wanted.iter().collect::<Vec<_>>())?;
        for (t, want) in wanted.iter().zip(oracle) {
            for (i, (got, want)) in t.to_vec::<f32>()?.iter().zip(want.real()).enumerate() {
                // Each of twelve ops adds at most 16 roundings and at most doubles what came before; numbers are
                // below 1. A wrong index is off by much more.
                let error = (f64::from(*got) - want).abs();
                assert!(error <= 16.0 * 4096.0 * EPS, "seed {seed}, element {i} of {t:?}: {got}, oracle {want}");
            }
        }
    }
    Ok(())
}
