//! A drive into the dusk and the fog: a camera at 30 frames a second, a light meter, and labels that arrive 50 frames late.
//! Each frame is answered within its thirtieth of a second, on the rung of the budget that fits; adaptation has to earn its
//! place by the late labels. Writes a report to scroll through and receipts, and replays them.

#[path = "quickstart/profile.rs"]
mod profile;
#[path = "drive/report.rs"]
mod report;
#[path = "drive/road.rs"]
mod road;
#[path = "quickstart/train.rs"]
mod train;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use acclimate::infer::feedback::{Feedback, Judge, Meter};
use acclimate::prelude::*;
use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use report::{Frame, Phase};

/// Drive through day, dusk and fog.
#[derive(Parser)]
struct Options {
    /// Folder with the GTSRB files `gtsrb32_train_2perTrack.bin.gz` and `gtsrb32_test_every5th.bin.gz`; without it the
    /// Fashion-MNIST images of the repository are the road. ACCLIMATE_DATA is used where it is set
    #[arg(long)]
    data: Option<PathBuf>,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of initialization, frames and views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report and the receipts
    #[arg(long, default_value = "run/drive")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Seconds instead of minutes: few frames, one epoch, the repository's images
    #[arg(long)]
    smoke: bool,
    /// Device statistics and the launches of one frame at the end
    #[arg(long)]
    profile: bool,
    /// Passes through the training images; by default 20 for the signs and 6 for the clothes
    #[arg(long)]
    epochs: Option<u64>,
    /// Frames a second; each has as long as the next takes to arrive
    #[arg(long, default_value_t = 30.0)]
    rate: f64,
    /// Frames of a phase
    #[arg(long, default_value_t = 600)]
    frames: usize,
    #[arg(long, value_enum, default_value_t = Method::Calibrate)]
    method: Method,
    /// Share of the late labels that are wrong
    #[arg(long, default_value_t = 0.0)]
    wrong_labels: f64,
    /// What the light meter does after a third of the drive
    #[arg(long, value_enum, default_value_t = Fault::None)]
    meter: Fault,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    Frozen,
    Calibrate,
    MemoAffine,
}

/// A fault of the light meter.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Fault {
    None,
    Stuck,
    Missing,
    Nan,
}

