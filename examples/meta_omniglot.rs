//! One-shot learning of handwritten characters (Omniglot, Lake et al. 2015): a small network learns from the background
//! characters a starting point from which a few steps on one drawing of each of 20 new characters suffice to name 20 more.
//!
//! Fails if fewer than half of the 400 drawings of the 20 published runs are named right (chance 1 in 20).

#[path = "meta_omniglot/data.rs"]
mod drawings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::meta::{MetaLearner, Tasks, anil, maml};
use acclimate::infer::report::{ImageCard, Labelled as Named, LinePlot, Picture, Report, Series};
use acclimate::prelude::*;
use acclimate::train::data::rng::{Philox, Stream};
use acclimate::train::nn::{Activation, Conv2d, Flatten, GroupNorm, Linear, Sequential};
use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use drawings::{Character, PIXELS, Run, SIDE};
use serde_json::json;

/// Learn to learn characters from one drawing.
#[derive(Parser)]
struct Options {
    /// Folder with omniglot_images_background_small1.zip and omniglot_all_runs.zip (else ACCLIMATE_DATA)
    #[arg(long)]
    data: Option<PathBuf>,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of the network and of the tasks
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/meta_omniglot")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few meta-steps, not judged; without the data nothing but a line that says so
    #[arg(long)]
    smoke: bool,
    /// What moves in a task
    #[arg(long, value_enum, default_value_t = Method::Anil)]
    method: Method,
    /// Meta-steps
    #[arg(long, default_value_t = 1_200)]
    steps: u64,
    /// Judges on tasks of this background alphabet in place of the runs, and does not train on it: for choosing constants
    #[arg(long)]
    hold_out: Option<String>,
    /// Inner rate
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Inner steps
    #[arg(long, default_value_t = 3)]
    inner_steps: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    /// The head alone
    Anil,
    /// Everything
    Maml,
}

const WAYS: usize = 20;
/// Tasks of a meta-batch.
const TASKS: usize = 4;
/// Drawings of each character to be judged by, in training.
const QUERIES: usize = 2;
/// Small changes of each drawing.
const VARIANTS: usize = 3;
const CHANNELS: usize = 32;

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let folder = o.data.clone().or_else(|| std::env::var_os("ACCLIMATE_DATA").map(PathBuf::from));
    let files = ["omniglot_images_background_small1.zip", "omniglot_all_runs.zip"];
    let files = folder.as_ref().map(|f| files.map(|name| f.join(name))).filter(|f| f.iter().all(|p| p.exists()));
    let Some([background, runs]) = files else {
        ensure!(
            o.smoke,
            "no data: give `--data` or set ACCLIMATE_DATA to the folder with {}",
            "the two zip files of Omniglot"
        );
        println!("skipped: ACCLIMATE_DATA has no Omniglot");
        return Ok(());
    };
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let (mut characters, runs) = read(&background, &runs, &o)?;
    let (held, kept) = match &o.hold_out {
        Some(name) => characters.into_iter().partition(|c| c.alphabet.starts_with(name.as_str())),
        None => (Vec::new(), std::mem::take(&mut characters)),
    };
    println!("{} characters in four orientations to learn from", kept.len() / 4);
    let model = net();
    let params = model.init(&device, o.seed)?;
    let method = match o.method {
        Method::Anil => anil(o.rate, o.inner_steps, ["head.weight", "head.bias"]),
        Method::Maml => maml(o.rate, o.inner_steps),
    };
    let steps = if o.smoke { 6 } else { o.steps };
    let outer = optim::adam(Schedule::cosine_to(2e-3, 1e-4, steps)).clip_norm(10.0);
    let loss = |logits: &Tensor, labels: &Tensor| loss::cross_entropy(logits, labels);
    let mut learner = MetaLearner::new(model, params, loss, method, outer)?;
    let started = Instant::now();
    let curve = train(&device, &mut learner, &kept, &o, steps)?;
    let seconds = started.elapsed().as_secs_f64();

    let runs = if held.is_empty() { runs } else { (0..20).map(|i| held_out_run(&held, o.seed, i)).collect() };
    let answers = judge(&device, &mut learner, &runs, o.inner_steps)?;
    let right = |answers: &[Vec<usize>]| -> usize {
        answers.iter().zip(&runs).map(|(a, r)| a.iter().zip(&r.labels).filter(|(a, l)| a == l).count()).sum()
    };
    let n = 20 * WAYS;
    let (ours, pixels) = (right(&answers), right(&runs.iter().map(nearest).collect::<Vec<_>>()));
    let accuracy = ours as f64 / n as f64;
    let error = (accuracy * (1.0 - accuracy) / n as f64).sqrt();
    println!("{} in {seconds:.1} s: {ours} of {n} right: {accuracy:.4} ± {error:.4}", learner.method().name());
    println!("nearest pixels: {pixels} of {n} right: {:.4}; chance {:.4}", pixels as f64 / n as f64, 1.0 / WAYS as f64);
    let path = o.out.join("report.html");
    report(&device, &o, &runs, &answers, curve, accuracy, pixels as f64 / n as f64)?.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        println!(
            "{}",
            json!({
                "device": device.to_string(), "method": learner.method().name(), "meta_steps": steps, "seconds": seconds,
                "accuracy": accuracy, "standard_error": error, "nearest_pixels": pixels as f64 / n as f64, "n": n,
                "held_out": o.hold_out, "report": path,
            })
        );
    }
    ensure!(o.smoke || o.hold_out.is_some() || accuracy >= 0.5, "{accuracy:.4} right; expected at least .50");
    Ok(())
}

