//! A smaller network out of a large one: channels are taken away where they matter least, what is left is trained on against
//! the answers of the network it came from. Beside it masks, which make nothing smaller or faster.
//!
//! With `--weights`, `--train` and `--images` a published ResNet for CIFAR-10 is pruned; without them a small network that is
//! trained on the repository's images first. The test images choose nothing: `--hold-out` keeps a share of the training
//! images to choose by.
//!
//! With the published network it fails if, at half the work, more than five points are lost or the forward pass is not 1.5
//! times as fast.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::evaluate::versus::Versus;
use acclimate::infer::prune::{
    Budget, Dependencies, Pruned, Score, Scores, Spread, WeightScores, Within, flop, input_norms,
};
use acclimate::infer::report::{LinePlot, Report, Series};
use acclimate::prelude::*;
use acclimate::train::data::Augment;
use acclimate::train::{nn::zoo::CifarResNet, weights};
use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde_json::json;

/// Prune channels, train on, compare.
#[derive(Parser)]
struct Options {
    /// safetensors file of a ResNet for CIFAR-10
    #[arg(long, requires_all = ["train", "images"])]
    weights: Option<PathBuf>,
    /// Images it was trained on, in CIFAR-10's layout
    #[arg(long)]
    train: Option<PathBuf>,
    /// Images to test on
    #[arg(long)]
    images: Option<PathBuf>,
    /// Depth of the network, 6n + 2
    #[arg(long, default_value_t = 56)]
    depth: usize,
    /// Share of the multiplications that stays
    #[arg(long, default_value_t = 0.5)]
    flop: f64,
    /// What tells which channels matter
    #[arg(long, value_enum, default_value_t = By::Taylor)]
    score: By,
    /// The same share of every layer, in place of what the score says
    #[arg(long)]
    even: bool,
    /// Channels stay multiples of this, or the least: kernels compute so many at a time
    #[arg(long, default_value_t = 16)]
    multiple: usize,
    /// A layer keeps at least so many; 0 lets residual branches go
    #[arg(long, default_value_t = 8)]
    least: usize,
    /// Epochs of training on
    #[arg(long)]
    epochs: Option<u64>,
    /// Highest learning rate
    #[arg(long, default_value_t = 0.02)]
    rate: f32,
    /// Share of the training images that is kept to choose by, and not trained on
    #[arg(long, default_value_t = 0.0)]
    hold_out: f64,
    /// A second device to time the two networks on
    #[arg(long)]
    time_on: Option<String>,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of batches and augmentation
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report and the pruned network
    #[arg(long, default_value = "run/prune")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few images, short training; nothing is required
    #[arg(long)]
    smoke: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    L1,
    Group,
    Scale,
    Taylor,
}

/// The published recipe of distillation for small networks, not tuned.
const TEMPERATURE: f32 = 4.0;
const ALPHA: f32 = 0.9;
const BATCH: usize = 64;
/// Batches of 32 for the gradients of Taylor scores.
const GRADIENTS: u64 = 40;

/// A network with its data.
struct Task {
    model: Arc<dyn Layer>,
    params: Params,
    train: Images,
    held_out: Option<Images>,
    test: Images,
    /// Layers that a residual stream runs through: they keep their width.
    spare: &'static [&'static str],
}

impl Task {
    fn dims(&self, n: usize) -> [usize; 4] {
        [n, self.test.channels(), self.test.height(), self.test.width()]
    }

    fn batch(&self, images: &Images, positions: &[usize]) -> acclimate::train::Result<(Tensor, Tensor)> {
        let pixels = images.to_f32_at(positions)?;
        self.tensors(images, positions, &pixels)
    }

    fn tensors(&self, images: &Images, at: &[usize], pixels: &[f32]) -> acclimate::train::Result<(Tensor, Tensor)> {
        let device = self.params.device();
        let x = Tensor::from_slice(device, pixels, &self.dims(at.len()))?;
        Ok((x, Tensor::from_slice(device, &images.labels_at(at)?, &[at.len()])?))
    }
}

/// A line of the table.
struct Row {
    name: String,
    flop: u64,
    values: usize,
    bytes: u64,
    /// Best of interleaved runs: an input alone, and each of a batch.
    ms: [f64; 2],
    right: Vec<bool>,
    held_out: Option<f64>,
}

