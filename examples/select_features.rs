//! Buy features one by one, for each input its own: house prices (California) or clothes seen through a few windows
//! (Fashion-MNIST in 49 cells), by greedy conditional mutual information, beside the best static subsets of the same size.
//!
//! Fails if the adaptive choice is not better than the best static subsets over all sizes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::report::{LinePlot, Report, Series};
use acclimate::infer::select::{
    Acquired, Acquirer, Features, Judge, Method, Recipe, Rows, Selector, Stop, dime, gdfs, invase, l2x, learn,
    learn_static, warm_up,
};
use acclimate::prelude::*;
use acclimate::train::data::{idx, rng::Philox};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

/// Adaptive feature selection on a table.
#[derive(Parser)]
struct Options {
    /// The table `california_housing.csv.gz` (else it is looked for in the folder ACCLIMATE_DATA; else the clothes of the
    /// repository are taken)
    #[arg(long)]
    data: Option<PathBuf>,
    /// The clothes of the repository, even if the table is there
    #[arg(long)]
    clothes: bool,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "cpu")]
    device: String,
    /// First seed of split, networks and noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/select_features")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few rows and epochs; the comparison is printed and not required
    #[arg(long)]
    smoke: bool,
    /// Epochs of the methods (and of each static predictor)
    #[arg(long)]
    epochs: Option<u64>,
}

const NUMBERS: [&str; 7] =
    ["longitude", "latitude", "housing_median_age", "total_rooms", "population", "households", "median_income"];
const TARGET: &str = "median_house_value";
const CATEGORY: &str = "ocean_proximity";
/// Classes of prices: fifths of the training rows.
const CLASSES: usize = 5;
/// Pixels of a cell's side.
const CELL: usize = 4;
/// Static candidates of each size that get a predictor of their own.
const CANDIDATES: usize = 2;

/// A task: rows to learn from, to choose on, and to be judged by.
struct Task {
    name: &'static str,
    features: Features,
    classes: usize,
    /// Largest number of features that is compared.
    most: usize,
    train: Rows,
    validation: Rows,
    test: Rows,
}

/// Accuracy for each number of features, from 1.
struct Curve {
    name: String,
    /// Mean number of features, accuracy.
    points: Vec<(f64, f64)>,
}

struct Outcome {
    curves: Vec<Curve>,
    statics: Vec<Vec<usize>>,
    shown: Vec<(Acquired, u32)>,
    mask_methods: Vec<(String, f64, f64)>,
    seconds: f64,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let seeds = if o.smoke { 1 } else { o.seeds.max(1) };
    let mut outcomes = Vec::new();
    let mut last = None;
    for seed in o.seed..o.seed + seeds {
        let task = task(&o, seed)?;
        println!(
            "{}, seed {seed}: {} features, {} rows to learn from, {} to choose on, {} to be judged by",
            task.name,
            task.features.len(),
            task.train.len(),
            task.validation.len(),
            task.test.len()
        );
        let outcome = run(&device, &task, &o, seed)?;
        print_curves(&task, &outcome);
        outcomes.push(outcome);
        last = Some(task);
    }
    let task = last.context("no seed")?;
    let (means, gains) = compare(&task, &outcomes);
    let path = o.out.join("report.html");
    report(&device, &task, &outcomes, &means, &o)?.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        let curves: Vec<_> = means.iter().map(|c| json!({ "name": c.name, "points": c.points })).collect();
        println!(
            "{}",
            json!({ "device": device.to_string(), "task": task.name, "seeds": seeds, "curves": curves,
            "mean_gain_over_static": gains, "report": path })
        );
    }
    let best = gains.iter().map(|g| g.1).fold(f64::NEG_INFINITY, f64::max);
    ensure!(
        o.smoke || best > 0.0,
        "adaptive selection gains {best:.4} over static subsets; expected more than nothing"
    );
    Ok(())
}

fn task(o: &Options, seed: u64) -> Result<Task> {
    let there =
        || std::env::var_os("ACCLIMATE_DATA").map(|folder| Path::new(&folder).join("california_housing.csv.gz"));
    let table = o.data.clone().or_else(there).filter(|path| path.exists() && !o.clothes);
    match table {
        Some(path) => houses(&path, o, seed),
        None => clothes(o, seed),
    }
}

