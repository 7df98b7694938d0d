//! The two kinds of optimization side by side: one network, improved by training it longer, by adapting it to each input, and
//! by both. Accuracy on clean and shifted images, time of an answer, cost of the training, in one report.

use std::path::PathBuf;
use std::sync::Arc;

use acclimate::infer::report::{LinePlot, Report, ResultRow, Series};
use acclimate::prelude::*;
use anyhow::{Context, Result};
use clap::Parser;
use cpu_time::ProcessTime;
use serde_json::json;

/// Train longer, adapt while answering, or both.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of initialization, batches and shifts
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/two_optimizations")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Few images
    #[arg(long)]
    smoke: bool,
    /// Epochs of the short training
    #[arg(long, default_value_t = 1)]
    short: u64,
    /// Epochs of the long training
    #[arg(long, default_value_t = 4)]
    long: u64,
    /// Test images of each class
    #[arg(long, default_value_t = 30)]
    per_class: usize,
}

const BATCH: usize = 64;
const SLOTS: usize = 25;
/// Share of training images that count as ordinary, which `calibrate` leaves alone.
const ORDINARY: f64 = 0.95;

/// A network and what it cost.
struct Trained {
    params: Params,
    epochs: u64,
    cpu_seconds: f64,
    losses: Vec<(f64, f64)>,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (train, test) = data::idx::fashion8k(&folder).context("the images of the repository")?;
    let train = if o.smoke { train.first_per_class(40) } else { train };
    let test = test.first_per_class(if o.smoke { 3 } else { o.per_class });
    let dims = [test.channels(), test.height(), test.width()];
    let model: Arc<dyn Layer> = Arc::new(SmallCnn::new("", dims, &[16, 32, 32], train.n_classes() as usize)?);

    let mut rows: Vec<ResultRow> = Vec::new();
    let mut costs = Vec::new();
    let mut curves = Vec::new();
    for epochs in [o.short, o.long] {
        let trained = fit(&device, &model, &train, epochs, o.seed)?;
        let statistics_of = train.to_f32(0..train.len().min(2000))?;
        let source = SourceStatistics::record(&*model, &trained.params, &statistics_of, dims)?;
        for (shift, severity, images) in streams(&test, o.seed)? {
            let pixels = images.to_f32(0..images.len())?;
            let labelled = Labelled { images: &pixels, dims, labels: images.labels() };
            for (adapts, method) in [("", frozen()), (" + adapting", calibrate(source.quantile(ORDINARY)))] {
                let needed = method.needs_source_statistics().then(|| source.clone());
                let mut session = Session::with_source(model.clone(), trained.params.clone(), method, needed)?
                    .slots(SLOTS)
                    .seed(o.seed);
                session.warm(dims, SLOTS)?;
                let result = evaluate(&mut session, labelled, SLOTS)?;
                rows.push(result.row(&shift, severity, &format!("{epochs} epochs{adapts}"), o.seed));
            }
        }
        curves.push(Series { name: format!("{epochs} epochs"), points: trained.losses.clone() });
        println!("{} epochs: {:.1} CPU-seconds of training", trained.epochs, trained.cpu_seconds);
        costs.push(trained.cpu_seconds);
    }
    // The report compares with a method called `frozen`: here that is the short training alone.
    let base = format!("{} epochs", o.short);
    let named = |row: &ResultRow| if row.method == base { "frozen".to_owned() } else { row.method.clone() };
    for row in &mut rows {
        row.method = named(row);
    }
    let methods = [
        "frozen".to_owned(),
        format!("{} epochs", o.long),
        format!("{base} + adapting"),
        format!("{} epochs + adapting", o.long),
    ];
    let mean = |method: &str, clean: bool, of: fn(&ResultRow) -> f64| {
        let chosen: Vec<f64> =
            rows.iter().filter(|r| r.method == method && (r.severity == 0) == clean).map(of).collect();
        chosen.iter().sum::<f64>() / chosen.len() as f64
    };
    println!("{:<22} {:>7} {:>9} {:>10} {:>14}", "", "clean", "shifted", "ms/image", "training CPU-s");
    let mut summary = Vec::new();
    for (i, method) in methods.iter().enumerate() {
        let (clean, shifted) = (mean(method, true, |r| r.accuracy), mean(method, false, |r| r.accuracy));
        let (ms, cost) = (mean(method, false, |r| r.ms_per_image), costs[i % 2]);
        let label = if i == 0 { base.as_str() } else { method };
        println!("{label:<22} {clean:>7.3} {shifted:>9.3} {ms:>10.2} {cost:>14.1}");
        summary.push(json!({ "improved_by": label, "clean": clean, "shifted": shifted, "ms_per_image": ms, "train_cpu_seconds": cost }));
    }
    let extra_ms = mean(&methods[2], false, |r| r.ms_per_image) - mean("frozen", false, |r| r.ms_per_image);
    let even = (costs[1] - costs[0]) * 1e3 / extra_ms;
    println!("adapting costs as much as the longer training after {even:.0} answers");

