//! Test-time training by masked patches: an encoder is trained to tell classes and to paint what is hidden from it, and then
//! paints each test image a few times before it answers. Accuracy on clean and shifted images, beside the network as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::adapt::ttt_mae;
use acclimate::prelude::*;
use acclimate::train::nn::{
    Activation, Conv2d, GlobalAvgPool2d, GroupNorm, Linear, Masks, PixelShuffle, Sequential, TwoHeads, mask_loss,
};
use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

/// Train two heads together, then adapt through one and answer with the other.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of initialization, batches, masks and shifts
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Epochs of the joint training
    #[arg(long, default_value_t = 8)]
    epochs: u64,
    /// Steps for each image
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Masks of each image
    #[arg(long, default_value_t = 8)]
    masks: usize,
    /// Rates to choose from, on training images that were held out
    #[arg(long, value_delimiter = ',', default_value = "0.0003,0.001,0.003")]
    rates: Vec<f64>,
    /// Severity of the shifts, 1 to 5
    #[arg(long, default_value_t = 3)]
    severity: u8,
    /// Test images of each class
    #[arg(long, default_value_t = 20)]
    per_class: usize,
    /// Folder for rows.json
    #[arg(long, default_value = "run/ttt_mae")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few images, one epoch
    #[arg(long)]
    smoke: bool,
}

const BATCH: usize = 64;
const SLOTS: usize = 20;
/// Side of a patch in pixels: one place of the encoder's output.
const PATCH: usize = 4;
/// What encoder and decoder are called; the classifier stays.
const SHARED: [&str; 4] = ["conv1", "norm1", "conv2", "paint"];
/// Held-out training images of each class that choose the rate.
const HELD_OUT: usize = 6;

/// Right answers of one shift.
#[derive(Serialize)]
struct Row {
    shift: String,
    images: usize,
    frozen: f64,
    ttt_mae: f64,
    /// Images that one got right and the other did not: for and against adapting.
    helped: usize,
    harmed: usize,
    ms_per_image: f64,
}

fn network() -> TwoHeads {
    let trunk = Sequential::new()
        .then(Conv2d::new("conv1", 1, 16, 3).same().strided(2))
        .then(GroupNorm::new("norm1", 4, 16))
        .then(Activation::Relu)
        .then(Conv2d::new("conv2", 16, 32, 3).same().strided(2));
    let main = Sequential::new()
        .then(GroupNorm::new("norm2", 4, 32))
        .then(Activation::Relu)
        .then(Conv2d::new("conv3", 32, 48, 3).same())
        .then(GroupNorm::new("norm3", 4, 48))
        .then(Activation::Relu)
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 48, 10));
    let side = Sequential::new()
        .then(Activation::Relu)
        .then(Conv2d::new("paint.conv1", 32, 48, 3).same())
        .then(Activation::Relu)
        .then(Conv2d::new("paint.conv2", 48, PATCH * PATCH, 3).same())
        .then(PixelShuffle(PATCH));
    TwoHeads::new(trunk, main, side)
}

