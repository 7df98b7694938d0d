//! Plans of many graphs on the null engine: every value is read as it was written, inside its memory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use acclimate_shaders::shaders;
use acclimate_tensor::op::{Bind, Call, Launch, Launches};
use acclimate_tensor::{Caps, Device, Kernel, Passes, Real, Result, Shape, Spec, Tensor, compile, grad, record, vmap};

/// Reproducible choices.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// One more tensor of the pool, by a random op of random tensors in it.
fn grow(pool: &[Tensor], choices: &mut Choices) -> Result<Tensor> {
    let x = &pool[choices.below(pool.len())];
    let axis = choices.below(x.rank().max(1)) as isize;
    if x.rank() == 0 {
        return x.broadcast_to(&Shape::new(&[3, 4])?);
    }
    match choices.below(10) {
        0 => x.exp(),
        1 => x.add_scalar(1.5),
        2 => x.mul(&x.sum_keep(&[axis])?),
        3 => x.transpose(0, -1),
        4 => x.reshape(&[x.numel()]),
        5 => x.flip(axis),
        6 => x.pad(&vec![(1, 2); x.rank()]),
        7 => x.max_keep(&[axis]),
        8 => x.tanh()?.sub(&x.sigmoid()?),
        _ => {
            let y = &pool[choices.below(pool.len())];
            if y.shape() == x.shape() { x.add(y) } else { x.square() }
        }
    }
}

#[test]
fn null_random_graphs_have_sound_plans() -> Result<()> {
    for seed in 0..150 {
        let d = Device::null();
        let mut choices = Choices(seed);
        let mut pool = vec![Tensor::zeros(&d, &[3, 4])?, Tensor::from_slice(&d, &[1.0f32; 12], &[3, 4])?];
        for _ in 0..25 {
            let next = grow(&pool, &mut choices)?;
            if next.numel() < 100_000 && next.rank() < 5 {
                pool.push(next);
            }
            if choices.below(8) == 0 {
                pool.remove(0);
            }
        }
        let wanted: Vec<&Tensor> = pool.iter().skip(pool.len() / 2).collect();
        Tensor::realize(&wanted).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let leaf = Tensor::from_slice(&d, &[1.0f32; 12], &[3, 4])?;
        let y = grow(std::slice::from_ref(&leaf), &mut choices)?;
        let loss = y.mul(&y.add_scalar(1.0)?)?.sum(&[])?;
        let g = grad(&loss, leaf)?;
        Tensor::realize(&[&g, &loss]).unwrap_or_else(|error| panic!("gradient of seed {seed}: {error}"));
    }
    Ok(())
}

/// A step of gradient descent with momentum by the shader `sgd`, in place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Descend {
    /// Number of parameters given to the shader.
    n_params: usize,
}

impl Kernel for Descend {
    const NAME: &'static str = "test_descend";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(vec![inputs[3].clone(), inputs[4].clone()])
    }
    fn reference<R: Real>(&self, _: &mut Call<'_, R>) {}
    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let launch = Launch::threads(&shaders::SGD, inputs[0].numel()).u32s(&vec![0; self.n_params]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(1), Bind::In(2), Bind::Out(0), Bind::Out(1)]).into())
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(3, 0), (4, 1)]
    }
}

#[test]
fn null_updates_in_place_have_sound_plans() -> Result<()> {
    let d = Device::null();
    let zeros = |n: usize| Tensor::from_slice(&d, &vec![0f32; n], &[n]);
    let op = Descend { n_params: shaders::SGD.n_params as usize };
    let kernel = op.clone();
    let step = compile(move |(w, m, x): (Tensor, Tensor, Tensor)| {
        let (a, b) = (w.narrow(0, 0, 128)?, w.narrow(0, 128, 72)?);
        let loss = a.mul(&x)?.tanh()?.square()?.sum(&[])?.add(&b.square()?.sum(&[])?)?;
        let g = grad(&loss, w.clone())?;
        let rate = Tensor::full(w.device(), &[1], 0.1)?;
        let new = record(kernel.clone(), &[&g, &rate, &rate, &w, &m])?;
        // The old weights are read again after the step.
        Ok::<_, acclimate_tensor::Error>((new[0].clone(), new[1].clone(), loss, w.sub(&new[0])?))
    });
    let (mut w, mut m) = (zeros(200)?, zeros(200)?);
    for _ in 0..4 {
        let out = step.call((w, m, zeros(128)?))?;
        (w, m) = (out.0, out.1);
    }
    let kept = w.clone();
    step.call((w, m, zeros(128)?))?;
    drop(kept);
    // One parameter too few for the shader.
    let short = Descend { n_params: op.n_params - 1 };
    let t = zeros(7)?;
    let new = record(short, &[&t, &t, &t, &zeros(7)?, &zeros(7)?])?;
    let error = Tensor::realize(&[&new[0]]).unwrap_err();
    assert!(error.to_string().contains("parameters"), "{error}");
    Ok(())
}

