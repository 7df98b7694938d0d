//! Learn a stream while answering it: electricity prices (Elec2), predicted half-hour by half-hour, each answer given before
//! its label is learned. Rules of online learning beside persistence, with the regret against the best fixed weights.
//!
//! Fails if the best rule is not at least one point of accuracy above answering the last label.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::online::{
    self, Aggressiveness, Keep, Learner, Loss, Method, Prequential, Replay, Response, RunningScale, prequential_watched,
};
use acclimate::infer::report::{LinePlot, Report, Series};
use acclimate::prelude::*;
use acclimate::train::nn::{Activation, Linear};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use fit::{convergence::regret::Regret, regression::least_squares};
use serde_json::json;

/// Online learning on a drifting stream.
#[derive(Parser)]
struct Options {
    /// The stream: `elec.csv.gz` (else it is looked for in the folder ACCLIMATE_DATA)
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many half-hours later a label arrives
    #[arg(long, default_value_t = 0)]
    delay: usize,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Seed of the replay buffer, the network and the generated stream
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/online_elec2")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// The first 3,000 half-hours only; a generated stream where the data is not there
    #[arg(long)]
    smoke: bool,
}

const COLUMNS: [&str; 7] = ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer", "class"];
/// Half-hours of a day.
const DAY: usize = 48;
/// A feature further from its mean than so many deviations is cut.
const LIMIT: f64 = 5.0;

/// Numbers in time order, and what they are asked for.
struct Stream {
    name: String,
    /// [rows, 6].
    values: Vec<[f64; 6]>,
    labels: Vec<f32>,
}

/// Rows as a learner sees them, and their width.
struct Rows {
    values: Vec<f32>,
    width: usize,
}

struct Outcome {
    rule: &'static str,
    features: &'static str,
    measured: Prequential,
    regret: Vec<f64>,
    ms: f64,
    counts: online::Counts,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let mut stream = match data_file(&o) {
        Some(path) => elec(&path)?,
        None if o.smoke => drifting(3000, o.seed),
        None => anyhow::bail!("no data: give `--data elec.csv.gz`, or set ACCLIMATE_DATA to its folder"),
    };
    if o.smoke {
        stream.values.truncate(3000);
        stream.labels.truncate(3000);
    }
    println!("{}: {} rows, labels {} rows late", stream.name, stream.labels.len(), o.delay);
    let raw = rows(&stream, o.delay, false);
    let day = rows(&stream, o.delay, true);
    let best_raw = hindsight(&raw, &stream.labels)?;
    let best_day = hindsight(&day, &stream.labels)?;