/// Frames after which a label arrives.
const LATE: usize = 50;
/// Share of training images that count as ordinary for the gate of `calibrate`.
const ORDINARY: f64 = 0.95;
/// Light above which nothing is adapted to.
const BRIGHT: f64 = 0.7;
/// Passes through the signs: there are few of them.
const SIGN_EPOCHS: u64 = 20;

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    ensure!(o.rate.is_finite() && o.rate >= 0.1, "--rate: expected at least 0.1 frames a second, found {}", o.rate);
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let folder = o.data.clone().or_else(|| std::env::var_os("ACCLIMATE_DATA").map(PathBuf::from));
    let road = if o.smoke { None } else { folder.and_then(|f| road::signs(&f).transpose()).transpose()? };
    let (road, epochs) = match road {
        Some(road) => (road, SIGN_EPOCHS),
        None => (road::fashion(o.smoke)?, if o.smoke { 1 } else { train::EPOCHS }),
    };
    let epochs = o.epochs.unwrap_or(epochs);
    eprintln!("the road: {}", road.what);
    let trained = train::train(&device, &road.train, &road.test, o.seed, epochs)?;
    eprintln!(
        "trained in {:.1} s ({:.1} CPU-seconds); {:.1} % of the test images right",
        trained.seconds,
        trained.cpu_seconds,
        100.0 * trained.clean_accuracy
    );

    let dims = [road.test.channels(), road.test.height(), road.test.width()];
    let source_images = road.train.to_f32(0..road.train.len().min(2000))?;
    let source = SourceStatistics::record(&*trained.model, &trained.params, &source_images, dims)?;
    let method = match o.method {
        Method::Frozen => frozen(),
        Method::Calibrate => calibrate(source.quantile(ORDINARY)),
        Method::MemoAffine => memo_affine(16, 5e-3),
    };
    let source = method.needs_source_statistics().then_some(source);
    let log = o.out.join("receipts.jsonl");
    std::fs::create_dir_all(&o.out).with_context(|| format!("create {}", o.out.display()))?;
    let deadline = Duration::from_secs_f64(1.0 / o.rate);
    let mut session = Session::with_source(trained.model.clone(), trained.params.clone(), method, source)?
        .slots(1)
        .seed(o.seed)
        .deadline(deadline)
        .judge(Judge::new())
        .meter(Meter::new("light", 0.0..=1.0).adapt_within(0.0..=BRIGHT))
        .receipts_to(&log)?
        .keep_inputs()?;
    session.warm(dims, 1)?;

    let frames = if o.smoke { 70 } else { o.frames };
    let drive = road.frames(frames, o.seed)?;
    let seen = play(&mut session, &drive, dims, &o, deadline)?;
    let phases = Phase::of(&seen);
    println!("{}", report::table(&phases));
    let latency = session.latency();
    println!(
        "computing took p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms of {:.1} ms",
        latency.all.p50_ms,
        latency.all.p95_ms,
        latency.all.p99_ms,
        deadline.as_secs_f64() * 1e3
    );
    let written = session.finish()?.map_or(0, |m| m.records);
    let outcome = replay(&log, &mut session.source()?, Inputs::kept())?;
    eprintln!("{outcome}");
    let path = o.out.join("report.html");
    report::write(
        &path,
        &report::Facts {
            road: &road,
            trained: &trained,
            device: &device,
            session: &session,
            rate: o.rate,
            seen: &seen,
            phases: &phases,
            dims,
        },
    )?;
    println!(
        "report: {}   receipts: {} ({written}), replay {}",
        path.display(),
        log.display(),
        if outcome.holds() { "holds" } else { "FAILS" }
    );
    if o.profile {
        profile::show(&mut session, &road.test.to_f32(0..1)?, dims, &o.out)?;
    }
    if o.json {
        let line = serde_json::json!({
            "device": device.to_string(), "engine": device.kind().to_string(), "road": road.what,
            "clean_accuracy": trained.clean_accuracy, "phases": phases, "latency": latency,
            "receipts": log, "receipts_written": written, "replay_ok": outcome.holds(), "report": path,
        });
        println!("{line}");
    }
    Ok(())
}

/// Plays the frames. Frame i arrives at i/rate s; one that finds the session busy waits, and has less time. Time passes as
/// the machine computes, and stands still for the rest.
fn play(
    session: &mut Session,
    drive: &[road::Shot],
    dims: [usize; 3],
    o: &Options,
    deadline: Duration,
) -> Result<Vec<Frame>> {
    let mut seen: Vec<Frame> = Vec::with_capacity(drive.len());
    let mut late: VecDeque<(usize, u64, u32)> = VecDeque::new();
    let mut free = Duration::ZERO;
    let classes = drive.iter().map(|s| s.label).max().unwrap_or(0) + 1;
    for (i, shot) in drive.iter().enumerate() {
        let arrived = Duration::from_secs_f64(i as f64 / o.rate);
        let start = arrived.max(free);
        while late.front().is_some_and(|(at, ..)| at + LATE <= i) {
            let Some((at, index, label)) = late.pop_front() else { break };
            session.feedback(index, Feedback::Label(road::perhaps_wrong(label, classes, at, o.wrong_labels)))?;
        }
        let faulty = i > drive.len() / 3;
        let reading = match o.meter {
            Fault::Stuck if faulty => Some(0.4),
            Fault::Missing if faulty => None,
            Fault::Nan if faulty => Some(f64::NAN),
            _ => Some(shot.light),
        };
        if let Some(reading) = reading {
            session.sense("light", reading)?;
        }
        let began = Instant::now();
        let left = deadline.saturating_sub(start - arrived);
        let Some(answer) = session.answer_within(&shot.pixels, dims, Some(left))?.pop() else { continue };
        let took = began.elapsed();
        free = start + took;
        late.push_back((i, answer.receipt.index, shot.label));
        seen.push(Frame {
            phase: shot.phase,
            label: shot.label,
            pixels: shot.pixels.clone(),
            light: reading.unwrap_or(f64::NAN),
            took_ms: took.as_secs_f64() * 1e3,
            response_ms: (free - arrived).as_secs_f64() * 1e3,
            missed: free - arrived > deadline,
            answer,
        });
    }
    Ok(seen)
}