impl Row {
    fn accuracy(&self) -> f64 {
        share(&self.right)
    }
}

fn share(right: &[bool]) -> f64 {
    right.iter().filter(|r| **r).count() as f64 / right.len().max(1) as f64
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let task = task(&o, &device)?;
    let x = Tensor::zeros(&device, &task.dims(1))?;

    let started = Instant::now();
    let found = Dependencies::of(&*task.model, &task.params, &x)?;
    let mut budget = Budget::flop(o.flop).multiple(o.multiple).least(o.least);
    if o.even {
        budget = budget.spread(Spread::Even);
    }
    let budget = task.spare.iter().fold(budget, |b, name| b.sparing(*name));
    let choice = found.choose(&scores(&o, &task, &found)?, &budget)?;
    let pruned = found.narrow(&*task.model, &task.params, &choice)?;
    println!("channels kept ({:.1} s):", started.elapsed().as_secs_f64());
    let widths: Vec<(String, usize, usize)> = (0..found.groups().len())
        .map(|g| (found.name(g).to_owned(), found.groups()[g].channels.len(), choice.count(g)))
        .collect();
    let shown: Vec<String> =
        widths.iter().map(|(name, of, kept)| format!("{} {kept}/{of}", name.trim_end_matches(".weight"))).collect();
    println!("  {}", shown.join(", "));

    let tuned = pruned.clone().with_params(tune(&o, &task, &pruned)?);
    std::fs::create_dir_all(&o.out).with_context(|| format!("create {}", o.out.display()))?;
    let file = o.out.join("pruned.safetensors");
    let bytes = tuned.save(&file)?;
    // What is measured below is what was read from the file.
    let tuned = Pruned::load(&*task.model, &task.params, &file)?;

    let whole = Pruned { model: task.model.clone(), params: task.params.clone(), kept: Default::default() };
    let masked = |masks: acclimate::infer::prune::Masks| {
        Ok::<_, anyhow::Error>(whole.clone().with_params(masks.apply(&task.params)?))
    };
    let inner = |path: &str| !task.spare.iter().any(|s| path.starts_with(s)) && !path.starts_with("linear");
    let magnitude = WeightScores::magnitude(&task.params, inner)?.lowest(0.5, Within::Model)?;
    let (calibration, _) = task.batch(&task.train, &(0..task.train.len().min(128)).collect::<Vec<_>>())?;
    let mut norms = input_norms(&*task.model, &task.params, &calibration)?;
    norms.retain(|path, _| inner(path));
    let wanda = WeightScores::wanda(&task.params, &norms)?.lowest(0.5, Within::Output)?;
    let full_bytes = weights::to_bytes(&task.params)?.len() as u64;
    let networks = [
        ("unpruned", whole.clone(), full_bytes),
        ("half the weights 0 (magnitude, one threshold)", masked(magnitude)?, full_bytes),
        ("half the weights 0 (Wanda, each output)", masked(wanda)?, full_bytes),
        ("pruned", pruned, bytes),
        ("pruned, trained on", tuned, bytes),
    ];
    let times = times(&networks.iter().map(|n| &n.1).collect::<Vec<_>>(), &task, &device)?;
    let mut rows = Vec::new();
    for ((name, network, bytes), ms) in networks.iter().zip(times) {
        let held_out = task.held_out.as_ref().map(|images| right(network, &task, images)).transpose()?;
        rows.push(Row {
            name: (*name).to_owned(),
            flop: flop(&*network.model, &network.params, &x)?,
            values: network.params.n_values(),
            bytes: *bytes,
            ms,
            right: right(network, &task, &task.test)?,
            held_out: held_out.map(|r| share(&r)),
        });
    }
    print(&rows);
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    let versus = Versus::of(&first.right, &last.right)?;
    let lost = 100.0 * (first.accuracy() - last.accuracy());
    let faster = [0, 1].map(|i| first.ms[i] / last.ms[i]);
    println!(
        "{:.1} % of the work, {lost:.2} points lost, {:.2} times as fast alone, {:.2} times in batches of {BATCH} ({device})",
        100.0 * last.flop as f64 / first.flop as f64,
        faster[0],
        faster[1]
    );
    println!("{versus:?}");
    let elsewhere = match &o.time_on {
        Some(name) => Some(time_on(name, &[&networks[0].1, &networks[4].1], &task)?),
        None => None,
    };
    let path = o.out.join("report.html");
    report(&o, &device, &task, &rows, &widths, lost, faster)?.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|r| {
                json!({ "network": r.name, "flop": r.flop, "parameters": r.values, "file_bytes": r.bytes,
                    "ms_alone": r.ms[0], "ms_of_a_batch": r.ms[1], "accuracy": r.accuracy(), "held_out": r.held_out })
            })
            .collect();
        println!(
            "{}",
            json!({ "device": device.to_string(), "images": task.test.len(), "networks": rows, "points_lost": lost,
                "faster": faster, "elsewhere_ms": elsewhere, "report": path })
        );
    }
    if o.weights.is_some() && !o.smoke {
        ensure!(lost <= 5.0, "{lost:.2} points lost; expected at most 5");
        ensure!(faster[0].max(faster[1]) >= 1.5, "{faster:?} times as fast; expected at least 1.5");
    }
    Ok(())
}

