//! Train a small classifier on real images, shift the test images as a camera in the world would, and answer them in
//! eight ways, two of which adapt each image alone with its own weights. Writes a report and receipts, and replays them.

#[path = "quickstart/profile.rs"]
mod profile;
#[path = "quickstart/report.rs"]
mod report;
#[path = "quickstart/train.rs"]
mod train;

use std::path::PathBuf;
use std::time::Instant;

use acclimate::infer::adapt::Situation;
use acclimate::prelude::*;
use anyhow::{Context, Result};
use clap::Parser;

/// Train, shift, adapt, account.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of initialization, batches, shifts and views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report and the receipts
    #[arg(long, default_value = "run/quickstart")]
    out: PathBuf,
    /// Folder of the images, if they are not the repository's
    #[arg(long)]
    data: Option<PathBuf>,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Seconds instead of minutes: few images, one epoch
    #[arg(long)]
    smoke: bool,
    /// All severities and all 2,000 test images for every method
    #[arg(long)]
    full: bool,
    /// Images of each class that the costly methods answer: the first ones in file order
    #[arg(long, default_value_t = SUBSET)]
    per_class: usize,
    /// Device statistics and the launches of one batch of `calibrate` at the end
    #[arg(long)]
    profile: bool,
}

/// Images of each class that the costly methods answer if nobody says otherwise.
const SUBSET: usize = 50;
/// Images of a batch for the methods that adapt to batches.
const BATCH: usize = 200;
/// Views of an image; fewer for a smoke test.
const VIEWS: [usize; 2] = [16, 4];
/// Images of each class that a smoke test answers: a hundred in all, so that one of them is a hundredth.
const SMOKE: usize = 10;
/// Share of training images that count as ordinary for the gate of `calibrate`.
const ORDINARY: f64 = 0.95;

/// One shift at one severity.
struct Stream {
    name: String,
    severity: u8,
    images: Images,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let data = o.data.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k"));
    let (train_set, test_set) = data::idx::fashion8k(&data).context("the images of the repository")?;
    let (train_set, test_set) =
        if o.smoke { (train_set.first_per_class(40), test_set.first_per_class(SMOKE)) } else { (train_set, test_set) };

    let epochs = if o.smoke { 1 } else { train::EPOCHS };
    let trained = train::train(&device, &train_set, &test_set, o.seed, epochs)?;
    eprintln!(
        "trained in {:.1} s ({:.1} CPU-seconds); {:.1} % of {} clean test images right",
        trained.seconds,
        trained.cpu_seconds,
        100.0 * trained.clean_accuracy,
        test_set.len()
    );

    let dims = [test_set.channels(), test_set.height(), test_set.width()];
    let statistics_of = train_set.to_f32(0..train_set.len().min(2000))?;
    let source = SourceStatistics::record(&*trained.model, &trained.params, &statistics_of, dims)?;
    let gate = source.quantile(ORDINARY);
    let situation = Situation::batches_of(BATCH.min(test_set.len())).source(source.clone());

    let log = o.out.join("receipts.jsonl");
    std::fs::create_dir_all(&o.out).with_context(|| format!("create {}", o.out.display()))?;
    let slots = 25;
    let n_views = VIEWS[usize::from(o.smoke)];
    let session = |method: Adaptation| -> Result<Session> {
        let source = method.needs_source_statistics().then(|| source.clone());
        Ok(Session::with_source(trained.model.clone(), trained.params.clone(), method, source)?
            .slots(slots)
            .seed(o.seed))
    };

