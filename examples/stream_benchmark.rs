//! Methods x shifts x stream orders: errors, calibration, time and memory, paired with the frozen network and with a vote
//! at the same cost. Writes Markdown, JSON and HTML.
//!
//! With `--weights` and `--images` it runs a CIFAR-10 ResNet on shifts of CIFAR-10-C, or EfficientNet-Lite0 on those of
//! ImageNet-C; without them it trains the quick start's small network on the repository's images first.

#[path = "stream_benchmark/export.rs"]
mod export;
#[path = "stream_benchmark/methods.rs"]
mod methods;
#[path = "stream_benchmark/output.rs"]
mod output;
#[path = "quickstart/profile.rs"]
mod profile;
#[path = "stream_benchmark/subject.rs"]
mod subject;
#[allow(dead_code, reason = "the quick start shows more of its training")]
#[path = "quickstart/train.rs"]
mod train;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use acclimate::infer::adapt::Situation;
use acclimate::infer::evaluate::protocol::{Protocol, RealTime, Run, run};
use acclimate::infer::evaluate::stream::{self, Order, Part, visits};
use acclimate::infer::evaluate::table::{Compared, Row, markdown};
use acclimate::infer::evaluate::versus::Versus;
use acclimate::prelude::*;
use anyhow::{Context, Result, bail};
use clap::Parser;
use methods::Known;
use subject::{Shifted, Subject};

/// Methods on streams of shifted images.
#[derive(Parser)]
struct Options {
    /// safetensors file of a ResNet for CIFAR-10 with PyTorch's names, or of EfficientNet-Lite0
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Test images: for a ResNet in CIFAR-10's binary layout, plain or gzip; else a folder or tar archive of ImageNet pictures
    #[arg(long)]
    images: Option<PathBuf>,
    /// Images the network was trained on, for methods that know the source: the same layout
    #[arg(long)]
    source: Option<PathBuf>,
    /// Folder with frost1.png to frost5.jpg of the benchmark; textures are drawn without it
    #[arg(long)]
    frost: Option<PathBuf>,
    /// Shifts, or `all` [default: the fifteen common ones; for the small network its five]
    #[arg(long, value_delimiter = ',')]
    shifts: Vec<String>,
    /// Constants: cifar or camera
    #[arg(long)]
    family: Option<Family>,
    /// Severity, 1 to 5
    #[arg(long, default_value_t = 5)]
    severity: u8,
    /// Methods, or `all`; `roid@0.003` takes another rate of steps than the method's own
    #[arg(long, value_delimiter = ',', default_value = "statistics,tent")]
    methods: Vec<String>,
    /// iid, continual, mixed, sorted, single, correlated:0.1
    #[arg(long, value_delimiter = ',', default_value = "iid,continual,sorted")]
    orders: Vec<Order>,
    /// How often the stream `continual` goes through its shifts
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Also each order in real time, at this speed (1: as fast as the frozen network answers)
    #[arg(long)]
    real_time: Option<f64>,
    /// Images of a batch
    #[arg(long, default_value_t = 200)]
    batch: usize,
    /// The first so many images of each shift
    #[arg(long)]
    limit: Option<usize>,
    /// Share of the source images that `calibrate` counts as ordinary: it leaves alone what is no more unusual than these
    #[arg(long, default_value_t = 0.95)]
    ordinary: f64,
    /// Compare with a vote over as many views as cost the same
    #[arg(long)]
    vote: bool,
    /// One of the methods: the others are compared with it, input by input
    #[arg(long)]
    against: Option<String>,
    /// Folder to write the images to, in the order of the stream `iid`, as NumPy files
    #[arg(long)]
    export: Option<PathBuf>,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of shifts, orders and views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for table.md, rows.json and report.html
    #[arg(long, default_value = "run/streams")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Seconds instead of minutes: few images, every order and method
    #[arg(long)]
    smoke: bool,
    /// Device statistics and the launches of one batch of each method at the end
    #[arg(long)]
    profile: bool,
}

/// Inputs that a recommendation looks at.
const LOOKED_AT: usize = 200;
/// Most views of a vote.
const MOST_VIEWS: usize = 64;