/// The published network and its images, or a small one and the repository's.
fn task(o: &Options, device: &Device) -> Result<Task> {
    let (Some(path), Some(train), Some(images)) = (&o.weights, &o.train, &o.images) else {
        return small_task(o, device);
    };
    let (mut train, mut test) = (data::cifar::cifar10(train)?, data::cifar::cifar10(images)?);
    if o.smoke {
        (train, test) = (train.first_per_class(13), test.first_per_class(4));
    }
    let model: Arc<dyn Layer> = Arc::new(CifarResNet::for_pixels(o.depth, 10)?);
    let params = weights::load(path, &model.init(device, 0)?)?;
    let spare = &["conv1", "layer2.0.conv2", "layer3.0.conv2"];
    held_out(o, Task { model, params, train, held_out: None, test, spare })
}

fn held_out(o: &Options, mut task: Task) -> Result<Task> {
    if o.hold_out > 0.0 {
        let (rest, chosen) = task.train.split(1.0 - o.hold_out, 1)?;
        (task.train, task.held_out) = (rest, Some(chosen));
    }
    Ok(task)
}

fn small_task(o: &Options, device: &Device) -> Result<Task> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (mut train, mut test) = data::idx::fashion8k(&folder).context("the images of the repository")?;
    if o.smoke {
        (train, test) = (train.first_per_class(20), test.first_per_class(10));
    }
    let dims = [test.channels(), test.height(), test.width()];
    let model: Arc<dyn Layer> = Arc::new(SmallCnn::new("net", dims, &[32, 64, 64], 10)?);
    let epochs = if o.smoke { 1 } else { 4 };
    let batches = Batches::new(train.len(), BATCH, o.seed, Tail::Drop)?;
    let steps = epochs * batches.per_epoch() as u64;
    let fit = Fit::supervised(model.clone(), optim::adam(Schedule::cosine(2e-3, steps)), loss::cross_entropy)
        .epochs(epochs)
        .label("first training");
    let task = Task { params: model.init(device, o.seed)?, model, train, held_out: None, test, spare: &[] };
    let task = held_out(o, task)?;
    let params = fit.run(fit.begin(&task.params)?, &batches, |at| task.batch(&task.train, at))?.params;
    Ok(Task { params, ..task })
}

fn scores(o: &Options, task: &Task, found: &Dependencies) -> Result<Scores> {
    Ok(match o.score {
        By::L1 => found.scores(&task.params, Score::L1)?.relative(),
        By::Group => found.scores(&task.params, Score::GroupL2)?.relative(),
        By::Scale => found.scores(&task.params, Score::Scale)?,
        By::Taylor => {
            let model = task.model.clone();
            let step = compile(move |(params, x, y): (Params, Tensor, Tensor)| {
                params.grad(&loss::cross_entropy(&model.forward(&params, &x)?, &y)?)
            });
            let augment = Augment::new(4, o.seed);
            let batches = Batches::new(task.train.len(), 32.min(task.train.len()), o.seed, Tail::Drop)?;
            let n = if o.smoke { 2 } else { GRADIENTS };
            let positions = (0..).flat_map(|epoch| batches.epoch(epoch)).take(usize::try_from(n)?);
            found.taylor(
                &task.params,
                positions.enumerate().map(|(draw, at)| {
                    let pixels = augment.of(&task.train, &at, draw as u64).map_err(acclimate::train::Error::from)?;
                    let (x, y) = task.tensors(&task.train, &at, &pixels)?;
                    Ok(step.call((task.params.clone(), x, y))?)
                }),
            )?
        }
    })
}