#[test]
fn null_mapped_functions_have_sound_plans() -> Result<()> {
    let d = Device::null();
    let (xs, w) = (Tensor::zeros(&d, &[5, 3, 4])?, Tensor::zeros(&d, &[3, 4])?);
    let (g, y) = vmap(
        |x: Tensor| {
            let y = x.mul(&w)?.sum_keep(&[0])?.exp()?;
            Ok::<_, acclimate_tensor::Error>((grad(&y.sum(&[])?, x.clone())?, y.pad(&[(0, 1), (2, 0)])?.flip(1)?))
        },
        xs,
    )?;
    Tensor::realize(&[&g, &y])?;
    assert_eq!(g.to_vec::<f32>()?, [0.0; 60]);
    Ok(())
}

/// Steps of the gradient of a normalization with a rectifier behind it.
fn steps_of_a_normalization(passes: Passes) -> Result<u64> {
    let d = Device::null().with_passes(passes)?;
    let (x, dy) = (Tensor::zeros(&d, &[8, 4, 5000])?, Tensor::from_slice(&d, &[1.0f32; 160_000], &[8, 4, 5000])?);
    let (scale, shift) = (Tensor::zeros(&d, &[1, 4, 1])?, Tensor::from_slice(&d, &[1.0f32; 4], &[1, 4, 1])?);
    let axes = [0, 2];
    let step = compile(move |(x, dy, scale, shift): (Tensor, Tensor, Tensor, Tensor)| {
        let mean = x.sum_keep(&axes)?.mul_scalar(1.0 / 40_000.0)?;
        let variance = x.sub(&mean)?.square()?.sum_keep(&axes)?.mul_scalar(1.0 / 40_000.0)?;
        let scaled = variance.add_scalar(1e-5)?.rsqrt()?.mul(&scale)?;
        let y = x.sub(&mean)?.mul(&scaled)?.add(&shift)?.relu()?;
        grad(&y.mul(&dy)?.sum(&[])?, vec![x, scale, shift])
    });
    let before = d.stats().dispatches;
    step.call((x, dy, scale, shift))?;
    Ok(d.stats().dispatches - before)
}

#[test]
fn null_gradients_of_normalizations_read_their_input_twice() -> Result<()> {
    let all = Passes::ALL;
    let most = steps_of_a_normalization(all)?;
    // Both sums of the backward pass are one step; a third is known from others.
    let apart = Passes { together: false, ..all };
    assert!(steps_of_a_normalization(apart)? > most);
    assert!(steps_of_a_normalization(Passes { simplify: false, ..apart })? > steps_of_a_normalization(apart)?);
    // What is left of a mean or a variance is computed with the sum.
    assert!(steps_of_a_normalization(Passes { finish: false, ..all })? > most + 1);
    Ok(())
}

/// Sums of long chains: no pass walks them by calling itself.
#[test]
fn null_sums_of_long_chains_are_planned() -> Result<()> {
    let d = Device::null();
    let y = Tensor::from_slice(&d, &[1.0f32; 4], &[4])?;
    for f in [
        |x: &Tensor, y: &Tensor| x.add(y),
        |x: &Tensor, _: &Tensor| x.mul_scalar(0.5),
        |x: &Tensor, _: &Tensor| x.neg(),
    ] {
        let mut x = Tensor::from_slice(&d, &[2.0f32; 4], &[4])?;
        for _ in 0..20_000 {
            x = f(&x, &y)?;
        }
        x.sum(&[])?.to_vec::<f32>()?;
    }
    Ok(())
}