/// Which fifth of the prices a block of houses belongs to.
fn houses(path: &Path, o: &Options, seed: u64) -> Result<Task> {
    let table = Table::read(path, &[&NUMBERS[..], &[TARGET]].concat())?;
    let (category, names) = Table::read_categories(path, CATEGORY)?;
    let (numbers, price) = (table.matrix(&NUMBERS)?, table.column(TARGET)?);
    let mut order: Vec<usize> = (0..table.n_rows()).collect();
    Philox::from_seed(seed).fold_name("houses").stream(0).shuffle(&mut order);
    if o.smoke {
        order.truncate(2000);
    }
    let (train, rest) = order.split_at(order.len() * 6 / 10);
    let (validation, test) = rest.split_at(rest.len() / 2);
    let mut prices: Vec<f64> = train.iter().map(|&i| price[i]).collect();
    prices.sort_by(f64::total_cmp);
    let cuts: Vec<f64> = (1..CLASSES).map(|c| prices[prices.len() * c / CLASSES]).collect();
    let width = NUMBERS.len();
    let moments: Vec<(f64, f64)> = (0..width)
        .map(|j| {
            // Counts and incomes have long tails: their logarithms are scaled.
            let values: Vec<f64> = train.iter().map(|&i| shaped(j, numbers[i * width + j])).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (mean, variance.sqrt().max(1e-9))
        })
        .collect();
    let rows = |part: &[usize]| {
        let mut x = Vec::with_capacity(part.len() * (width + names.len()));
        for &i in part {
            for (j, (mean, deviation)) in moments.iter().enumerate() {
                x.push(((shaped(j, numbers[i * width + j]) - mean) / deviation) as f32);
            }
            x.extend((0..names.len()).map(|c| if c == category[i] { 1.0 } else { 0.0 }));
        }
        let y = part.iter().map(|&i| cuts.iter().filter(|cut| price[i] >= **cut).count() as u32).collect();
        Rows::new(x, y, width + names.len())
    };
    let mut widths = vec![1; width];
    widths.push(names.len());
    let features = Features::named(NUMBERS.into_iter().chain([CATEGORY]))?.widths(&widths)?;
    Ok(Task {
        name: "California house prices, in fifths",
        most: features.len() - 1,
        features,
        classes: CLASSES,
        train: rows(train)?,
        validation: rows(validation)?,
        test: rows(test)?,
    })
}

/// A column before it is scaled: the logarithm of what has a long tail.
fn shaped(column: usize, value: f64) -> f64 {
    if column >= 3 { (value + 1.0).ln() } else { value }
}

/// Clothes, as the mean brightness of 49 cells.
fn clothes(o: &Options, seed: u64) -> Result<Task> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (train, test) = idx::fashion8k(folder)?;
    let (train, test) = if o.smoke { (train.first_per_class(100), test.first_per_class(30)) } else { (train, test) };
    let (train, validation) = train.split(0.8, seed)?;
    let rows = |images: &Images| {
        let (side, mut x) = (images.width() / CELL, Vec::new());
        for i in 0..images.len() {
            let image = images.image(i);
            for cell in 0..side * side {
                let (r, c) = (cell / side * CELL, cell % side * CELL);
                let inside = (0..CELL * CELL).map(|p| u32::from(image[(r + p / CELL) * images.width() + c + p % CELL]));
                x.push(inside.sum::<u32>() as f32 / (CELL * CELL * 255) as f32 * 2.0 - 1.0);
            }
        }
        Rows::new(x, images.labels().to_vec(), side * side)
    };
    let side = train.width() / CELL;
    let names = (0..side * side).map(|cell| format!("row {} column {}", cell / side + 1, cell % side + 1));
    Ok(Task {
        name: "Fashion-MNIST in 49 cells",
        features: Features::named(names)?,
        classes: 10,
        most: 10,
        train: rows(&train)?,
        validation: rows(&validation)?,
        test: rows(&test)?,
    })
}