/// Trains a pruned network on, on mirrored and moved images, against labels and the unpruned network's answers to the same
/// images.
fn tune(o: &Options, task: &Task, pruned: &Pruned) -> Result<Params> {
    let epochs = o.epochs.unwrap_or(if o.weights.is_some() { 20 } else { 4 });
    let epochs = if o.smoke { 1 } else { epochs };
    let batches = Batches::new(task.train.len(), BATCH, o.seed, Tail::Drop)?;
    let steps = epochs * batches.per_epoch() as u64;
    let optimizer =
        optim::sgd(Schedule::cosine(o.rate, steps).warm_up((steps / 20).max(1))).momentum(0.9).nesterov().decay(5e-4);
    let (student, teacher) = (pruned.model.clone(), (task.model.clone(), task.params.clone()));
    let mut fit = Fit::new(optimizer, move |params: &Params, (x, y): (Tensor, Tensor), key| {
        let taught = teacher.0.forward(&teacher.1, &x)?;
        let mut pass = Pass::train(Key::from_tensor(key)?);
        let logits = student.apply(params, &x, &mut pass)?;
        let loss = loss::mean(&loss::kd(&logits, &taught, &y, TEMPERATURE, ALPHA)?)?;
        Ok((loss, params.with_buffers(pass.take_updates())?))
    })
    .epochs(epochs)
    .seed(o.seed)
    .check_every(20)
    .label("training on");
    if let Some(images) = &task.held_out {
        let (network, images) = (pruned.clone(), images.clone());
        let dims = task.dims(0);
        fit = fit.measure(move |_, params: &Params| {
            let right = answers(&network.clone().with_params(params.clone()), dims, &images)
                .map_err(|e| acclimate::train::Error::argument("held-out images", "answers", e))?;
            Ok(vec![("held out", share(&right))])
        });
    }
    let augment = Augment::new(4, o.seed);
    let mut draw = 0;
    let trained = fit.run(fit.begin(&pruned.params)?, &batches, |at| {
        draw += 1;
        task.tensors(&task.train, at, &augment.of(&task.train, at, draw)?)
    })?;
    Ok(trained.params)
}

fn right(network: &Pruned, task: &Task, images: &Images) -> Result<Vec<bool>> {
    answers(network, task.dims(0), images)
}

/// Which images a network gets right.
fn answers(network: &Pruned, dims: [usize; 4], images: &Images) -> Result<Vec<bool>> {
    let model = network.model.clone();
    let step = compile(move |(params, x): (Params, Tensor)| {
        Ok::<_, acclimate::train::Error>(model.forward(&params, &x)?.argmax(1)?)
    });
    let mut right = Vec::with_capacity(images.len());
    for start in (0..images.len()).step_by(100) {
        let end = (start + 100).min(images.len());
        let shape = [end - start, dims[1], dims[2], dims[3]];
        let x = Tensor::from_slice(network.params.device(), &images.to_f32(start..end)?, &shape)?;
        let (_, said) = step.call_read::<u32>((network.params.clone(), x))?;
        right.extend(said.iter().zip(&images.labels()[start..end]).map(|(a, b)| a == b));
    }
    Ok(right)
}