fn main() -> Result<()> {
    env_logger::init();
    let mut o = Options::parse();
    if o.smoke {
        let orders = [Order::Iid, Order::Continual, Order::Mixed, Order::Sorted, Order::Correlated(0.1), Order::Single];
        o.orders = orders.to_vec();
        (o.limit, o.batch, o.vote, o.real_time) = (Some(24), 8, true, Some(1.0));
        o.methods = if o.weights.is_some() && o.source.is_none() { o.methods } else { vec!["all".into()] };
        o.shifts = vec!["gaussian".into(), "contrast".into()];
    }
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let subject = subject::subject(&o, &device)?;
    let started = Instant::now();
    let shifted = subject.shifted(&o)?;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{} shifts of {} images in {seconds:.1} s", shifted.len() - 1, subject.images.len());
    if let Some(folder) = &o.export {
        export::write(folder, &shifted, &visits(&parts(&shifted, &subject), Order::Iid, o.batch, o.seed)?)?;
    }
    let mut bench = Bench { o: &o, subject: &subject, rows: Vec::new() };
    for &order in &o.orders {
        bench.order(order, &shifted)?;
    }
    let rows = bench.rows;
    let about = output::About {
        device: device.to_string(),
        network: subject.name.clone(),
        images: shifted.first().map_or(0, |part| part.images.len()),
        severity: o.severity,
        batch: o.batch,
        seed: o.seed,
        textures: if o.frost.is_some() { "the benchmark's" } else { "drawn" },
    };
    output::write(&o.out, &about, &rows)?;
    println!("{}", markdown(&rows));
    println!("table, rows and report: {}", o.out.display());
    if o.profile {
        let (first, dims) = (&shifted[0], subject.dims());
        let n = o.batch.min(first.images.len()) * dims.iter().product::<usize>();
        let known = Known::new(subject.source.as_ref().map_or(0.0, |source| source.quantile(o.ordinary)), None);
        for wanted in methods::chosen(&o.methods)? {
            let folder = o.out.join(&wanted.name);
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
            let mut session = session(&subject, wanted.method(&known), 32.min(o.batch), o.seed)?;
            profile::show(&mut session, &first.pixels[..n], dims, &folder)?;
        }
    }
    if o.json {
        let line = serde_json::json!({
            "device": device.to_string(), "engine": device.kind().to_string(), "network": subject.name, "rows": rows,
        });
        println!("{line}");
    }
    Ok(())
}

fn session(subject: &Subject, method: Adaptation, slots: usize, seed: u64) -> Result<Session> {
    let source = if method.needs_source_statistics() { subject.source.clone() } else { None };
    let session = Session::with_source(subject.model.clone(), subject.params.clone(), method, source)?;
    Ok(session.slots(slots).seed(seed))
}

fn parts<'a>(shifted: &'a [Shifted], subject: &Subject) -> Vec<Part<'a>> {
    let dims = subject.dims();
    let part = |shift: &'a Shifted| Part {
        name: &shift.name,
        severity: shift.severity,
        data: Labelled { images: &shift.pixels, dims, labels: shift.images.labels() },
    };
    shifted.iter().map(part).collect()
}

/// Says how the other methods of a stream stand to this one.
fn against(name: &str, order: Order, runs: &[Run]) -> Result<()> {
    let Some(base) = runs.iter().find(|run| run.method == name) else {
        let known: Vec<&str> = runs.iter().map(|run| run.method.as_str()).collect();
        bail!("--against: expected one of {}, found `{name}`", known.join(", "));
    };
    for run in runs.iter().filter(|run| run.method != name) {
        let v = Versus::of(&base.right(), &run.right())?;
        let (points, error) = (100.0 * v.difference, 100.0 * v.standard_error);
        let counts = format!("{} helped, {} harmed of {}, p {:.1e}", v.helped, v.harmed, v.n, v.p_value);
        println!("{order}: {} against {name}: {points:+.2} ± {error:.2} points of accuracy ({counts})", run.method);
    }
    Ok(())
}

struct Bench<'a> {
    o: &'a Options,
    subject: &'a Subject,
    rows: Vec<Row>,
}