fn main() -> Result<()> {
    env_logger::init();
    let mut o = Options::parse();
    if o.smoke {
        (o.epochs, o.per_class, o.steps, o.masks, o.rates) = (1, 2, 2, 2, vec![0.01]);
    }
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (train_set, test_set) = data::idx::fashion8k(folder).context("the images of the repository")?;
    let cut = train_set.len() - 1000;
    let (learned, held_out) = (train_set.subset(0..cut)?, train_set.subset(cut..train_set.len())?);
    let learned = if o.smoke { learned.first_per_class(20) } else { learned };
    let held_out = held_out.first_per_class(if o.smoke { 1 } else { HELD_OUT });
    let test_set = test_set.first_per_class(o.per_class);

    let model: Arc<dyn Layer> = Arc::new(network());
    let params = train(&device, &model, &learned, &o)?;
    let method = |rate| ttt_mae(&SHARED, Masks::new(o.masks, PATCH), rate, o.steps);
    // The rate comes from shifted training images that were held out.
    let mut best = (0usize, o.rates.first().copied().unwrap_or(0.01));
    for &rate in &o.rates {
        let mut right = 0;
        for shift in Shift::CAMERA {
            let images = shift::apply(&held_out, shift, Severity::new(o.severity)?, Family::Camera, o.seed + 1)?;
            right += hits(&model, &params, method(rate), &images, o.seed)?.0.iter().filter(|&&hit| hit).count();
        }
        eprintln!("rate {rate}: {right} of {} held-out images right", Shift::CAMERA.len() * held_out.len());
        if right > best.0 {
            best = (right, rate);
        }
    }
    let rate = best.1;
    println!("rate {rate}, {} steps, {} masks of {PATCH} x {PATCH} patches, three quarters hidden", o.steps, o.masks);
    println!("{:<10} {:>7} {:>8} {:>7} {:>7} {:>10}", "shift", "frozen", "ttt-mae", "helped", "harmed", "ms an image");
    let mut rows = Vec::new();
    for shift in std::iter::once(None).chain(Shift::CAMERA.into_iter().map(Some)) {
        let images = match shift {
            None => test_set.clone(),
            Some(shift) => shift::apply(&test_set, shift, Severity::new(o.severity)?, Family::Camera, o.seed)?,
        };
        let (plain, _) = hits(&model, &params, frozen(), &images, o.seed)?;
        let (adapted, ms_per_image) = hits(&model, &params, method(rate), &images, o.seed)?;
        let both = plain.iter().zip(&adapted);
        let percent = |hits: &[bool]| 100.0 * hits.iter().filter(|&&hit| hit).count() as f64 / hits.len() as f64;
        let row = Row {
            shift: shift.map_or("clean", Shift::name).to_owned(),
            images: images.len(),
            frozen: percent(&plain),
            ttt_mae: percent(&adapted),
            helped: both.clone().filter(|(before, after)| !**before && **after).count(),
            harmed: both.filter(|(before, after)| **before && !**after).count(),
            ms_per_image,
        };
        println!(
            "{:<10} {:>7.1} {:>8.1} {:>7} {:>7} {:>10.2}",
            row.shift, row.frozen, row.ttt_mae, row.helped, row.harmed, row.ms_per_image
        );
        rows.push(row);
    }
    let line = serde_json::json!({
        "device": device.to_string(), "engine": device.kind().to_string(), "rate": rate, "steps": o.steps,
        "masks": o.masks, "severity": o.severity, "rows": rows,
    });
    fs::create_dir_all(&o.out).with_context(|| format!("create {}", o.out.display()))?;
    fs::write(o.out.join("rows.json"), line.to_string()).with_context(|| format!("write into {}", o.out.display()))?;
    if o.json {
        println!("{line}");
    }
    Ok(())
}

/// Cross-entropy of the classes plus the squared error of the painting.
fn train(device: &Device, model: &Arc<dyn Layer>, images: &Images, o: &Options) -> Result<Params> {
    let batches = Batches::new(images.len(), BATCH, o.seed, Tail::Drop)?;
    let optimizer = optim::adam(Schedule::one_cycle(4e-3, o.epochs * batches.per_epoch() as u64));
    let objective = model.clone();
    let fit = Fit::new(optimizer, move |params: &Params, (x, y): (Tensor, Tensor), key| {
        let key = Key::from_tensor(key)?;
        let masked = Masks::new(1, PATCH).of(&x, &key)?;
        let mut pass = Pass::train(key).with_side_head();
        let painting = objective.apply(params, &masked.rows, &mut pass)?;
        let classes = loss::cross_entropy(&objective.forward(params, &x)?, &y)?;
        Ok(classes.add(&mask_loss(&painting, &masked)?)?)
    })
    .epochs(o.epochs)
    .check_every(20)
    .seed(o.seed);
    let params = model.init(device, o.seed)?;
    let trained = fit.run(fit.begin(&params)?, &batches, |positions| {
        let shape = [positions.len(), 1, images.height(), images.width()];
        let x = Tensor::from_slice(device, &images.to_f32_at(positions)?, &shape)?;
        let labels = Labels::new(device, &images.labels_at(positions)?, images.n_classes())?;
        Ok((x, labels.tensor().clone()))
    })?;
    Ok(trained.params)
}

/// Which images a method gets right, and milliseconds an image.
fn hits(
    model: &Arc<dyn Layer>,
    params: &Params,
    method: Adaptation,
    images: &Images,
    seed: u64,
) -> Result<(Vec<bool>, f64)> {
    let dims = [1, images.height(), images.width()];
    let mut session = Session::new(model.clone(), params.clone(), method)?.slots(SLOTS).seed(seed);
    session.warm(dims, SLOTS.min(images.len()))?;
    let pixels = images.to_f32(0..images.len())?;
    let started = Instant::now();
    let answers = session.answer(&pixels, dims)?;
    let ms = 1e3 * started.elapsed().as_secs_f64() / images.len() as f64;
    Ok((answers.iter().zip(images.labels()).map(|(a, label)| a.label() == *label).collect(), ms))
}