    let mut rows = Vec::new();
    let mut gallery = report::Gallery::default();
    let mut receipts_written = 0;
    let mut replay_ok = true;
    let mut spelled_out = None;
    let mut one_each = None; // submissions per adapted batch
    let mut recommended = Vec::new();
    for stream in streams(&test_set, o.seed, o.full)? {
        let subset = if o.full {
            stream.images.clone()
        } else {
            stream.images.first_per_class(if o.smoke { SMOKE } else { o.per_class })
        };
        let mut run = |method: Adaptation, images: &Images, name: &str, batch: usize| -> Result<Evaluation> {
            let mut session = session(method)?;
            let logged = name == "calibrate" && stream.severity != 0 && stream.name == "fog";
            if logged {
                if log.exists() {
                    std::fs::remove_file(&log)?;
                }
                session = session.receipts_to(&log)?.keep_inputs()?;
            }
            let pixels = images.to_f32(0..images.len())?;
            let labelled = Labelled { images: &pixels, dims, labels: images.labels() };
            // Planning is no part of the time per image.
            session.warm(dims, batch.min(images.len()))?;
            let before = session.device().stats().submissions;
            let result = evaluate(&mut session, labelled, batch)?;
            if session.method().is_per_input() {
                let batches = images.len().div_ceil(batch.min(slots)) as u64;
                one_each = Some(one_each.unwrap_or(true) && session.device().stats().submissions - before == batches);
            }
            if logged {
                receipts_written = session.finish()?.map_or(0, |m| m.records);
                let outcome = replay(&log, &mut session.source()?, Inputs::kept())?;
                eprintln!("{outcome}");
                replay_ok &= outcome.holds();
                spelled_out = result
                    .answers
                    .iter()
                    .find(|a| a.receipt.facts.verdict.action == Action::Accepted)
                    .map(|a| a.receipt.clone());
            }
            rows.push(result.row(&stream.name, stream.severity, name, o.seed));
            gallery.note(&stream.name, stream.severity, name, images, &result.answers);
            Ok(result)
        };
        let all = &stream.images;
        let first = all.to_f32(0..all.len().min(BATCH))?;
        let choice = Adaptation::recommend(&*trained.model, &trained.params, &first, dims, &situation)?;
        eprintln!("recommended for {} {}: {choice}", stream.name, stream.severity);
        recommended.push(serde_json::json!({
            "shift": stream.name, "severity": stream.severity, "method": choice.method.name(),
            "why": choice.why.iter().map(ToString::to_string).collect::<Vec<_>>(), "measured": choice.measured,
        }));
        run(frozen(), all, "frozen", BATCH)?;
        run(stretch(), all, "stretch", BATCH)?;
        run(statistics(), all, "statistics", BATCH)?;
        run(tent(1e-3), all, "tent", BATCH)?;
        let voted = run(vote(n_views), &subset, "vote", slots)?;
        let memo = run(memo_affine(n_views, 5e-3), &subset, "memo-affine", slots)?;
        // As many views as fit the time of memo-affine. A smoke test follows no clock: it is compared across devices.
        let ratio = if o.smoke { 3.0 } else { memo.ms_per_image / voted.ms_per_image };
        let views = (n_views as f64 * ratio).round().clamp(1.0, 96.0) as usize;
        run(vote(views), &subset, "vote_same_cost", slots)?;
        run(calibrate(gate), &subset, "calibrate", slots)?;
        eprintln!("{}", report::line(&rows, &stream.name, stream.severity));
    }
    println!("{}", report::table(&rows));
    let path = o.out.join("report.html");
    let started = Instant::now();
    report::write(
        &path,
        &report::Facts {
            device: &device,
            trained: &trained,
            rows: &rows,
            gallery: &gallery,
            receipt: spelled_out.as_ref(),
            session: &session(calibrate(gate))?,
            dims,
        },
    )?;
    log::debug!("report in {:.2} s", started.elapsed().as_secs_f64());
    println!(
        "report: {}   receipts: {} ({receipts_written}), replay {}",
        path.display(),
        log.display(),
        if replay_ok { "holds" } else { "FAILS" }
    );
    if o.profile {
        let pixels = test_set.to_f32(0..test_set.len().min(slots))?;
        profile::show(&mut session(calibrate(gate))?, &pixels, dims, &o.out)?;
    }
    if o.json {
        let line = serde_json::json!({
            "device": device.to_string(), "engine": device.kind().to_string(),
            "train_seconds": trained.seconds, "train_cpu_seconds": trained.cpu_seconds,
            "clean_accuracy": trained.clean_accuracy, "rows": rows, "recommended": recommended,
            "receipts": log,
            "receipts_written": receipts_written, "replay_ok": replay_ok, "report": path,
            "one_submission_per_batch": one_each,
        });
        println!("{line}");
    }
    Ok(())
}

/// Clean images, then every camera shift at severity 5, or at all severities.
fn streams(test: &Images, seed: u64, full: bool) -> Result<Vec<Stream>> {
    let mut streams = vec![Stream { name: "clean".into(), severity: 0, images: test.clone() }];
    for shift in Shift::CAMERA {
        for severity in Severity::ALL {
            if full || severity.level() == 5 {
                let images = shift::apply(test, shift, severity, Family::Camera, seed)?;
                streams.push(Stream { name: shift.to_string(), severity: severity.level(), images });
            }
        }
    }
    Ok(streams)
}