/// Milliseconds of an answer to one input alone, and of each of a batch: the best of interleaved runs.
fn times(networks: &[&Pruned], task: &Task, device: &Device) -> Result<Vec<[f64; 2]>> {
    let mut best = vec![[f64::MAX; 2]; networks.len()];
    for (i, n) in [1, BATCH].into_iter().enumerate() {
        let positions: Vec<usize> = (0..n).map(|p| p % task.test.len()).collect();
        let x = Tensor::from_slice(device, &task.test.to_f32_at(&positions)?, &task.dims(n))?;
        let steps: Vec<_> = networks
            .iter()
            .map(|network| {
                let model = network.model.clone();
                compile(move |(params, x): (Params, Tensor)| model.forward(&params, &x))
            })
            .collect();
        let params = networks.iter().map(|n| n.params.to_device(device)).collect::<Result<Vec<_>, _>>()?;
        for _ in 0..if n == 1 { 60 } else { 12 } {
            for ((step, params), best) in steps.iter().zip(&params).zip(&mut best) {
                let start = Instant::now();
                step.call_read::<f32>((params.clone(), x.clone()))?;
                best[i] = best[i].min(start.elapsed().as_secs_f64() * 1e3 / n as f64);
            }
        }
    }
    Ok(best)
}

fn time_on(name: &str, networks: &[&Pruned], task: &Task) -> Result<Vec<[f64; 2]>> {
    let device = Device::named(name)?;
    let times = times(networks, task, &device)?;
    let [before, after] = times[..] else { bail!("two networks") };
    println!(
        "on {device}: {:.2} → {:.2} ms alone, {:.2} → {:.2} ms each of {BATCH}: {:.2} and {:.2} times as fast",
        before[0],
        after[0],
        before[1],
        after[1],
        before[0] / after[0],
        before[1] / after[1]
    );
    Ok(times)
}

const HEAD: [&str; 7] = ["network", "MFLOP", "parameters", "file bytes", "ms alone", "ms of a batch", "accuracy"];

fn cells(row: &Row) -> [String; 7] {
    [
        row.name.clone(),
        format!("{:.1}", row.flop as f64 / 1e6),
        row.values.to_string(),
        row.bytes.to_string(),
        format!("{:.3}", row.ms[0]),
        format!("{:.3}", row.ms[1]),
        format!("{:.4}", row.accuracy()) + &row.held_out.map(|h| format!(" (held out {h:.4})")).unwrap_or_default(),
    ]
}

fn print(rows: &[Row]) {
    let line = |c: &[String; 7]| {
        println!("{:<46} {:>8} {:>10} {:>10} {:>9} {:>13}  {}", c[0], c[1], c[2], c[3], c[4], c[5], c[6]);
    };
    line(&HEAD.map(str::to_owned));
    rows.iter().for_each(|row| line(&cells(row)));
}

fn report(
    o: &Options,
    device: &Device,
    task: &Task,
    rows: &[Row],
    widths: &[(String, usize, usize)],
    lost: f64,
    faster: [f64; 2],
) -> Result<Report> {
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    let mut report = Report::new("A pruned network");
    report.lede(&format!(
        "{:.1} % of the work and {:.1} % of the parameters: {lost:.2} points of accuracy lost on {} images, {:.2} times as \
         fast alone and {:.2} times in batches of {BATCH}.",
        100.0 * last.flop as f64 / first.flop as f64,
        100.0 * last.values as f64 / first.values as f64,
        task.test.len(),
        faster[0],
        faster[1],
    ));
    report.facts([
        ("device", device.to_string()),
        ("seed", o.seed.to_string()),
        ("channels by", format!("{:?}", o.score)),
        ("training on", format!("{} images, distilling from the unpruned network", task.train.len())),
    ]);
    report.section("Networks").table(&HEAD, rows.iter().map(cells));
    report.section("Channels").text("What each group of channels that go together kept, first to last layer.");
    let series = |name: &str, of: fn(&(String, usize, usize)) -> usize| Series {
        name: name.to_owned(),
        points: widths.iter().enumerate().map(|(i, w)| (i as f64, of(w) as f64)).collect(),
    };
    report.plots(&[LinePlot {
        title: "Channels of each group".into(),
        x_label: "group".into(),
        y_label: "channels".into(),
        series: vec![series("before", |w| w.1), series("after", |w| w.2)],
        y_range: None,
    }]);
    report.table(
        &["group", "channels", "kept"],
        widths.iter().map(|(name, of, kept)| [name.clone(), of.to_string(), kept.to_string()]),
    );
    Ok(report)
}
