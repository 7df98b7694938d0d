//! Adapt a network that somebody else trained: a CIFAR-10 ResNet from a safetensors file with PyTorch's names, on images in
//! CIFAR-10's binary layout, clean or shifted by the constants of CIFAR-10-C; or EfficientNet-Lite0 on pictures of ImageNet
//! and shifts of ImageNet-C. The weights' names tell which.

use std::path::PathBuf;

use acclimate::prelude::*;
use acclimate::train::{nn::zoo::Network, weights};
use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

/// Answer a file of images with one method.
#[derive(Parser)]
struct Options {
    /// safetensors file of a ResNet for CIFAR-10 (depth 20, 56 or another 6n + 2), or of EfficientNet-Lite0
    #[arg(long)]
    weights: PathBuf,
    /// Images: records of one label byte and 3072 pixel bytes, plain or gzip; for EfficientNet-Lite0 a folder or tar archive of
    /// pictures named by their label, such as 0007_n01514668_cock.jpg
    #[arg(long)]
    images: PathBuf,
    /// Images the network was trained on, for `calibrate`: the same layout
    #[arg(long)]
    source: Option<PathBuf>,
    /// Name of a shift, such as gaussian or contrast
    #[arg(long)]
    shift: Option<String>,
    /// Severity of the shift, 1 to 5
    #[arg(long, default_value_t = 5)]
    severity: u8,
    #[arg(long, value_enum, default_value_t = Method::Frozen)]
    method: Method,
    /// Images of a batch
    #[arg(long, default_value_t = 200)]
    batch: usize,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of the shift and of views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for receipts (none are written without it)
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// The first 40 images only
    #[arg(long)]
    smoke: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    Frozen,
    Stretch,
    Statistics,
    Tent,
    MemoAffine,
    Calibrate,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let network = Network::of_weights(&weights::read(&o.weights)?).with_context(|| o.weights.display().to_string())?;
    let mut images = network.images(&o.images)?;
    let family = if let Network::CifarResNet(_) = network { Family::Cifar } else { Family::Camera };
    if let Some(name) = &o.shift {
        images = shift::apply(&images, name.parse::<Shift>()?, Severity::new(o.severity)?, family, o.seed)?;
    }
    if o.smoke {
        images = images.subset(0..images.len().min(40))?;
    }
    let model = network.layer()?;
    let params = weights::load(&o.weights, &model.init(&device, 0)?)?;
    let dims = [images.channels(), images.height(), images.width()];
    let source = match (&o.source, o.method) {
        (Some(path), Method::Calibrate) => {
            let known = network.images(path)?;
            Some(SourceStatistics::record(&*model, &params, &known.to_f32(0..known.len().min(1000))?, dims)?)
        }
        (None, Method::Calibrate) => {
            bail!("calibrate needs images the network was trained on: give them with --source")
        }
        _ => None,
    };
    let method = match o.method {
        Method::Frozen => frozen(),
        Method::Stretch => stretch(),
        Method::Statistics => statistics(),
        Method::Tent => tent(1e-3),
        Method::MemoAffine => memo_affine(16, 5e-3),
        Method::Calibrate => calibrate(source.as_ref().map_or(0.0, |s| s.quantile(0.95))),
    };
    let mut session = Session::with_source(model, params, method, source)?.slots(8).seed(o.seed);
    if let Some(out) = &o.out {
        std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
        let log = out.join(format!("{}.jsonl", session.method().name()));
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        session = session.receipts_to(log)?.keep_inputs()?;
    }
    session.warm(dims, o.batch.min(images.len()))?;
    let pixels = images.to_f32(0..images.len())?;
    let data = Labelled { images: &pixels, dims, labels: images.labels() };
    let result = evaluate(&mut session, data, o.batch)?;
    session.finish()?;
    let right = (result.scores.accuracy * images.len() as f64).round() as usize;
    println!(
        "{}: {right} of {} right ({:.4}), ECE {:.3}, {:.2} ms per image, acted on {}, rolled back {}",
        session.method().name(),
        images.len(),
        result.scores.accuracy,
        result.scores.ece,
        result.ms_per_image,
        result.acted,
        result.rolled_back
    );
    if o.json {
        let line = serde_json::json!({
            "device": device.to_string(), "engine": device.kind().to_string(), "method": session.method().name(),
            "accuracy": result.scores.accuracy, "ece": result.scores.ece, "ms_per_image": result.ms_per_image,
            "images": images.len(), "acted": result.acted, "rolled_back": result.rolled_back,
        });
        println!("{line}");
    }
    Ok(())
}
