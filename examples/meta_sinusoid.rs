//! Meta-learning on sinusoids (Finn, Abbeel, Levine 2017, section 5.1): a small network learns a starting point from which one
//! step on ten points of a new sinusoid is enough, beside a network that was simply trained on all of them.
//!
//! Fails if MAML's error after one step is above a quarter of the pretrained network's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::meta::{Meta, MetaLearner, Tasks, anil, fomaml, maml, meta_sgd, reptile};
use acclimate::infer::report::{LinePlot, Report, Series};
use acclimate::prelude::*;
use acclimate::train::data::rng::{Philox, Stream};
use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::json;

/// Starting points from which one step suffices.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of the network and of the tasks
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/meta_sinusoid")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few meta-steps; the comparison is printed and not required
    #[arg(long)]
    smoke: bool,
    /// These methods only (beside the pretrained network and MAML), separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Meta-steps of each method
    #[arg(long, default_value_t = 15_000)]
    steps: u64,
}

const SHOTS: usize = 10;
const TASKS: usize = 25;
const JUDGED: usize = 600;
const JUDGED_STEPS: usize = 10;
/// Inner rate: the paper's.
const RATE: f64 = 0.01;

/// Tasks y = A sin(x − φ), A in [0.1, 5], φ in [0, π], x in [−5, 5].
fn sinusoids(device: &Device, draw: &mut Stream, tasks: usize, query: usize) -> Result<Tasks> {
    let mut parts: [Vec<f32>; 4] = Default::default();
    for _ in 0..tasks {
        let (amplitude, phase) = (0.1 + 4.9 * draw.uniform(), std::f32::consts::PI * draw.uniform());
        for (part, n) in [(0, SHOTS), (2, query)] {
            for _ in 0..n {
                let x = 10.0 * draw.uniform() - 5.0;
                parts[part].push(x);
                parts[part + 1].push(amplitude * (x - phase).sin());
            }
        }
    }
    let tensor = |part: usize, n: usize| Tensor::from_slice(device, &parts[part], &[tasks, n, 1]);
    Ok(Tasks {
        support: tensor(0, SHOTS)?,
        support_target: tensor(1, SHOTS)?,
        query: tensor(2, query)?,
        query_target: tensor(3, query)?,
    })
}

struct Trained {
    name: String,
    /// Mean squared error after 0, 1, .. steps.
    losses: Vec<f64>,
    /// Standard error of the error after one step.
    error: f64,
    curve: Vec<(f64, f64)>,
    learner: MetaLearner,
    seconds: f64,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let steps = if o.smoke { 300 } else { o.steps };
    let model: Arc<dyn Layer> = Arc::new(Mlp::new("net", 1, &[40, 40], 1));
    let head = ["net.fc3.weight", "net.fc3.bias"];
    let outer = || optim::adam(Schedule::cosine_to(1e-3, 1e-4, steps));
    let methods: Vec<(Meta, Optimizer)> = vec![
        (maml(RATE, 1), outer()),
        (fomaml(RATE, 1), outer()),
        (anil(RATE, 1, head), outer()),
        (meta_sgd(RATE, 1), outer()),
        // Reptile takes the steps of the paper: Adam without momentum, ten points in two batches, over and over.
        (reptile(optim::adam(0.01).betas(0.0, 0.999), 8).minibatch(5), optim::sgd(Schedule::linear(1.0, 0.0, steps))),
    ];
    let mut results = vec![pretrained(&device, &model, &o, steps)?];
    for (meta, outer) in methods {
        if !o.only.is_empty() && meta.name() != "maml" && !o.only.iter().any(|name| name == meta.name()) {
            continue;
        }
        let learner = MetaLearner::new(model.clone(), model.init(&device, o.seed)?, loss::mse, meta, outer)?;
        results.push(train(&device, learner, &o, steps)?);
    }
    println!("mean squared error over {JUDGED} new sinusoids, {SHOTS} points each, {steps} meta-steps");
    println!("{:<12} {:>9} {:>18} {:>9} {:>9} {:>9}", "", "no step", "one step", "5 steps", "10 steps", "seconds");
    for r in &results {
        let l = &r.losses;
        println!(
            "{:<12} {:>9.3} {:>9.3} ± {:<6.3} {:>9.3} {:>9.3} {:>9.1}",
            r.name, l[0], l[1], r.error, l[5], l[10], r.seconds
        );
    }
    let path = o.out.join("report.html");
    report(&device, &results, &o, steps)?.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        let rows: Vec<_> = results
            .iter()
            .map(|r| json!({ "method": r.name, "mse_by_step": r.losses, "standard_error": r.error, "seconds": r.seconds }))
            .collect();
        println!(
            "{}",
            json!({ "device": device.to_string(), "meta_steps": steps, "tasks": JUDGED, "methods": rows, "report": path })
        );
    }
    let ratio = results[1].losses[1] / results[0].losses[1];
    println!("MAML's error after one step is {ratio:.3} of the pretrained network's");
    ensure!(o.smoke || ratio <= 0.25, "MAML after one step: {ratio:.3} of the pretrained error; expected at most 0.25");
    Ok(())
}

