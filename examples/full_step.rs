//! All parameters of a network move for each input: the same step kept as Δ, a copy of the weights for every slot, and kept as
//! pairs of what layers saw and how their outputs should change. Room, time, and how far the answers are apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::adapt::{Form, memo};
use acclimate::prelude::*;
use acclimate::train::nn::{Activation, Flatten, LayerNorm, Linear, Sequential, zoo::Network};
use acclimate::train::weights;
use anyhow::{Context, Result, bail};
use clap::Parser;
use cpu_time::ProcessTime;
use serde::Serialize;

/// The step of MEMO on all parameters, with and without copies.
#[derive(Parser)]
struct Options {
    /// safetensors file of EfficientNet-Lite0 or a CIFAR-10 ResNet; without it a perceptron of random weights
    #[arg(long, requires = "images")]
    weights: Option<PathBuf>,
    /// Images for it
    #[arg(long, requires = "weights")]
    images: Option<PathBuf>,
    /// Widths of the perceptron's two hidden layers
    #[arg(long, default_value_t = 1024)]
    width: usize,
    /// Views of each input
    #[arg(long, default_value_t = 4)]
    views: usize,
    /// Inputs that adapt at once, several numbers
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    slots: Vec<usize>,
    /// Batches that are timed; the quickest counts
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of weights and views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for rows.json
    #[arg(long, default_value = "run/full_step")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// A narrow network, a few slots
    #[arg(long)]
    smoke: bool,
}

/// What one form took.
#[derive(Serialize)]
struct Row {
    slots: usize,
    form: Form,
    /// Bytes at the peak of a batch beyond those before the first, weights included in the latter.
    bytes_per_slot: f64,
    ms_per_input: f64,
    /// Processor time, all threads: what other programs on the machine do not change.
    cpu_ms_per_input: f64,
    /// Largest difference of a logit from the step kept as Δ, relative to 1 + |logit|.
    apart: f32,
}

struct Subject {
    name: String,
    model: Arc<dyn Layer>,
    dims: [usize; 3],
    pixels: Vec<f32>,
    weights: Option<PathBuf>,
}

fn main() -> Result<()> {
    env_logger::init();
    let mut o = Options::parse();
    if o.smoke {
        (o.width, o.slots, o.repeat) = (256, vec![1, 4], 1);
    }
    let subject = subject(&o)?;
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let n_values = subject.model.init(&device, o.seed)?.n_values();
    println!("{}, {n_values} parameters, all of which move; {} views of each input", subject.name, o.views);
    println!(
        "{:>6} {:>7} {:>11} {:>12} {:>14} {:>9}",
        "slots", "form", "MB a slot", "ms an input", "CPU-ms an input", "apart"
    );
    let mut rows = Vec::new();
    for &slots in &o.slots {
        let (by_delta, row) = measured(&o, &subject, slots, Form::Delta, None)?;
        show(&row);
        rows.push(row);
        let (_, row) = measured(&o, &subject, slots, Form::Pairs, Some(&by_delta))?;
        show(&row);
        rows.push(row);
    }
    let line = serde_json::json!({
        "device": device.to_string(), "engine": device.kind().to_string(), "network": subject.name,
        "parameters": n_values, "views": o.views, "rows": rows,
    });
    fs::create_dir_all(&o.out).with_context(|| format!("create {}", o.out.display()))?;
    fs::write(o.out.join("rows.json"), line.to_string()).with_context(|| format!("write into {}", o.out.display()))?;
    if o.json {
        println!("{line}");
    }
    Ok(())
}

fn show(row: &Row) {
    let form = format!("{:?}", row.form).to_lowercase();
    let mb = row.bytes_per_slot / 1e6;
    let (ms, cpu) = (row.ms_per_input, row.cpu_ms_per_input);
    println!("{:>6} {form:>7} {mb:>11.3} {ms:>12.2} {cpu:>14.2} {:>9.1e}", row.slots, row.apart);
}

fn subject(o: &Options) -> Result<Subject> {
    let most = o.slots.iter().copied().max().unwrap_or(1);
    let (name, model, images): (String, Arc<dyn Layer>, Images) = match (&o.weights, &o.images) {
        (Some(file), Some(images)) => {
            let network = Network::of_weights(&weights::read(file)?).with_context(|| file.display().to_string())?;
            (network.to_string(), network.layer()?, network.images(images)?)
        }
        _ => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
            let images = data::idx::fashion8k(folder).context("the images of the repository")?.1;
            let layers = Sequential::new()
                .then(Flatten)
                .then(Linear::new("fc1", 784, o.width))
                .then(LayerNorm::new("norm1", &[o.width]))
                .then(Activation::Relu)
                .then(Linear::new("fc2", o.width, o.width))
                .then(LayerNorm::new("norm2", &[o.width]))
                .then(Activation::Relu)
                .then(Linear::new("fc3", o.width, 10));
            (format!("perceptron 784 - {0} - {0} - 10", o.width), Arc::new(layers), images)
        }
    };
    if images.len() < most || most == 0 {
        bail!("--slots: expected 1 to {}, the number of images, found {most}", images.len());
    }
    let dims = [images.channels(), images.height(), images.width()];
    Ok(Subject { name, model, dims, pixels: images.to_f32(0..most)?, weights: o.weights.clone() })
}

/// Answers of one batch that fills the slots, on a device of its own, so that its peak is its own.
fn measured(
    o: &Options,
    subject: &Subject,
    slots: usize,
    form: Form,
    by_delta: Option<&[f32]>,
) -> Result<(Vec<f32>, Row)> {
    let device = Device::named(&o.device)?;
    let mut params = subject.model.init(&device, o.seed)?;
    if let Some(file) = &subject.weights {
        params = weights::load(file, &params)?;
    }
    let method = memo(o.views, 5e-3).without_guards().form(form);
    let mut session = Session::new(subject.model.clone(), params, method)?.slots(slots).seed(o.seed);
    let x = &subject.pixels[..slots * subject.dims.iter().product::<usize>()];
    let before = device.stats().bytes_live;
    let logits: Vec<f32> = session.answer(x, subject.dims)?.into_iter().flat_map(|a| a.logits).collect();
    let bytes_per_slot = device.stats().bytes_peak.saturating_sub(before) as f64 / slots as f64;
    let (mut best, mut cpu) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..o.repeat {
        let (started, processor) = (Instant::now(), ProcessTime::now());
        session.answer(x, subject.dims)?;
        best = best.min(started.elapsed().as_secs_f64());
        cpu = cpu.min(processor.elapsed().as_secs_f64());
    }
    let apart = |by_delta: &[f32]| {
        let each = logits.iter().zip(by_delta).map(|(a, b)| (a - b).abs() / (1.0 + b.abs()));
        each.fold(0f32, f32::max)
    };
    let row = Row {
        slots,
        form,
        bytes_per_slot,
        ms_per_input: 1e3 * best / slots as f64,
        cpu_ms_per_input: 1e3 * cpu / slots as f64,
        apart: by_delta.map_or(0.0, apart),
    };
    Ok((logits, row))
}