fn read(background: &Path, runs: &Path, o: &Options) -> Result<(Vec<Character>, Vec<Run>)> {
    let mut draw = Philox::from_seed(o.seed).fold_name("variants").stream(0);
    let variants = if o.smoke { 0 } else { VARIANTS };
    Ok((drawings::background(background, variants, &mut draw)?, drawings::runs(runs)?))
}

/// Four convolutions that halve the picture, each with group normalization, which keeps inputs apart; a linear head.
fn net() -> Arc<dyn Layer> {
    let mut layers = Sequential::new();
    for i in 0..4 {
        let inputs = if i == 0 { 1 } else { CHANNELS };
        layers = layers
            .then(Conv2d::new(format!("conv{i}"), inputs, CHANNELS, 3).same().strided(2).without_bias())
            .then(GroupNorm::new(format!("norm{i}"), 4, CHANNELS))
            .then(Activation::Relu);
    }
    Arc::new(layers.then(Flatten).then(Linear::new("head", CHANNELS * 4, WAYS)))
}

/// Pictures and labels of one task.
struct Drawn {
    support: Vec<u8>,
    query: Vec<u8>,
    query_labels: Vec<u32>,
}

/// 20 characters, one drawing of each to learn from and `queries` to be judged by; every second task stays within an alphabet.
fn draw_task(characters: &[Character], draw: &mut Stream, queries: usize, within: bool) -> Drawn {
    let pick = |draw: &mut Stream, n: usize| usize::try_from(draw.below(n as u64)).unwrap_or(0);
    let mut pool: Vec<&Character> = characters.iter().collect();
    if within {
        let alphabet = &characters[pick(draw, characters.len())].alphabet;
        pool.retain(|c| c.alphabet == *alphabet);
    }
    draw.shuffle(&mut pool);
    let mut task = Drawn { support: Vec::new(), query: Vec::new(), query_labels: Vec::new() };
    for (label, character) in (0u32..).zip(pool.into_iter().take(WAYS)) {
        let mut drawings: Vec<usize> = (0..character.pictures[0].len()).collect();
        draw.shuffle(&mut drawings);
        for (i, drawing) in drawings.into_iter().take(1 + queries).enumerate() {
            let picture = &character.pictures[pick(draw, character.pictures.len())][drawing];
            if i == 0 {
                task.support.extend(picture);
            } else {
                task.query.extend(picture);
                task.query_labels.push(label);
            }
        }
    }
    task
}

fn tasks(device: &Device, drawn: &[Drawn]) -> Result<Tasks> {
    let images = |of: fn(&Drawn) -> &Vec<u8>| -> Result<Tensor> {
        let pixels: Vec<f32> = drawn.iter().flat_map(|d| of(d).iter().map(|p| f32::from(*p) / 255.0)).collect();
        let rows = pixels.len() / drawn.len() / PIXELS;
        Ok(Tensor::from_slice(device, &pixels, &[drawn.len(), rows, 1, SIDE, SIDE])?)
    };
    let labels = |of: &dyn Fn(&Drawn) -> Vec<u32>| -> Result<Tensor> {
        let labels: Vec<u32> = drawn.iter().flat_map(of).collect();
        Ok(Tensor::from_slice(device, &labels, &[drawn.len(), labels.len() / drawn.len()])?)
    };
    Ok(Tasks {
        support: images(|d| &d.support)?,
        support_target: labels(&|_| (0..WAYS as u32).collect())?,
        query: images(|d| &d.query)?,
        query_target: labels(&|d| d.query_labels.clone())?,
    })
}

