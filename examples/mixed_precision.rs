//! The quick start's network and a perceptron, trained in f32 and in mixed precision with a scaled loss, from the same seeds:
//! accuracy and loss side by side, and how much room a step takes.

use std::fs;
use std::path::PathBuf;

use acclimate::prelude::*;
use acclimate::train::nn::{Flatten, Mixed, Sequential};
use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

/// f32 against half precision.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seeds 0, 1, ..
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Passes through the training images
    #[arg(long, default_value_t = 6)]
    epochs: u64,
    /// Folder for rows.json
    #[arg(long, default_value = "run/mixed_precision")]
    out: PathBuf,
    /// Seconds instead of minutes: few images, one seed, one epoch
    #[arg(long)]
    smoke: bool,
}

/// One training.
#[derive(Serialize)]
struct Row {
    network: &'static str,
    precision: &'static str,
    seed: u64,
    /// Mean cross-entropy and accuracy on the test images.
    loss: f64,
    accuracy: f64,
    /// The loss scale at the end and the steps that it left out.
    scale: Option<f32>,
    skipped: Option<f32>,
    /// Bytes of the plan of a step.
    plan_bytes: u64,
}

const BATCH: usize = 64;
const RATE: f32 = 4e-3;

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (train, test) = data::idx::fashion8k(&folder).context("the images of the repository")?;
    let (train, test) = if o.smoke { (train.first_per_class(20), test.first_per_class(10)) } else { (train, test) };
    let (seeds, epochs) = if o.smoke { (1, 1) } else { (o.seeds, o.epochs) };
    println!(
        "{:10} {:9} {:>4} {:>8} {:>9} {:>8} {:>8} {:>9}",
        "network", "precision", "seed", "loss", "accuracy", "scale", "skipped", "plan MiB"
    );
    let mut rows = Vec::new();
    for network in ["mlp", "small_cnn"] {
        for seed in 0..seeds {
            for precision in ["f32", "half"] {
                // A device of its own, so that its plans are this training's.
                let device = Device::named(&o.device)?;
                let row = run(&device, (&train, &test), network, precision, seed, epochs)?;
                let shown = |x: Option<f32>| x.map_or("-".to_owned(), |x| x.to_string());
                let (scale, skipped) = (shown(row.scale), shown(row.skipped));
                let (loss, accuracy, mib) = (row.loss, 100.0 * row.accuracy, row.plan_bytes as f64 / 1048576.0);
                println!(
                    "{network:10} {precision:9} {seed:4} {loss:8.4} {accuracy:8.2}% {scale:>8} {skipped:>8} {mib:9.2}"
                );
                rows.push(row);
            }
        }
    }
    fs::create_dir_all(&o.out).with_context(|| format!("create {}", o.out.display()))?;
    fs::write(o.out.join("rows.json"), serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}

fn run(
    device: &Device,
    (train, test): (&Images, &Images),
    network: &'static str,
    precision: &'static str,
    seed: u64,
    epochs: u64,
) -> Result<Row> {
    let dims = [train.channels(), train.height(), train.width()];
    let classes = train.n_classes();
    let plain = match network {
        "mlp" => {
            Sequential::new().then(Flatten).then(Mlp::new("", dims.iter().product(), &[256, 128], classes as usize))
        }
        _ => Sequential::new().then(SmallCnn::new("", dims, &[16, 32, 32], classes as usize)?),
    };
    let batches = Batches::new(train.len(), BATCH, seed, Tail::Drop)?;
    let optimizer = optim::adam(Schedule::one_cycle(RATE, epochs * batches.per_epoch() as u64));
    let (model, optimizer) = match precision {
        "half" => (Sequential::new().then(Mixed::new(plain)), optimizer.scale_loss()),
        _ => (plain, optimizer),
    };
    let params = model.init(device, seed)?;
    let batch = |images: &Images, positions: &[usize]| -> Result<(Tensor, Tensor), acclimate::train::Error> {
        let shape = [positions.len(), dims[0], dims[1], dims[2]];
        let x = Tensor::from_slice(device, &images.to_f32_at(positions)?, &shape)?;
        Ok((x, Labels::new(device, &images.labels_at(positions)?, classes)?.tensor().clone()))
    };
    let fit = Fit::supervised(model.clone(), optimizer, loss::cross_entropy)
        .epochs(epochs)
        .check_every(50)
        .seed(seed)
        .progress(Progress::Silent);
    let trained = fit.run(fit.begin(&params)?, &batches, |positions| batch(train, positions))?;
    let plan_bytes = device.plan_memory().iter().map(|plan| plan.peak).max().unwrap_or(0);
    let (mut loss, mut right) = (0.0, 0);
    for positions in (0..test.len()).collect::<Vec<_>>().chunks(500) {
        let (x, y) = batch(test, positions)?;
        let logits = model.forward(&trained.params, &x)?;
        loss += f64::from(loss::cross_entropy(&logits, &y)?.item()?) * positions.len() as f64;
        let labels = logits.argmax(1)?.to_vec::<u32>()?;
        right += labels.iter().zip(test.labels_at(positions)?).filter(|(a, b)| *a == b).count();
    }
    let read = |what: &str| trained.state.get(&format!("0/loss_scale/{what}")).map(Tensor::item).transpose();
    let n = test.len() as f64;
    let (scale, skipped) = (read("scale")?, read("skipped")?);
    Ok(Row { network, precision, seed, loss: loss / n, accuracy: right as f64 / n, scale, skipped, plan_bytes })
}
