//! A small network, trained in about a second on stripes of four directions, and streams of them that get dark.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;

use acclimate_infer::adapt::{Adaptation, Answer, Moves, Objective, Reset, Window};
use acclimate_infer::{Error, Session, SourceStatistics};
use acclimate_kernels::random::Key;
use acclimate_tensor::{Device, Tensor, compile};
use acclimate_train::nn::{Norm, SmallCnn};
use acclimate_train::optim::{State, StepCx};
use acclimate_train::{Layer, Params, Pass, Statistics, loss, optim};

pub const DIMS: [usize; 3] = [1, 12, 12];
pub const SIZE: usize = 144;
pub const CLASSES: u32 = 4;

/// A generator for pixels: numbers in 0..1 from a seed.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }
    pub fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as f32) / 16_777_216.0
    }
    pub fn below(&mut self, n: u32) -> u32 {
        ((self.next() * n as f32) as u32).min(n - 1)
    }
}

/// Stripes of one of four directions, of any phase, with noise.
pub fn scene(class: u32, noise: &mut Noise) -> Vec<f32> {
    let (phase, pitch) = (noise.next() * 6.0, 1.3 + 0.5 * noise.next());
    let side = DIMS[1];
    (0..SIZE)
        .map(|i| {
            let (y, x) = ((i / side) as f32, (i % side) as f32);
            let along = match class {
                0 => x,
                1 => y,
                2 => 0.7 * (x + y),
                _ => 0.7 * (x - y),
            };
            let wave = 0.5 + 0.17 * (along * pitch + phase).sin();
            (wave + 0.9 * (noise.next() - 0.5)).clamp(0.0, 1.0)
        })
        .collect()
}

/// Images one after the other, and their labels.
pub struct Stream {
    pub images: Vec<f32>,
    pub labels: Vec<u32>,
}

impl Stream {
    /// Classes as `class` says, seen through `lens`.
    pub fn new(
        n: usize,
        seed: u64,
        class: impl Fn(usize, &mut Noise) -> u32,
        lens: impl Fn(usize, &mut [f32], &mut Noise),
    ) -> Self {
        let mut noise = Noise::new(seed);
        let (mut images, mut labels) = (Vec::with_capacity(n * SIZE), Vec::with_capacity(n));
        for i in 0..n {
            let label = class(i, &mut noise);
            let mut image = scene(label, &mut noise);
            lens(i, &mut image, &mut noise);
            images.extend(image);
            labels.push(label);
        }
        Stream { images, labels }
    }

    /// Any class, as trained on.
    pub fn ordinary(n: usize, seed: u64) -> Self {
        Stream::new(n, seed, |_, noise| noise.below(CLASSES), |_, _, _| {})
    }

    /// Any class, in the dark.
    pub fn dark(n: usize, seed: u64) -> Self {
        Stream::new(n, seed, |_, noise| noise.below(CLASSES), |_, image, noise| dim(image, noise))
    }

    /// Labels in order, in runs of equal ones.
    pub fn sorted(n: usize, seed: u64, run: usize) -> Self {
        Stream::new(n, seed, |i, _| (i / run) as u32 % CLASSES, |_, _, _| {})
    }
}

/// A dim light and the noise of the sensor.
pub fn dim(image: &mut [f32], noise: &mut Noise) {
    image.iter_mut().for_each(|x| *x = (0.5 * *x + 0.02 * (noise.next() - 0.5)).clamp(0.0, 1.0));
}

pub struct Trained {
    pub model: Arc<dyn Layer>,
    pub params: Params,
    pub source: SourceStatistics,
}

impl Trained {
    pub fn new() -> Result<Self, Box<dyn std::error::Error>> {
        Self::with_norm(Norm::Batch)
    }

    pub fn with_norm(norm: Norm) -> Result<Self, Box<dyn std::error::Error>> {
        let device = Device::cpu();
        let model = Arc::new(SmallCnn::new("", DIMS, &[8, 12], CLASSES as usize)?.with_norm(norm));
        let params = model.init(&device, 5)?;
        let optimizer = optim::adam(1e-2);
        let state = optimizer.init(&params)?;
        let (net, adam) = (model.clone(), optimizer.clone());
        let step = compile(move |(params, state, x, y, rate): (Params, State, Tensor, Tensor, Tensor)| {
            let mut pass = Pass::train(Key::new(x.device(), 1)?);
            let loss = loss::cross_entropy(&net.apply(&params, &x, &mut pass)?, &y)?;
            let grads = params.grad(&loss)?;
            let (params, state) = adam.step(params, &grads, state, &StepCx::new(&rate))?;
            Ok::<_, acclimate_train::Error>((loss, params.with_buffers(pass.take_updates())?, state))
        });
        let (mut params, mut state) = (params, state);
        for i in 0..60 {
            let batch = Stream::ordinary(48, 1000 + i);
            let x = Tensor::from_slice(&device, &batch.images, &[48, 1, DIMS[1], DIMS[2]])?;
            let y = loss::Labels::new(&device, &batch.labels, CLASSES)?;
            let rate = optimizer.rate_tensor(&device, i)?;
            (_, params, state) = step.call((params, state, x, y.tensor().clone(), rate))?;
        }
        let model: Arc<dyn Layer> = model;
        let source = SourceStatistics::record(&*model, &params, &Stream::ordinary(200, 7).images, DIMS)?;
        Ok(Trained { model, params, source })
    }

    pub fn session(&self, method: Adaptation) -> Result<Session, Error> {
        let source = method.needs_source_statistics().then(|| self.source.clone());
        Ok(Session::with_source(self.model.clone(), self.params.clone(), method, source)?.seed(3))
    }
}

/// Minimizes entropy over batches on source statistics, never reset: what goes wrong at a large rate.
pub fn entropy(rate: f64, steps: usize) -> Adaptation {
    Adaptation::new("entropy", Objective::Entropy)
        .moves(Moves::NormAffine)
        .statistics(Statistics::Source)
        .step(optim::adam(rate), steps)
        .window(Window::ThisBatch)
        .reset(Reset::Never)
        .answer(Answer::BeforeStep)
}

/// How many of a stream's answers, in batches, are right.
pub fn right(session: &mut Session, stream: &Stream, batch: usize) -> Result<usize, Error> {
    let mut right = 0;
    for (images, labels) in stream.images.chunks(batch * SIZE).zip(stream.labels.chunks(batch)) {
        let answers = session.answer(images, DIMS)?;
        right += answers.iter().zip(labels).filter(|(a, l)| a.label() == **l).count();
    }
    Ok(right)
}