/// The same 600 tasks for everybody.
fn judge(device: &Device, learner: &mut MetaLearner, seed: u64) -> Result<(Vec<f64>, f64)> {
    let tasks = sinusoids(device, &mut Philox::from_seed(seed).fold_name("judged").stream(0), JUDGED, 50)?;
    let judged = learner.judge(tasks, JUDGED_STEPS)?;
    let n = judged.each.len() as f64;
    let variance = judged.each.iter().map(|l| (f64::from(l[1]) - judged.losses[1]).powi(2)).sum::<f64>() / (n - 1.0);
    Ok((judged.losses, (variance / n).sqrt()))
}

fn train(device: &Device, mut learner: MetaLearner, o: &Options, steps: u64) -> Result<Trained> {
    let name = learner.method().name().to_owned();
    let mut shown = Progress::Auto.begin(&name, steps);
    let (started, mut curve, mut recent) = (Instant::now(), Vec::new(), 0.0);
    let every = (steps / 100).max(1);
    for step in 0..steps {
        let mut draw = Philox::from_seed(o.seed).fold_name("tasks").stream(step);
        recent += learner.step(sinusoids(device, &mut draw, TASKS, SHOTS)?)?;
        if (step + 1) % every == 0 {
            curve.push(((step + 1) as f64, recent / every as f64));
            shown.say(step + 1, &format!("loss after one step {:.3}", recent / every as f64));
            recent = 0.0;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let (losses, error) = judge(device, &mut learner, o.seed)?;
    shown.end(steps, &format!("{:.3} after one step", losses[1]));
    Ok(Trained { name, losses, error, curve, learner, seconds })
}

/// The baseline: the same network trained by the same optimizer on the points of the same tasks together. For a new task it
/// steps at the rate that is best for it of five.
fn pretrained(device: &Device, model: &Arc<dyn Layer>, o: &Options, steps: u64) -> Result<Trained> {
    let fit = Fit::supervised(model.clone(), optim::adam(Schedule::cosine_to(1e-3, 1e-4, steps)), loss::mse)
        .epochs(steps)
        .check_every((steps / 100).max(1))
        .label("pretrained");
    let started = Instant::now();
    let mut step = 0;
    let batches = Batches::new(1, 1, o.seed, Tail::Keep)?;
    let trained = fit.run(fit.begin(&model.init(device, o.seed)?)?, &batches, |_| {
        let mut draw = Philox::from_seed(o.seed).fold_name("tasks").stream(step);
        step += 1;
        let tasks = sinusoids(device, &mut draw, TASKS, SHOTS)
            .map_err(|e| acclimate::train::Error::argument("tasks", "tasks", e))?;
        let flat = |a: &Tensor, b: &Tensor| {
            let n = a.numel();
            acclimate::kernels::concat(&[&a.reshape(&[n, 1])?, &b.reshape(&[n, 1])?], 0)
        };
        Ok((flat(&tasks.support, &tasks.query)?, flat(&tasks.support_target, &tasks.query_target)?))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let curve = trained.run.history.points.iter().map(|p| (p.step as f64, p.loss)).collect();
    let mut best: Option<Trained> = None;
    for rate in [0.001, 0.003, 0.01, 0.03, 0.1] {
        let mut learner =
            MetaLearner::new(model.clone(), trained.params.clone(), loss::mse, fomaml(rate, 1), optim::sgd(0.0))?;
        let (losses, error) = judge(device, &mut learner, o.seed)?;
        if best.as_ref().is_none_or(|b| losses[1] < b.losses[1]) {
            best =
                Some(Trained { name: "pretrained".into(), losses, error, curve: Vec::clone(&curve), learner, seconds });
        }
    }
    best.ok_or_else(|| anyhow::anyhow!("no rate"))
}

fn report(device: &Device, results: &[Trained], o: &Options, steps: u64) -> Result<Report> {
    let mut report = Report::new("One step from a learned starting point");
    report.lede(&format!(
        "After one step on ten points of a new sinusoid, MAML's mean squared error is {:.3} and that of a network trained on \
         all sinusoids together {:.3} ({JUDGED} tasks).",
        results[1].losses[1], results[0].losses[1]
    ));
    report.facts([
        ("device", device.to_string()),
        ("seed", o.seed.to_string()),
        ("meta-steps", format!("{steps} of {TASKS} tasks")),
        ("network", "1 – 40 – 40 – 1, rectifiers".to_owned()),
    ]);
    report.section("Errors");
    let by_step = |r: &Trained| Series {
        name: r.name.clone(),
        points: r.losses.iter().enumerate().map(|(i, l)| (i as f64, *l)).collect(),
    };
    let curve = |r: &Trained| Series { name: r.name.clone(), points: r.curve.clone() };
    let plot = |title: &str, x: &str, y: &str, series| LinePlot {
        title: title.into(),
        x_label: x.into(),
        y_label: y.into(),
        series,
        y_range: None,
    };
    report.plots(&[
        plot(
            "Error over inner steps",
            "steps on ten points",
            "mean squared error",
            results.iter().map(by_step).collect(),
        ),
        plot("While learning", "meta-steps", "query loss", results.iter().skip(1).map(curve).collect()),
    ]);
    report.section("Three new sinusoids");
    report.text("What the starting point says, what it says after one step on ten points, and the truth.");
    let mut plots = Vec::new();
    for task in 0..3u64 {
        let mut draw = Philox::from_seed(o.seed).fold_name("shown").stream(task);
        let one = sinusoids(device, &mut draw, 1, 1)?;
        let (x, y) = (one.support.squeeze(0)?, one.support_target.squeeze(0)?);
        let grid: Vec<f32> = (0..=80).map(|i| i as f32 / 8.0 - 5.0).collect();
        let inputs = Tensor::from_slice(device, &grid, &[grid.len(), 1])?;
        let points = |v: &[f32]| grid.iter().zip(v).map(|(x, y)| (f64::from(*x), f64::from(*y))).collect::<Vec<_>>();
        let mut series = Vec::new();
        for (r, steps) in [(&results[1], 0), (&results[1], 1), (&results[0], 1)] {
            let params = r.learner.adapted(&x, &y, steps)?;
            let model = Mlp::new("net", 1, &[40, 40], 1);
            let name = if steps == 0 { "maml, no step".into() } else { format!("{}, one step", r.name) };
            series.push(Series { name, points: points(&model.forward(&params, &inputs)?.to_vec::<f32>()?) });
        }
        let mut given: Vec<(f64, f64)> =
            x.to_vec::<f32>()?.iter().zip(y.to_vec::<f32>()?).map(|(x, y)| (f64::from(*x), f64::from(y))).collect();
        given.sort_by(|a, b| a.0.total_cmp(&b.0));
        series.push(Series { name: "the ten points".into(), points: given });
        plots.push(plot(&format!("Task {}", task + 1), "x", "y", series));
    }
    report.plots(&plots);
    Ok(report)
}