    let linear = |width: usize| -> Result<(Arc<dyn Layer>, Params)> {
        let zeros = vec![("w.weight".to_owned(), vec![1, width], vec![0.0; width])];
        Ok((Arc::new(Linear::new("w", width, 1).without_bias()), Params::from_named(&device, zeros)?))
    };
    let replay = Replay { capacity: 500, rows: 4, keep: Keep::Latest };
    let pa = |how| Method::new(Loss::Hinge, online::passive_aggressive(how));
    let logistic = |optimizer| Method::new(Loss::Logistic, optimizer).seed(o.seed);
    let mut outcomes = Vec::new();
    let mut run = |rule, features, rows: &Rows, best: &[f64], method: Method, signal: bool, net: bool| -> Result<()> {
        let (model, params) = if net {
            let model: Arc<dyn Layer> =
                Arc::new(Mlp::new("net", rows.width, &[16], 1).with_activation(Activation::Tanh));
            let params = model.init(&device, o.seed)?;
            (model, params)
        } else {
            linear(rows.width)?
        };
        let mut learner = Learner::new(model, params, &[rows.width], method)?;
        if signal {
            learner = learner.on_change(rising_error());
        }
        let mut shown = Progress::Auto.begin(rule, stream.labels.len() as u64);
        let started = Instant::now();
        let measured = Prequential::new((stream.labels.len() as u64 / 60).max(50));
        let measured = prequential_watched(&mut learner, &rows.values, &stream.labels, o.delay, measured, |p| {
            if started.elapsed().as_secs() >= 2 {
                shown.say(p.len(), &format!("accuracy {:.4}", p.accuracy()));
            }
        })?;
        let ms = started.elapsed().as_secs_f64() * 1e3 / measured.len() as f64;
        if started.elapsed().as_secs() >= 2 {
            shown.end(measured.len(), &format!("accuracy {:.4}", measured.accuracy()));
        }
        // The hinge loss has no logistic regret.
        let regret = if learner.loss() == Loss::Logistic {
            Regret::of(measured.losses(), best).curve().to_vec()
        } else {
            Vec::new()
        };
        let outcome = Outcome { rule, features, measured, regret, ms, counts: learner.counts() };
        println!("{}", line(&outcome));
        outcomes.push(outcome);
        Ok(())
    };
    println!("{}", head());
    let (plain, with_day) = ("as they are", "and the day");
    run("sgd", plain, &raw, &best_raw, logistic(optim::sgd(0.1)), false, false)?;
    run("adagrad", plain, &raw, &best_raw, logistic(optim::adagrad(0.5)), false, false)?;
    run("ftrl", plain, &raw, &best_raw, logistic(online::ftrl(0.5)), false, false)?;
    run("passive-aggressive", plain, &raw, &best_raw, pa(Aggressiveness::Full), false, false)?;
    run("passive-aggressive I", plain, &raw, &best_raw, pa(Aggressiveness::AtMost(0.05)), false, false)?;
    run("passive-aggressive II", plain, &raw, &best_raw, pa(Aggressiveness::Soft(0.05)), false, false)?;
    run("sgd, replay", plain, &raw, &best_raw, logistic(optim::sgd(0.1)).replay(replay), false, false)?;
    let forget = logistic(optim::adagrad(0.5)).response(Response::ForgetMoments);
    run("adagrad, forgets on alarm", plain, &raw, &best_raw, forget, true, false)?;
    run("network, adagrad", plain, &raw, &best_raw, logistic(optim::adagrad(0.1)), false, true)?;
    run("adagrad", with_day, &day, &best_day, logistic(optim::adagrad(0.5)), false, false)?;
    run("ftrl", with_day, &day, &best_day, logistic(online::ftrl(0.5)), false, false)?;
    run("passive-aggressive I", with_day, &day, &best_day, pa(Aggressiveness::AtMost(0.05)), false, false)?;

    let (one, latency) = one_at_a_time(&device, &raw, &stream.labels, linear(raw.width)?)?;
    println!("one at a time: {one} answers, each with the label before it in one submission: median {latency:.1} µs");
    let first = &outcomes[0].measured;
    let no_change = first.no_change_accuracy();
    println!("no change {no_change:.4}, majority {:.4}", first.majority_accuracy());
    let path = o.out.join("report.html");
    report(&stream, &outcomes, &o, &device, latency)?.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        let rows: Vec<_> = outcomes.iter().map(|r| json!({
            "rule": r.rule, "features": r.features, "accuracy": r.measured.accuracy(), "loss": r.measured.loss(),
            "temporal_kappa": r.measured.temporal_kappa(), "regret": r.regret.last(),
            "alarms": r.measured.alarms().len(), "skipped": r.measured.skipped(), "ms_per_row": r.ms, "counts": r.counts,
        })).collect();
        println!(
            "{}",
            json!({ "device": device.to_string(), "rows": stream.labels.len(), "delay": o.delay,
            "no_change": no_change, "majority": first.majority_accuracy(), "rules": rows,
            "one_at_a_time_us": latency, "report": path })
        );
    }
    let best = outcomes.iter().filter(|r| r.features == plain).map(|r| r.measured.accuracy()).fold(0.0, f64::max);
    ensure!(
        o.delay > 0 || best >= no_change + 0.01,
        "the best rule is right in {best:.4} of the rows; expected a point more than no change ({no_change:.4})"
    );
    Ok(())
}

fn data_file(o: &Options) -> Option<PathBuf> {
    let there = || std::env::var_os("ACCLIMATE_DATA").map(|folder| Path::new(&folder).join("elec.csv.gz"));
    o.data.clone().or_else(there).filter(|path| path.exists())
}

fn elec(path: &Path) -> Result<Stream> {
    let table = Table::read(path, &COLUMNS).context("the stream")?;
    let values = table.matrix(&COLUMNS[..6])?;
    let (values, _) = values.as_chunks::<6>();
    let labels = table.column("class")?.iter().map(|x| *x as f32).collect();
    Ok(Stream { name: "Elec2 (Harries 1999)".into(), values: values.to_vec(), labels })
}