    let path = o.out.join("report.html");
    let mut report = Report::new("Two kinds of optimization");
    report.lede(&format!(
        "One network trained for {} and for {} epochs, each alone (`frozen` is the shorter) and adapting the sensor correction of \
         each image: {} images, clean and under camera shifts at severity 5.",
        o.short, o.long, test.len()
    ));
    report.facts([
        ("device", device.to_string()),
        ("seed", o.seed.to_string()),
        ("training", format!("{:.1} and {:.1} CPU-seconds", costs[0], costs[1])),
        ("break-even", format!("adapting costs as much as the longer training after {even:.0} answers")),
    ]);
    report.section("Accuracy").overview(&rows);
    report.section("Training").plots(&[LinePlot {
        title: "Loss of batches".into(),
        x_label: "steps".into(),
        y_label: "nats".into(),
        series: curves,
        y_range: None,
    }]);
    report.section("Every stream").results(&rows);
    report.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        println!(
            "{}",
            json!({ "device": device.to_string(), "summary": summary, "rows": rows, "break_even_answers": even, "report": path })
        );
    }
    Ok(())
}

fn fit(device: &Device, model: &Arc<dyn Layer>, images: &Images, epochs: u64, seed: u64) -> Result<Trained> {
    let started = ProcessTime::now();
    let dims = [images.channels(), images.height(), images.width()];
    let batches = Batches::new(images.len(), BATCH, seed, Tail::Drop)?;
    let optimizer = optim::adam(Schedule::one_cycle(4e-3, epochs * batches.per_epoch() as u64));
    let fit = Fit::supervised(model.clone(), optimizer, loss::cross_entropy)
        .epochs(epochs)
        .check_every(10)
        .seed(seed)
        .label(format!("{epochs} epochs"));
    let trained = fit.run(fit.begin(&model.init(device, seed)?)?, &batches, |positions| {
        let shape = [positions.len(), dims[0], dims[1], dims[2]];
        let x = Tensor::from_slice(device, &images.to_f32_at(positions)?, &shape)?;
        Ok((x, Labels::new(device, &images.labels_at(positions)?, images.n_classes())?.tensor().clone()))
    })?;
    let losses = trained.run.history.losses();
    Ok(Trained { params: trained.params, epochs, cpu_seconds: started.elapsed().as_secs_f64(), losses })
}

/// Clean images, and every camera shift at severity 5.
fn streams(test: &Images, seed: u64) -> Result<Vec<(String, u8, Images)>> {
    let mut streams = vec![("clean".to_owned(), 0, test.clone())];
    for shift in Shift::CAMERA {
        let severity = Severity::ALL.into_iter().max_by_key(|s| s.level()).context("no severity")?;
        let images = shift::apply(test, shift, severity, Family::Camera, seed)?;
        streams.push((shift.to_string(), severity.level(), images));
    }
    Ok(streams)
}
