//! A small network learns from a large one, beside the same network that learns from the labels alone: the same first
//! weights, the same batches of the same views, as many steps; paired over seeds. Then, in use, it goes on learning from the
//! teacher on a shifted stream without labels, within guards.
//!
//! Fails if the mean difference over at least three seeds is not above twice its standard error.

#[path = "distill/online.rs"]
mod online;
#[path = "distill/report.rs"]
mod report;
#[path = "distill/school.rs"]
mod school;
#[path = "distill/subject.rs"]
mod subject;

use std::path::{Path, PathBuf};

use acclimate::prelude::*;
use acclimate::train::weights;
use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use school::{Method, Views, right, train};
use serde::{Deserialize, Serialize};
use serde_json::json;
use subject::{Subject, subject};

/// Distil a large network into a small one.
#[derive(Parser)]
struct Options {
    /// Weights of a CIFAR-10 ResNet (safetensors), the teacher; without them networks are trained on the repository's images
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Its training images (CIFAR-10 records)
    #[arg(long)]
    train: Option<PathBuf>,
    /// Images to be judged by
    #[arg(long)]
    images: Option<PathBuf>,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// The first seed: of weights and batches
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds; those that the folder `--out` has results of, made with the same settings, are not trained again
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Folder for the report and for what is kept between runs
    #[arg(long, default_value = "run/distill")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few images and steps, not judged
    #[arg(long)]
    smoke: bool,
    /// Depth of the student, 6n + 2
    #[arg(long, default_value_t = 26)]
    depth: usize,
    /// What the students of a seed begin with
    #[arg(long, value_enum, default_value = "seed")]
    start: Start,
    /// What students learn from, beside the labels alone
    #[arg(long, value_enum, value_delimiter = ',', default_value = "logits")]
    methods: Vec<Method>,
    /// Views of each training image
    #[arg(long, default_value_t = 16)]
    views: usize,
    /// Passes through the training images, a multiple of the views
    #[arg(long, default_value_t = 160)]
    passes: u64,
    /// Views of a batch
    #[arg(long, default_value_t = 50)]
    batch: usize,
    /// Largest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 4e-3)]
    rate: f32,
    /// T, which softens answers
    #[arg(long, default_value_t = 4.0)]
    temperature: f32,
    /// What the teacher's answers count against the labels
    #[arg(long, default_value_t = 0.9)]
    alpha: f32,
    /// Weight of a hint
    #[arg(long, default_value_t = 1e-3)]
    hint: f32,
    /// Weight of an attention map
    #[arg(long, default_value_t = 5.0)]
    attention: f32,
    /// Shifts of the stream that the student goes on learning on; `clean` is none
    #[arg(long, value_delimiter = ',', default_value = "contrast,gaussian")]
    shifts: Vec<String>,
    /// Their severity
    #[arg(long, default_value_t = 3)]
    severity: u8,
    /// Learning rate in use
    #[arg(long, default_value_t = 4e-3)]
    online_rate: f64,
    /// Judges on this share of the training images, which are not trained on, in place of the test images: for choosing
    /// constants
    #[arg(long)]
    hold_out: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Start {
    /// Weights drawn from the seed
    Seed,
    /// Evenly spaced residual blocks of the teacher
    Teacher,
}

/// What one student did.
#[derive(Clone, Serialize, Deserialize)]
struct Judged {
    method: Method,
    right: Vec<bool>,
    losses: Vec<(f64, f64)>,
    cpu_seconds: f64,
}

/// All students of one seed.
#[derive(Clone, Serialize, Deserialize)]
struct SeedRun {
    settings: String,
    seed: u64,
    students: Vec<Judged>,
}

impl Judged {
    fn accuracy(&self) -> f64 {
        self.right.iter().filter(|r| **r).count() as f64 / self.right.len().max(1) as f64
    }
}

/// A method against the same student trained alone, seed by seed.
#[derive(Serialize)]
struct Difference {
    method: Method,
    by_seed: Vec<f64>,
    mean: f64,
    standard_error: f64,
}

fn main() -> Result<()> {
    env_logger::init();
    let mut o = Options::parse();
    if o.smoke {
        (o.seeds, o.views, o.passes, o.batch) = (1, 2, 2, 10);
        o.shifts.truncate(1);
    }
    o.methods.retain(|m| *m != Method::Alone);
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let subject = subject(&o, &device)?;
    let (large, small) = (subject.teacher_params.n_values(), subject.student.init(&device, 0)?.n_values());
    println!("{}: {large} parameters, {small} ({:.0} %)", subject.name, 100.0 * small as f64 / large as f64);
    let views = Views::new(&subject.train, o.views);
    let logits = views.taught(&subject, &o.out, o.smoke)?;
    let teacher = right(&subject.teacher, &subject.teacher_params, &subject.test)?;
    let teacher = teacher.iter().filter(|r| **r).count() as f64 / teacher.len() as f64;
    println!(
        "{} training images, {} views each; teacher {teacher:.4} of {}",
        subject.train.len(),
        o.views,
        subject.test.len()
    );

    let mut runs = Vec::new();
    for seed in o.seed..o.seed + o.seeds {
        let run = seed_run(&subject, &views, &logits, &o, seed)?;
        let row: Vec<String> =
            run.students.iter().map(|s| format!("{} {:.4}", s.method.name(), s.accuracy())).collect();
        println!("seed {seed}: {}", row.join(", "));
        runs.push(run);
    }
    let differences = differences(&runs);
    for d in &differences {
        let error = if runs.len() > 1 { format!(" ± {:.4}", d.standard_error) } else { String::new() };
        println!("{} against alone: {:+.4}{error}, seeds: {}", d.method.name(), d.mean, runs.len());
    }
    // The first method's student of the last seed.
    let streams = match runs.last().and_then(|run| run.students.get(1)) {
        Some(judged) => {
            let path = student_path(&o, o.seed + o.seeds - 1, judged.method);
            let student = weights::load(path, &subject.student.init(&device, 0)?)?;
            online::streams(&subject, &student, &o)?
        }
        None => Vec::new(),
    };
    for stream in &streams {
        println!("{}, teacher {:.4}:", stream.shift, stream.teacher);
        for s in &stream.students {
            let distance = s.distances.iter().sum::<f64>() / s.distances.len().max(1) as f64;
            println!(
                "  {:<31} right {:.4}, agrees with the teacher {:.4}, T² KL {distance:.3}, steps kept {}, undone {}, \
                 hostile batches {}, {} without effect",
                s.name, s.accuracy, s.agreement, s.kept, s.undone, s.hostile, s.harmless
            );
        }
    }
    let path = o.out.join("report.html");
    report::report(&subject, &runs, &differences, &streams, teacher, &device.to_string(), &o).write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        let line = json!({
            "device": device.to_string(), "subject": subject.name, "parameters": [large, small], "teacher": teacher,
            "n": subject.test.len(), "seeds": runs.len(), "differences": differences, "streams": streams, "report": path,
        });
        println!("{line}");
    }
    let judged = !o.smoke && o.hold_out.is_none() && runs.len() >= 3;
    if let (true, Some(d)) = (judged, differences.first()) {
        let (mean, error) = (d.mean, d.standard_error);
        ensure!(mean > 2.0 * error, "{mean:+.4} ± {error:.4}; expected a mean above twice its standard error");
    }
    Ok(())
}