impl Bench<'_> {
    /// All methods on the streams of one order.
    fn order(&mut self, order: Order, shifted: &[Shifted]) -> Result<()> {
        let o = self.o;
        let mut parts = parts(shifted, self.subject);
        if matches!(order, Order::Continual | Order::Mixed) {
            // Nothing is reset, and a stream of shifts begins with a shift.
            parts.remove(0);
        }
        if order == Order::Continual {
            // Each round is shuffled anew.
            parts = parts.repeat(o.rounds.max(1));
        }
        let gate = self.subject.source.as_ref().map_or(0.0, |source| source.quantile(o.ordinary));
        let chosen = methods::chosen(&o.methods)?;
        let asked = chosen.iter().any(|wanted| wanted.name == methods::RECOMMENDED);
        let known = Known::new(gate, asked.then(|| self.recommended(order, &parts)).transpose()?);
        let protocol = Protocol { order, batch: o.batch, seed: o.seed, real_time: None };
        let frozen = self.play(frozen(), &parts, protocol, order.name())?;
        let mut runs = Vec::new();
        for wanted in &chosen {
            runs.push(self.play(wanted.method(&known), &parts, protocol, &format!("{order} {}", wanted.name))?);
        }
        if let Some(name) = &o.against {
            against(name, order, &runs)?;
        }
        // As many views as take the method's time; one view is the frozen network.
        let mut votes: BTreeMap<usize, Run> = BTreeMap::new();
        let views = |run: &Run| ((run.ms_per_input / frozen.ms_per_input).round() as usize).clamp(1, MOST_VIEWS);
        for k in runs.iter().filter(|_| o.vote).map(views) {
            if k > 1 && !votes.contains_key(&k) {
                votes.insert(k, self.play(vote(k), &parts, protocol, &format!("{order} vote of {k}"))?);
            }
        }
        let vote_of = |run: &Run| if o.vote { Some(votes.get(&views(run)).unwrap_or(&frozen)) } else { None };
        self.rows.extend(self.compared(order.to_string(), &frozen, runs.iter().map(|run| (run, vote_of(run))))?);
        if let Some(speed) = o.real_time {
            let real_time = Some(RealTime { speed, frozen_ms: frozen.ms_per_input });
            let protocol = Protocol { real_time, ..protocol };
            let mut runs = Vec::new();
            for wanted in &chosen {
                let label = format!("{order} {} in real time", wanted.name);
                runs.push(self.play(wanted.method(&known), &parts, protocol, &label)?);
            }
            let stream = format!("{order} in real time, speed {speed}");
            self.rows.extend(self.compared(stream, &frozen, runs.iter().map(|run| (run, None)))?);
        }
        Ok(())
    }

    /// What is recommended for the stream by its first inputs that have a shift.
    fn recommended(&self, order: Order, parts: &[Part<'_>]) -> Result<Adaptation> {
        let (o, subject) = (self.o, self.subject);
        let dims = subject.dims();
        let size: usize = dims.iter().product();
        let plan = visits(parts, order, o.batch, o.seed)?;
        let rows = plan.iter().flat_map(|visit| &visit.rows).filter(|row| parts[row.part].severity > 0);
        let image = |row: &stream::Row| parts[row.part].data.images[row.item * size..(row.item + 1) * size].to_vec();
        let first: Vec<f32> = rows.take(LOOKED_AT).flat_map(image).collect();
        let mut situation = Situation::batches_of(if order == Order::Single { 1 } else { o.batch });
        if matches!(order, Order::Continual | Order::Mixed) {
            situation = situation.stream_of(plan.iter().map(|visit| visit.rows.len() as u64).sum());
        }
        if let Some(source) = &subject.source {
            situation = situation.source(source.clone());
        }
        let choice = Adaptation::recommend(&*subject.model, &subject.params, &first, dims, &situation)?;
        eprintln!("recommended for {order}: {choice}");
        Ok(choice.method)
    }

    fn compared<'r>(
        &self,
        stream: String,
        frozen: &'r Run,
        methods: impl Iterator<Item = (&'r Run, Option<&'r Run>)>,
    ) -> Result<Vec<Row>> {
        Ok(Compared { stream, frozen, methods: methods.collect(), seed: self.o.seed }.rows()?)
    }

    /// One method over one stream, with a bar.
    fn play(&self, method: Adaptation, parts: &[Part<'_>], protocol: Protocol, label: &str) -> Result<Run> {
        let slots = if protocol.order == Order::Single { 1 } else { 32.min(protocol.batch) };
        let mut session = session(self.subject, method, slots, self.o.seed)?;
        let n = visits(parts, protocol.order, protocol.batch, protocol.seed)?.len();
        let mut shown = Progress::Auto.begin(label, n as u64);
        let played = run(&mut session, parts, &protocol, &mut |done, of| {
            shown.say(done as u64, &format!("batch {done} of {of}"));
        })?;
        let right = played.right();
        let error = 100.0 * right.iter().filter(|right| !**right).count() as f64 / right.len() as f64;
        shown.end(n as u64, &format!("error {error:.2} %, {:.2} ms an input", played.ms_per_input));
        Ok(played)
    }
}
