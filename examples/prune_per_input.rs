//! Less work for each input, with a knob: a convolutional network that computes only the channels that its gates choose, and
//! a transformer that passes on only the tokens that matter. One set of parameters serves every setting; all settings are
//! planned in advance, and the time that is left picks one.

use std::path::PathBuf;
use std::time::Duration;

use acclimate::infer::prune::{GatedCnn, Reduction, Rungs, TokenEncoder};
use acclimate::infer::report::{LinePlot, Report, Series};
use acclimate::prelude::*;
use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;

/// Channels and tokens by input.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of initialization and batches
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/prune_per_input")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few images
    #[arg(long)]
    smoke: bool,
    /// Epochs of each training
    #[arg(long, default_value_t = 4)]
    epochs: u64,
}

const BATCH: usize = 64;
const DENSITIES: [f32; 4] = [1.0, 0.75, 0.5, 0.25];
/// Batches that running statistics are taken of: with momentum 0.1 the old ones count for 2 % after them.
const CALIBRATED: usize = 40;
/// Inputs of an answer.
const ASKED: usize = 20;

/// A setting of the knob, measured.
struct Point {
    name: String,
    flop: u64,
    ms: f64,
    accuracy: f64,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (mut train, mut test) = data::idx::fashion8k(&folder).context("the images of the repository")?;
    if o.smoke {
        (train, test) = (train.first_per_class(13), test.first_per_class(4));
    }
    let dims = [test.channels(), test.height(), test.width()];

    // Channels: each step trains one of the densities, in turn, so that the parameters know all of them.
    let gated = GatedCnn::new("gated", dims[0], &[(32, 2), (64, 1), (64, 2), (64, 1)], 10);
    let settings = DENSITIES.map(|d| gated.at_density(d)).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mix = settings.clone();
    let fit = Fit::new(optim::adam(schedule(&o, &train)?), move |params: &Params, (x, y): (Tensor, Tensor), key| {
        let mut total: Option<(Tensor, Params)> = None;
        for network in [&mix[0], &mix[2], &mix[3]] {
            let mut pass = Pass::train(Key::from_tensor(key.clone())?);
            let loss = loss::cross_entropy(&network.apply(params, &x, &mut pass)?, &y)?;
            total = Some(match total {
                // Running statistics of the full layers; each density gets its own below.
                None => (loss, params.with_buffers(pass.take_updates())?),
                Some((sum, params)) => (sum.add(&loss)?, params),
            });
        }
        total.ok_or_else(|| acclimate::train::Error::argument("densities", "at least one", "none"))
    });
    let params = train_on(&o, &device, fit, gated.init(&device, o.seed)?, &train, "gated channels")?;
    let mut rungs = Vec::new();
    for (density, network) in DENSITIES.iter().zip(settings) {
        let params = calibrate(&o, &network, &params, &train)?;
        rungs.push((format!("density {density}"), network, params));
    }
    let channels = measure(rungs, &test)?;
    print("channels by input (FBS)", &channels);

    // Tokens: trained whole; fewer are passed on only when answering.
    let full = TokenEncoder::new("vit", dims, 4, [64, 4, 4], 10)?;
    let network = full.clone();
    let fit = Fit::supervised(network, optim::adam(schedule(&o, &train)?), loss::cross_entropy);
    let params = train_on(&o, &device, fit, full.init(&device, o.seed)?, &train, "tokens")?;
    let mut settings = vec![("all tokens".to_owned(), full.clone())];
    for share in [0.7, 0.5, 0.3] {
        settings.push((format!("keep {share} in blocks 2, 3"), full.reducing(&[1, 2], Reduction::Keep(share))));
    }
    let shared = |settings: Vec<(String, TokenEncoder)>| {
        settings.into_iter().map(|(name, network)| (name, network, params.clone())).collect()
    };
    let kept = measure(shared(settings), &test)?;
    print("tokens by attention (EViT)", &kept);
    let mut settings = vec![("all tokens".to_owned(), full.clone())];
    for pairs in [4, 8, 12] {
        settings.push((format!("merge {pairs} in every block"), full.reducing(&[0, 1, 2, 3], Reduction::Merge(pairs))));
    }
    let merged = measure(shared(settings), &test)?;
    print("tokens by likeness (ToMe)", &merged);

    let path = o.out.join("report.html");
    report(&device, &o, [&channels, &kept, &merged], test.len())?.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        let rows = |points: &[Point]| {
            let row = |p: &Point| json!({ "setting": p.name, "flop": p.flop, "ms": p.ms, "accuracy": p.accuracy });
            points.iter().map(row).collect::<Vec<_>>()
        };
        println!(
            "{}",
            json!({ "device": device.to_string(), "images": test.len(), "inputs_of_an_answer": ASKED, "channels": rows(&channels),
                "kept_tokens": rows(&kept), "merged_tokens": rows(&merged), "report": path })
        );
    }
    Ok(())
}

fn schedule(o: &Options, train: &Images) -> Result<Schedule> {
    let steps = o.epochs * Batches::new(train.len(), BATCH, o.seed, Tail::Drop)?.per_epoch() as u64;
    Ok(Schedule::cosine(2e-3, steps).warm_up((steps / 20).max(1)))
}