/// A stream whose rule turns slowly, and jumps once.
fn drifting(n: usize, seed: u64) -> Stream {
    let mut draw = data::rng::Philox::from_seed(seed).stream(0);
    let (mut values, mut labels) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for i in 0..n {
        let x: [f64; 6] = std::array::from_fn(|_| draw.normal());
        let angle = i as f64 / n as f64 * 2.0 + if i > n / 2 { 1.0 } else { 0.0 };
        let score = x[1] * angle.cos() + x[2] * angle.sin() + 0.2 * draw.normal();
        labels.push(if score > 0.0 { 1.0 } else { 0.0 });
        values.push(x);
    }
    Stream { name: "a generated stream (the data is not there)".into(), values, labels }
}

/// Features of each row: its numbers and the last label that is known; with `day` also the price against its mean over the
/// last day and against the half-hour before, and the time of day as a point on a circle. Each is scaled by the rows before.
fn rows(stream: &Stream, delay: usize, day: bool) -> Rows {
    let n = stream.labels.len();
    let sign = |i: usize| 2.0 * f64::from(stream.labels[i]) - 1.0;
    let width = 8 + if day { 4 } else { 0 };
    let mut scale = RunningScale::new(width - 1, LIMIT);
    let mut values = Vec::with_capacity(n * width);
    for i in 0..n {
        let mut row = stream.values[i].to_vec();
        row.push(i.checked_sub(1 + delay).map_or(0.0, sign));
        if day {
            let price = |j: usize| stream.values[j][1];
            let from = (i + 1).saturating_sub(DAY);
            let mean = (from..=i).map(price).sum::<f64>() / (i + 1 - from) as f64;
            let angle = stream.values[i][0] * std::f64::consts::TAU;
            row.extend([price(i) - mean, price(i) - price(i.saturating_sub(1)), angle.sin(), angle.cos()]);
        }
        values.extend(scale.next(&row));
        values.push(1.0);
    }
    Rows { values, width }
}

/// Logistic loss of each row under the fixed weights that are best for all rows: Newton's method as iteratively reweighted
/// least squares, in f64.
fn hindsight(rows: &Rows, labels: &[f32]) -> Result<Vec<f64>> {
    let x: Vec<f64> = rows.values.iter().map(|v| f64::from(*v)).collect();
    let score = |w: &[f64], row: &[f64]| row.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
    let mut w = vec![0.0; rows.width];
    for _ in 0..12 {
        let mut design = Vec::with_capacity(x.len() + w.len() * w.len());
        let mut target = Vec::with_capacity(labels.len() + w.len());
        for (row, label) in x.chunks(rows.width).zip(labels) {
            let z = score(&w, row);
            let p = 1.0 / (1.0 + (-z).exp());
            let weight = (p * (1.0 - p)).max(1e-9).sqrt();
            design.extend(row.iter().map(|v| v * weight));
            target.push(weight * z + (f64::from(*label) - p) / weight);
        }
        // A trace of a penalty, so that constant features of a short stream are no trouble.
        for j in 0..w.len() {
            design.extend((0..w.len()).map(|k| if k == j { 1e-3 } else { 0.0 }));
            target.push(0.0);
        }
        w = least_squares(&design, rows.width, &target)?;
    }
    Ok(x.chunks(rows.width).zip(labels).map(|(row, &l)| Loss::Logistic.of(&[score(&w, row) as f32], l)).collect())
}

/// An alarm when the errors of the last 300 rows are five deviations above the best such share so far.
fn rising_error() -> impl FnMut(f64) -> bool + Send {
    const WINDOW: f64 = 300.0;
    let (mut n, mut errors, mut best) = (0.0, 0.0, f64::INFINITY);
    move |error| {
        (n, errors) = (n + 1.0, errors + error);
        if n < WINDOW {
            return false;
        }
        let share: f64 = errors / n;
        (n, errors) = (0.0, 0.0);
        best = best.min(share);
        let alarm = share > best + 5.0 * (best * (1.0 - best) / WINDOW).sqrt();
        if alarm {
            best = f64::INFINITY;
        }
        alarm
    }
}

/// Median time of an answer, with the label before it learned in the same submission.
fn one_at_a_time(
    device: &Device,
    rows: &Rows,
    labels: &[f32],
    (model, params): (Arc<dyn Layer>, Params),
) -> Result<(usize, f64)> {
    let mut learner = Learner::new(model, params, &[rows.width], Method::new(Loss::Logistic, optim::adagrad(0.5)))?;
    let n = labels.len().min(2000);
    let mut times = Vec::with_capacity(n);
    for (row, &label) in rows.values.chunks(rows.width).zip(labels).take(n) {
        let started = Instant::now();
        let answer = learner.predict(row)?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        learner.label(answer.id, label)?;
    }
    debug_assert!(device.same(learner.device()));
    times.sort_by(f64::total_cmp);
    Ok((n, times[n / 2]))
}