fn run(device: &Device, task: &Task, o: &Options, seed: u64) -> Result<Outcome> {
    let started = Instant::now();
    let many = task.features.len() > 12;
    let epochs = o.epochs.unwrap_or(if o.smoke { 2 } else { 30 });
    let recipe = Recipe { warm_up: 0, epochs, batch: 256, rate: 2e-3, last_rate: 4e-4, seed, progress: Progress::Auto };
    let hidden: &[usize] = if o.smoke { &[32] } else { &[128, 128] };
    let selector = |method: Method| -> Result<Arc<Selector>> {
        Ok(Arc::new(Selector::mlp(task.features.clone(), task.classes, hidden, 0.1, method)?))
    };

    // A predictor under random masks: where static subsets are searched with, and both policies start from.
    let base = selector(dime(task.most))?;
    let warm = warm_up(&base, base.init(device, seed)?, &task.train, &Recipe { warm_up: epochs, ..recipe.clone() })?;
    let (judge, tested) = (Judge::new(&base, &task.validation), Judge::new(&base, &task.test));
    let candidates = judge.best_subsets(&warm, task.most, CANDIDATES)?;
    let flat: Vec<Vec<usize>> = candidates.iter().flatten().cloned().collect();
    let learned = learn_static(&base, device, &task.train, &flat, &recipe)?;
    let (mut statics, mut points, mut next) = (Vec::new(), Vec::new(), 0);
    for of_size in &candidates {
        let mut best: Option<(f64, usize)> = None;
        for at in next..next + of_size.len() {
            let accuracy = judge.judge(&learned[at], &flat[at])?.accuracy;
            if best.is_none_or(|(a, _)| accuracy > a) {
                best = Some((accuracy, at));
            }
        }
        next += of_size.len();
        let (_, at) = best.context("no candidate")?;
        points.push((flat[at].len() as f64, tested.judge(&learned[at], &flat[at])?.accuracy));
        statics.push(flat[at].clone());
    }
    let mut curves = vec![Curve { name: "best static subset".into(), points }];

    let mut shown = Vec::new();
    // The best static pair starts; its better half comes first. Then most of the time is for cold draws, which are what will be
    // bought: warm ones are spread over many features at once.
    let mut pair = statics.get(1).cloned().unwrap_or_default();
    let single = statics.first().and_then(|s| s.first()).copied();
    pair.sort_by_key(|j| Some(*j) != single);
    let rest = task.most - pair.len();
    let greedy = [gdfs(rest).temperatures(0.5, 0.1, 3), dime(rest)];
    for method in greedy.map(|method| method.starting_with(&pair)) {
        let name = method.name();
        let net = selector(method)?;
        let params = learn(&net, warm.clone(), &task.train, &recipe)?;
        let acquirer = Acquirer::new(net.clone(), params.clone(), Stop::never().budget(task.most as f64))?;
        let (chosen_on, judged) = (acquirer.on(&task.validation)?, acquirer.on(&task.test)?);
        let held_out = by_count(name, &chosen_on, &task.validation, task.most).points;
        let mean = held_out.iter().map(|(_, a)| a).sum::<f64>() / held_out.len() as f64;
        println!("  {name}: mean over the sizes on validation {mean:.4}");
        curves.push(by_count(name, &judged, &task.test, task.most));
        curves.push(by_entropy(&format!("{name}, until sure"), &chosen_on, &judged, task));
        if name == "dime" {
            let stop = Stop::never().budget(task.most as f64).confident(0.3).worth(0.01);
            let few: Vec<usize> = (0..4.min(task.test.len())).collect();
            let few = task.test.at(&few)?;
            let receipts = Acquirer::new(net, params, stop)?.on(&few)?;
            shown = receipts.into_iter().zip(few.y().iter().copied()).collect();
        }
    }
    let mut mask_methods = Vec::new();
    if !many {
        for method in [invase(0.3), l2x(3)] {
            let name = method.name().to_owned();
            let net = selector(method)?;
            let params =
                learn(&net, net.init(device, seed)?, &task.train, &Recipe { warm_up: epochs / 3, ..recipe.clone() })?;
            let kept = Acquirer::new(net, params, Stop::never())?.select(&task.test)?;
            let n = kept.len() as f64;
            let right = kept.iter().zip(task.test.y()).filter(|(k, y)| best(&k.probabilities) == **y as usize).count();
            mask_methods.push((name, kept.iter().map(|k| k.features.len() as f64).sum::<f64>() / n, right as f64 / n));
        }
    }
    Ok(Outcome { curves, statics, shown, mask_methods, seconds: started.elapsed().as_secs_f64() })
}

fn best(p: &[f32]) -> usize {
    p.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i)
}

/// Accuracy after each number of purchases.
fn by_count(name: &str, judged: &[Acquired], rows: &Rows, most: usize) -> Curve {
    let right = |k: usize| judged.iter().zip(rows.y()).filter(|(a, y)| a.after(k).0 == **y as usize).count();
    let n = judged.len() as f64;
    Curve { name: name.into(), points: (1..=most).map(|k| (k as f64, right(k) as f64 / n)).collect() }
}

/// Each input stops when its answer is sure: the entropy limit is the lowest of a hundred that spends at most k features in
/// the mean on the validation rows.
fn by_entropy(name: &str, chosen_on: &[Acquired], judged: &[Acquired], task: &Task) -> Curve {
    let highest = (task.classes as f64).ln();
    let limits: Vec<f64> = (0..=200).map(|i| highest * (f64::from(i) / 200.0).powi(2)).collect();
    let spent =
        |all: &[Acquired], limit: f64| all.iter().map(|a| a.until(limit).1 as f64).sum::<f64>() / all.len() as f64;
    let mut points = Vec::new();
    for k in 1..=task.most {
        let Some(limit) = limits.iter().copied().find(|limit| spent(chosen_on, *limit) <= k as f64) else { continue };
        let right = judged.iter().zip(task.test.y()).filter(|(a, y)| a.until(limit).0 == **y as usize).count();
        points.push((spent(judged, limit), right as f64 / judged.len() as f64));
    }
    Curve { name: name.into(), points }
}