fn train_on(
    o: &Options,
    device: &Device,
    fit: Fit<(Tensor, Tensor)>,
    params: Params,
    train: &Images,
    label: &str,
) -> Result<Params> {
    let fit = fit.epochs(if o.smoke { 1 } else { o.epochs }).seed(o.seed).label(label);
    let batches = Batches::new(train.len(), BATCH, o.seed, Tail::Drop)?;
    let trained = fit.run(fit.begin(&params)?, &batches, |at| {
        let dims = [at.len(), train.channels(), train.height(), train.width()];
        let x = Tensor::from_slice(device, &train.to_f32_at(at)?, &dims)?;
        Ok((x, Tensor::from_slice(device, &train.labels_at(at)?, &[at.len()])?))
    })?;
    Ok(trained.params)
}

/// The parameters with running statistics of their own for a density: what a normalization sees depends on what the layers
/// before it left out (Yu and Huang 2019).
fn calibrate(o: &Options, network: &GatedCnn, params: &Params, train: &Images) -> Result<Params> {
    let model = network.clone();
    let step = compile(move |(params, x): (Params, Tensor)| {
        let mut pass = Pass::train(Key::new(params.device(), 0)?);
        let logits = model.apply(&params, &x, &mut pass)?;
        Ok::<_, acclimate::train::Error>((params.with_buffers(pass.take_updates())?, logits))
    });
    let batches = Batches::new(train.len(), BATCH, o.seed, Tail::Drop)?;
    let mut params = params.clone();
    for at in batches.epoch(0).take(CALIBRATED) {
        let dims = [at.len(), train.channels(), train.height(), train.width()];
        let x = Tensor::from_slice(params.device(), &train.to_f32_at(&at)?, &dims)?;
        params = step.call((params, x))?.0;
    }
    Ok(params)
}

/// Accuracy and time of every setting; and what happens when the time runs short.
fn measure<L: Layer + 'static>(settings: Vec<(String, L, Params)>, test: &Images) -> Result<Vec<Point>> {
    let device = settings.first().context("settings")?.2.device().clone();
    let batch = |start: usize| {
        let dims = [ASKED, test.channels(), test.height(), test.width()];
        Ok::<_, anyhow::Error>(Tensor::from_slice(&device, &test.to_f32(start..start + ASKED)?, &dims)?)
    };
    let n = settings.len();
    let mut rungs = Rungs::new(settings, &batch(0)?)?;
    let mut points = Vec::new();
    for (i, rung) in rungs.rungs().to_vec().into_iter().enumerate() {
        let mut right = 0;
        let starts: Vec<usize> = (0..test.len() / ASKED).map(|b| b * ASKED).collect();
        for &start in &starts {
            let said = rungs.answer_on(i, &batch(start)?)?;
            right += said.chunks(10).zip(&test.labels()[start..]).filter(|(z, y)| best(z) == **y as usize).count();
        }
        let accuracy = right as f64 / (starts.len() * ASKED) as f64;
        points.push(Point { name: rung.name, flop: rung.flop, ms: rung.time.as_secs_f64() * 1e3, accuracy });
    }
    // Half of what everything takes, and next to nothing.
    for left in [rungs.rungs()[0].time / 2, Duration::from_nanos(1)] {
        let answer = rungs.answer(&batch(0)?, Some(left))?;
        println!(
            "  with {:.2} ms left: {} of {n} settings, `{}`",
            left.as_secs_f64() * 1e3,
            answer.rung + 1,
            rungs.rungs()[answer.rung].name
        );
    }
    Ok(points)
}

fn best(logits: &[f32]) -> usize {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i)
}

fn print(title: &str, points: &[Point]) {
    println!("{title}");
    println!("{:<30} {:>8} {:>7} {:>10} {:>8} {:>9}", "", "MFLOP", "share", "ms of 20", "share", "accuracy");
    for p in points {
        println!(
            "{:<30} {:>8.2} {:>7.2} {:>10.2} {:>8.2} {:>9.4}",
            p.name,
            p.flop as f64 / 1e6,
            p.flop as f64 / points[0].flop as f64,
            p.ms,
            p.ms / points[0].ms,
            p.accuracy
        );
    }
}

fn report(device: &Device, o: &Options, parts: [&[Point]; 3], images: usize) -> Result<Report> {
    let [channels, kept, merged] = parts;
    let mut report = Report::new("Less work for each input");
    report.lede(&format!(
        "One set of parameters at several settings of its knob, planned in advance: {} test images, answers of {ASKED} inputs.",
        images
    ));
    report.facts([("device", device.to_string()), ("seed", o.seed.to_string()), ("epochs", o.epochs.to_string())]);
    let series = |name: &str, points: &[Point], cost: fn(&Point) -> f64| Series {
        name: name.into(),
        points: points.iter().map(|p| (cost(p), p.accuracy)).collect(),
    };
    let plot = |title: &str, x: &str, cost: fn(&Point) -> f64| LinePlot {
        title: title.into(),
        x_label: x.into(),
        y_label: "accuracy".into(),
        series: vec![
            series("channels by input", channels, cost),
            series("tokens by attention", kept, cost),
            series("tokens by likeness", merged, cost),
        ],
        y_range: None,
    };
    report.plots(&[
        plot("Accuracy for the work", "MFLOP of an input", |p| p.flop as f64 / 1e6),
        plot("Accuracy for the time", "ms of an answer", |p| p.ms),
    ]);
    for (title, points) in
        [("Channels by input", channels), ("Tokens by attention", kept), ("Tokens by likeness", merged)]
    {
        report.section(title).table(
            &["setting", "MFLOP", "ms", "accuracy"],
            points.iter().map(|p| {
                [
                    p.name.clone(),
                    format!("{:.2}", p.flop as f64 / 1e6),
                    format!("{:.2}", p.ms),
                    format!("{:.4}", p.accuracy),
                ]
            }),
        );
    }
    Ok(report)
}