fn head() -> String {
    format!(
        "{:<26} {:<12} {:>8} {:>8} {:>8} {:>10} {:>7} {:>8}",
        "rule", "features", "accuracy", "kappa", "loss", "regret", "alarms", "ms/row"
    )
}

fn line(r: &Outcome) -> String {
    let m = &r.measured;
    let regret = r.regret.last().map_or("–".to_owned(), |x| format!("{x:.0}"));
    format!(
        "{:<26} {:<12} {:>8.4} {:>8.3} {:>8.4} {:>10} {:>7} {:>8.4}",
        r.rule,
        r.features,
        m.accuracy(),
        m.temporal_kappa(),
        m.loss(),
        regret,
        m.alarms().len(),
        r.ms
    )
}

fn report(stream: &Stream, outcomes: &[Outcome], o: &Options, device: &Device, latency: f64) -> Result<Report> {
    let mut report = Report::new("Learning while answering");
    let best =
        outcomes.iter().max_by(|a, b| a.measured.accuracy().total_cmp(&b.measured.accuracy())).context("no rule")?;
    let first = &outcomes[0].measured;
    report.lede(&format!(
        "{}: {} rows in time order, each answered before its label was learned. {} is right in {:.2} % of them; the last \
         label in {:.2} %, the most frequent one in {:.2} %.",
        stream.name, first.len(), best.rule, 100.0 * best.measured.accuracy(), 100.0 * first.no_change_accuracy(),
        100.0 * first.majority_accuracy()
    ));
    report.facts([
        ("device", device.to_string()),
        ("seed", o.seed.to_string()),
        ("labels late by", format!("{} rows", o.delay)),
        ("one answer", format!("{latency:.1} µs (median), the label before it learned in the same submission")),
    ]);
    let name = |r: &Outcome| format!("{} ({})", r.rule, r.features);
    report.section("Errors");
    let recent = |r: &Outcome| Series {
        name: name(r),
        points: r.measured.curve().iter().map(|p| (p.n as f64, 1.0 - p.recent_error)).collect(),
    };
    let persistence = Series {
        name: "last label".into(),
        points: first.curve().iter().map(|p| (p.n as f64, 1.0 - p.no_change)).collect(),
    };
    let plot = |title: &str, y_label: &str, series| LinePlot {
        title: title.into(),
        x_label: "rows".into(),
        y_label: y_label.into(),
        series,
        y_range: None,
    };
    let chosen: Vec<&Outcome> =
        outcomes.iter().filter(|r| ["adagrad", "passive-aggressive I"].contains(&r.rule)).collect();
    let mut series: Vec<Series> = vec![persistence];
    series.extend(chosen.iter().map(|r| recent(r)));
    report.plots(&[plot("Accuracy of each window; last label: so far", "accuracy", series)]);
    report.section("Regret");
    report.text(
        "Loss so far, minus that of the fixed weights that are best for the whole stream, which nobody can know \
         beforehand. Below zero, learning did better than any fixed weights could: the rule of the stream changes.",
    );
    let curves = |features: &str| {
        let with = outcomes.iter().filter(|r| r.features == features && !r.regret.is_empty());
        with.map(|r| {
            let every = (r.regret.len() / 200).max(1);
            let points = r.regret.iter().enumerate().step_by(every).map(|(i, v)| (i as f64, *v)).collect();
            Series { name: r.rule.into(), points }
        })
        .collect::<Vec<_>>()
    };
    report.plots(&[
        plot("Regret, numbers as they are", "loss above the best fixed weights", curves("as they are")),
        plot("Regret, with the day", "loss above the best fixed weights", curves("and the day")),
    ]);
    report.section("Rules");
    report.facts(outcomes.iter().map(|r| {
        let regret = r.regret.last().map_or(String::new(), |x| format!(", regret {x:.0}"));
        let m = &r.measured;
        (
            name(r),
            format!(
                "accuracy {:.4}, temporal kappa {:.3}, loss {:.4}{regret}, {} alarms, {:.4} ms a row in blocks",
                m.accuracy(),
                m.temporal_kappa(),
                m.loss(),
                m.alarms().len(),
                r.ms
            ),
        )
    }));
    Ok(report)
}