fn print_curves(task: &Task, outcome: &Outcome) {
    for curve in &outcome.curves {
        let cells: Vec<String> = curve.points.iter().map(|(k, a)| format!("{k:.1}:{a:.4}")).collect();
        println!("  {:<22} {}", curve.name, cells.join("  "));
    }
    for (size, subset) in outcome.statics.iter().enumerate().take(4) {
        let names: Vec<&str> = subset.iter().map(|j| task.features.name(*j)).collect();
        println!("  best static {}: {}", size + 1, names.join(", "));
    }
    for (name, features, accuracy) in &outcome.mask_methods {
        println!("  {name}, which sees everything first: keeps {features:.2} features, accuracy {accuracy:.4}");
    }
    for (receipt, truth) in &outcome.shown {
        println!("  {receipt} (truth {truth})");
    }
    println!("  {:.0} s", outcome.seconds);
}

/// Curves averaged over the seeds, and for each adaptive one its mean gain over the static one of the same size.
fn compare(task: &Task, outcomes: &[Outcome]) -> (Vec<Curve>, Vec<(String, f64)>) {
    let n = outcomes.len() as f64;
    let mut means = Vec::new();
    for (c, curve) in outcomes[0].curves.iter().enumerate() {
        let points = (0..curve.points.len().min(task.most)).map(|i| {
            let of = |pick: fn(&(f64, f64)) -> f64| {
                outcomes.iter().filter_map(|o| o.curves[c].points.get(i)).map(pick).sum::<f64>() / n
            };
            (of(|p| p.0), of(|p| p.1))
        });
        means.push(Curve { name: curve.name.clone(), points: points.collect() });
    }
    println!(
        "mean over {} seeds, accuracy for each number of features; gain over the best static subset",
        outcomes.len()
    );
    let mut gains = Vec::new();
    for curve in &means {
        let gain: Vec<f64> = curve.points.iter().zip(&means[0].points).map(|(a, s)| a.1 - s.1).collect();
        let mean = gain.iter().sum::<f64>() / gain.len() as f64;
        let cells: Vec<String> = curve.points.iter().map(|(k, a)| format!("{k:.2}:{a:.4}")).collect();
        println!("  {:<22} {}  gain {:+.4}", curve.name, cells.join("  "), mean);
        if curve.name != means[0].name {
            gains.push((curve.name.clone(), mean));
        }
    }
    (means, gains)
}

fn report(device: &Device, task: &Task, outcomes: &[Outcome], means: &[Curve], o: &Options) -> Result<Report> {
    let mut report = Report::new("Features bought one by one");
    report.lede(&format!(
        "{}: each input asks for its next feature, knowing only those it has. Beside it the best static subset of each \
         size, with a predictor of its own.",
        task.name
    ));
    report.facts([
        ("device", device.to_string()),
        ("seeds", format!("{} from {}", outcomes.len(), o.seed)),
        ("rows", format!("{} / {} / {}", task.train.len(), task.validation.len(), task.test.len())),
        ("features", task.features.len().to_string()),
    ]);
    report.section("Accuracy against features used");
    let series = means.iter().map(|c| Series { name: c.name.clone(), points: c.points.clone() }).collect();
    report.plots(&[LinePlot {
        title: "Test accuracy".into(),
        x_label: "features, mean".into(),
        y_label: "accuracy".into(),
        series,
        y_range: None,
    }]);
    let head: Vec<String> = (1..=task.most).map(|k| k.to_string()).collect();
    let head: Vec<&str> = std::iter::once("").chain(head.iter().map(String::as_str)).collect();
    report.table(
        &head,
        means.iter().map(|c| {
            std::iter::once(c.name.clone()).chain(c.points.iter().map(|(_, a)| format!("{a:.4}"))).collect::<Vec<_>>()
        }),
    );
    let first = &outcomes[0];
    report.section("What was bought");
    for (receipt, truth) in &first.shown {
        report.text(&format!("{receipt}. The truth: class {truth}."));
    }
    report.section("Static subsets");
    report.table(
        &["size", "features"],
        first.statics.iter().map(|s| {
            vec![s.len().to_string(), s.iter().map(|j| task.features.name(*j)).collect::<Vec<_>>().join(", ")]
        }),
    );
    if !first.mask_methods.is_empty() {
        report.section("Selectors that see everything first");
        report.table(
            &["method", "features kept, mean", "accuracy"],
            first.mask_methods.iter().map(|(n, k, a)| vec![n.clone(), format!("{k:.2}"), format!("{a:.4}")]),
        );
    }
    Ok(report)
}