fn train(
    device: &Device,
    learner: &mut MetaLearner,
    characters: &[Character],
    o: &Options,
    steps: u64,
) -> Result<Vec<(f64, f64)>> {
    let mut shown = Progress::Auto.begin(learner.method().name(), steps);
    let every = (steps / 60).max(1);
    let (mut curve, mut recent) = (Vec::new(), 0.0);
    for step in 0..steps {
        let mut draw = Philox::from_seed(o.seed).fold_name("tasks").stream(step);
        let drawn: Vec<Drawn> = (0..TASKS).map(|i| draw_task(characters, &mut draw, QUERIES, i % 2 == 0)).collect();
        recent += learner.step(tasks(device, &drawn)?)?;
        if (step + 1) % every == 0 {
            curve.push(((step + 1) as f64, recent / every as f64));
            shown.say(step + 1, &format!("query loss {:.3}", recent / every as f64));
            recent = 0.0;
        }
    }
    shown.end(steps, &format!("query loss {:.3}", curve.last().map_or(f64::NAN, |c| c.1)));
    Ok(curve)
}

/// The position in `training` that each test drawing of each run is taken for.
fn judge(device: &Device, learner: &mut MetaLearner, runs: &[Run], steps: usize) -> Result<Vec<Vec<usize>>> {
    let drawn: Vec<Drawn> = runs
        .iter()
        .map(|r| Drawn {
            support: r.training.concat(),
            query: r.test.concat(),
            query_labels: r.labels.iter().map(|l| u32::try_from(*l).unwrap_or(u32::MAX)).collect(),
        })
        .collect();
    let judged = learner.judge(tasks(device, &drawn)?, steps)?;
    let best = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |b| b.0);
    Ok(judged.outputs.chunks(WAYS * WAYS).map(|run| run.chunks(WAYS).map(best).collect()).collect())
}

/// A run made of held-out characters.
fn held_out_run(characters: &[Character], seed: u64, i: u64) -> Run {
    let upright: Vec<Character> = characters
        .iter()
        .filter(|c| c.alphabet.ends_with("0 quarters"))
        .map(|c| Character { alphabet: c.alphabet.clone(), pictures: vec![c.pictures[0].clone()] })
        .collect();
    let task = draw_task(&upright, &mut Philox::from_seed(seed).fold_name("held out").stream(i), 1, false);
    let pictures = |flat: &[u8]| flat.chunks(PIXELS).map(<[u8]>::to_vec).collect::<Vec<_>>();
    Run { training: pictures(&task.support), test: pictures(&task.query), labels: (0..WAYS).collect() }
}

/// The training drawing with the largest cosine to each test drawing.
fn nearest(run: &Run) -> Vec<usize> {
    let product = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = |a: &[u8], b: &[u8]| product(a, b) / (product(a, a) * product(b, b)).sqrt().max(1e-9);
    let best = |test: &Vec<u8>| {
        let scores = run.training.iter().map(|t| cosine(test, t)).enumerate();
        scores.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |b| b.0)
    };
    run.test.iter().map(best).collect()
}

fn report(
    device: &Device,
    o: &Options,
    runs: &[Run],
    answers: &[Vec<usize>],
    curve: Vec<(f64, f64)>,
    accuracy: f64,
    pixels: f64,
) -> Result<Report> {
    let mut report = Report::new("Twenty new characters from one drawing each");
    report.lede(&format!(
        "{:.1} % of 400 drawings named right after one drawing of each of 20 characters; the nearest picture by pixels names \
         {:.1} %, chance 5 %.",
        100.0 * accuracy,
        100.0 * pixels
    ));
    report.facts([("device", device.to_string()), ("seed", o.seed.to_string()), ("method", format!("{:?}", o.method))]);
    report.section("Learning to learn");
    report.plots(&[LinePlot {
        title: "Query loss of training tasks".into(),
        x_label: "meta-steps".into(),
        y_label: "nats".into(),
        series: vec![Series { name: "query loss".into(), points: curve }],
        y_range: None,
    }]);
    report.section("Drawings of the first run");
    let run = &runs[0];
    let picture = |pixels: &[u8]| {
        Picture::from_unit(&pixels.iter().map(|p| 1.0 - f32::from(*p) / 255.0).collect::<Vec<_>>(), [1, SIDE, SIDE])
    };
    let mut cards = Vec::new();
    for (i, &answer) in answers[0].iter().enumerate().take(12) {
        let right = answer == run.labels[i];
        let mut pictures =
            vec![("to name".into(), picture(&run.test[i])?), ("taken for".into(), picture(&run.training[answer])?)];
        if !right {
            pictures.push(("is".into(), picture(&run.training[run.labels[i]])?));
        }
        let named =
            Named { method: "adapted".into(), class: format!("character {}", answer + 1), confidence: f32::NAN, right };
        cards.push(ImageCard { title: format!("drawing {}", i + 1), pictures, answers: vec![named] });
    }
    report.images(&cards)?;
    Ok(report)
}
