//! The quick start's model and its training.

use std::sync::Arc;
use std::time::Instant;

use acclimate::prelude::*;
use anyhow::Result;
use cpu_time::ProcessTime;

/// Passes through the training images.
pub const EPOCHS: u64 = 6;
/// Images of a training batch.
const BATCH: usize = 64;
/// Channels of the three stages of convolution, normalization, ReLU and pooling.
const CHANNELS: [usize; 3] = [16, 32, 32];
/// Largest learning rate of the one-cycle schedule.
const RATE: f32 = 4e-3;

/// A trained model and how it went.
pub struct Trained {
    pub model: Arc<dyn Layer>,
    pub params: Params,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub epochs: u64,
    pub clean_accuracy: f64,
    /// Loss against the step.
    pub losses: Vec<(f64, f64)>,
    /// Test accuracy against the epoch, from 1.
    pub accuracies: Vec<(f64, f64)>,
}

/// Trains on `train` for some epochs, measures on `test` after each.
pub fn train(device: &Device, train: &Images, test: &Images, seed: u64, epochs: u64) -> Result<Trained> {
    let dims = [train.channels(), train.height(), train.width()];
    let (started, cpu) = (Instant::now(), ProcessTime::now());
    let model: Arc<dyn Layer> = Arc::new(SmallCnn::new("", dims, &CHANNELS, train.n_classes() as usize)?);
    let params = model.init(device, seed)?;
    let batches = Batches::new(train.len(), BATCH, seed, Tail::Drop)?;
    let optimizer = optim::adam(Schedule::one_cycle(RATE, epochs * batches.per_epoch() as u64));
    let forward = {
        let model = model.clone();
        compile(move |(params, x): (Params, Tensor)| model.forward(&params, &x))
    };
    let accuracy = {
        let (device, test) = (device.clone(), test.clone());
        move |params: &Params| -> Result<f64, acclimate::train::Error> {
            let mut right = 0;
            for positions in (0..test.len()).collect::<Vec<_>>().chunks(500) {
                let shape = [positions.len(), dims[0], dims[1], dims[2]];
                let x = Tensor::from_slice(&device, &test.to_f32_at(positions)?, &shape)?;
                let labels = forward.call((params.clone(), x))?.argmax(1)?.to_vec::<u32>()?;
                right += labels.iter().zip(test.labels_at(positions)?).filter(|(a, b)| *a == b).count();
            }
            Ok(right as f64 / test.len() as f64)
        }
    };
    let accuracy = Arc::new(accuracy);
    let (objective, measure) = (model.clone(), accuracy.clone());
    let fit = Fit::new(optimizer, move |params: &Params, (x, y): (Tensor, Tensor), key| {
        let mut pass = Pass::train(Key::from_tensor(key)?);
        let loss = loss::cross_entropy(&objective.apply(params, &x, &mut pass)?, &y)?;
        Ok((loss, params.with_buffers(pass.take_updates())?))
    })
    .epochs(epochs)
    .check_every(20)
    .seed(seed)
    .measure(move |_, params| Ok(vec![("accuracy", measure(params)?)]));
    let trained = fit.run(fit.begin(&params)?, &batches, |positions| {
        let shape = [positions.len(), dims[0], dims[1], dims[2]];
        let x = Tensor::from_slice(device, &train.to_f32_at(positions)?, &shape)?;
        let labels = Labels::new(device, &train.labels_at(positions)?, train.n_classes())?;
        Ok((x, labels.tensor().clone()))
    })?;
    let history = trained.run.history;
    let accuracies = history.metric("accuracy").into_iter().enumerate().map(|(e, a)| (e as f64 + 1.0, a)).collect();
    Ok(Trained {
        clean_accuracy: accuracy(&trained.params)?,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu.elapsed().as_secs_f64(),
        losses: history.losses(),
        accuracies,
        params: trained.params,
        model,
        epochs,
    })
}