/// Where a student's weights are kept.
fn student_path(o: &Options, seed: u64, method: Method) -> PathBuf {
    o.out.join(format!("student-{seed}-{}.safetensors", method.name()))
}

/// Everything that decides what a run gives.
fn settings(o: &Options, subject: &Subject) -> Result<String> {
    let networks = (&subject.teacher_params.hash()?[..12], o.depth, subject.train.len(), subject.test.len());
    let training = (o.views, o.passes, o.batch, o.rate, o.temperature, o.alpha, o.hint, o.attention, &o.methods);
    Ok(format!("{networks:?} {:?} {training:?}", o.start))
}

/// Trains the students of a seed, or reads what they did.
fn seed_run(subject: &Subject, views: &Views<'_>, logits: &[f32], o: &Options, seed: u64) -> Result<SeedRun> {
    let settings = settings(o, subject)?;
    let path = o.out.join(format!("seed-{seed}.json"));
    if !o.smoke
        && let Some(run) = read(&path)
        && run.settings == settings
    {
        return Ok(run);
    }
    std::fs::create_dir_all(&o.out)?;
    let mut alone: Option<Params> = None;
    let mut students = Vec::new();
    for method in std::iter::once(Method::Alone).chain(o.methods.iter().copied()) {
        let student = train(subject, views, logits, method, alone.as_ref(), o, seed)?;
        let right = right(&subject.student, &student.params, &subject.test)?;
        weights::save(student_path(o, seed, method), &student.params)?;
        students.push(Judged { method, right, losses: student.losses, cpu_seconds: student.cpu_seconds });
        if method == Method::Alone {
            alone = Some(student.params);
        }
    }
    let run = SeedRun { settings, seed, students };
    if !o.smoke {
        std::fs::write(&path, serde_json::to_string(&run)?).with_context(|| path.display().to_string())?;
    }
    Ok(run)
}

fn read(path: &Path) -> Option<SeedRun> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

/// Mean and standard error of the differences to the student trained alone.
fn differences(runs: &[SeedRun]) -> Vec<Difference> {
    let methods: Vec<Method> =
        runs.first().map_or(Vec::new(), |r| r.students.iter().skip(1).map(|s| s.method).collect());
    let of = |(i, method): (usize, Method)| {
        let by_seed: Vec<f64> = runs.iter().map(|r| r.students[i + 1].accuracy() - r.students[0].accuracy()).collect();
        let n = by_seed.len() as f64;
        let mean = by_seed.iter().sum::<f64>() / n;
        let variance = by_seed.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Difference { method, mean, standard_error: (variance / n).sqrt(), by_seed }
    };
    methods.into_iter().enumerate().map(of).collect()
}
