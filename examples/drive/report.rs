//! The drive's table and report.

use std::path::Path;

use acclimate::infer::report::{self, ImageCard, LinePlot, Picture, Report, Series};
use acclimate::prelude::*;
use anyhow::Result;

use crate::road::{PHASES, Road};
use crate::train::Trained;

/// A frame and what became of it.
pub struct Frame {
    pub phase: usize,
    pub label: u32,
    pub pixels: Vec<f32>,
    pub light: f64,
    /// Computing.
    pub took_ms: f64,
    /// From its arrival to its answer.
    pub response_ms: f64,
    pub missed: bool,
    pub answer: Answered,
}

impl Frame {
    fn right(&self) -> bool {
        self.answer.label() == self.label
    }

    fn frozen_right(&self) -> bool {
        self.answer.receipt.facts.before.class == self.label
    }
}

/// What became of a phase.
#[derive(serde::Serialize)]
pub struct Phase {
    name: String,
    frames: usize,
    accuracy: f64,
    frozen_accuracy: f64,
    acted: usize,
    rolled_back: usize,
    missed: usize,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    /// Frames on each rung, by its name.
    rungs: Vec<(String, usize)>,
    /// What happened to the session, with the frame.
    events: Vec<(u64, String)>,
}

impl Phase {
    /// Of all frames of a drive, phase by phase.
    pub fn of(seen: &[Frame]) -> Vec<Phase> {
        let phase = |(at, (name, ..)): (usize, &(&str, f64, f64))| {
            let frames: Vec<&Frame> = seen.iter().filter(|f| f.phase == at).collect();
            let n = frames.len().max(1) as f64;
            let share = |f: &dyn Fn(&Frame) -> bool| frames.iter().filter(|x| f(x)).count() as f64 / n;
            let action = |a: Action| frames.iter().filter(|f| f.answer.receipt.facts.verdict.action == a).count();
            let mut times: Vec<f64> = frames.iter().map(|f| f.response_ms).collect();
            times.sort_by(f64::total_cmp);
            let quantile = |q: f64| times.get(((q * n).ceil() as usize).saturating_sub(1)).copied().unwrap_or(0.0);
            let mut rungs: Vec<(String, usize)> = Vec::new();
            for f in &frames {
                let name = &f.answer.receipt.rung.name;
                match rungs.iter_mut().find(|(n, _)| n == name) {
                    Some((_, count)) => *count += 1,
                    None => rungs.push((name.clone(), 1)),
                }
            }
            rungs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            Phase {
                name: (*name).to_owned(),
                frames: frames.len(),
                accuracy: share(&Frame::right),
                frozen_accuracy: share(&Frame::frozen_right),
                acted: action(Action::Accepted),
                rolled_back: action(Action::RolledBack),
                missed: frames.iter().filter(|f| f.missed).count(),
                p50_ms: quantile(0.5),
                p95_ms: quantile(0.95),
                p99_ms: quantile(0.99),
                rungs,
                events: frames
                    .iter()
                    .flat_map(|f| f.answer.receipt.events.iter().map(|e| (f.answer.receipt.index, e.to_string())))
                    .collect(),
            }
        };
        PHASES.iter().enumerate().map(phase).collect()
    }
}

/// The table for a terminal.
pub fn table(phases: &[Phase]) -> String {
    let mut text = format!(
        "{:<6} {:>6} {:>9} {:>7} {:>6} {:>12} {:>7} {:>8} {:>8} {:>8}  rungs\n",
        "phase", "frames", "accuracy", "frozen", "acted", "rolled back", "missed", "p50 ms", "p95 ms", "p99 ms"
    );
    for p in phases {
        let rungs: Vec<String> = p.rungs.iter().map(|(name, n)| format!("{name} {n}")).collect();
        text += &format!(
            "{:<6} {:>6} {:>9.3} {:>7.3} {:>6} {:>12} {:>7} {:>8.1} {:>8.1} {:>8.1}  {}\n",
            p.name,
            p.frames,
            p.accuracy,
            p.frozen_accuracy,
            p.acted,
            p.rolled_back,
            p.missed,
            p.p50_ms,
            p.p95_ms,
            p.p99_ms,
            rungs.join(", ")
        );
    }
    text
}

/// What the report is made of.
pub struct Facts<'a> {
    pub road: &'a Road,
    pub trained: &'a Trained,
    pub device: &'a Device,
    pub session: &'a Session,
    pub seen: &'a [Frame],
    pub phases: &'a [Phase],
    /// Frames a second.
    pub rate: f64,
    pub dims: [usize; 3],
}

/// Frames of a running mean.
const WINDOW: usize = 60;
/// Frames of a phase that are shown.
const SHOWN: usize = 4;

/// Writes the report.
pub fn write(path: &Path, facts: &Facts<'_>) -> Result<()> {
    let names: Vec<&str> = facts.road.names.iter().map(String::as_str).collect();
    let mut r = Report::new("A drive into the dusk and the fog");
    r.lede("A camera, a light meter, and labels that arrive 50 frames late. Every frame is answered before the next arrives, on the rung of the budget that fits; adaptation runs in the shadow until the late labels show that it helps.");
    let latency = facts.session.latency();
    r.facts([
        ("road", facts.road.what.clone()),
        ("device", facts.device.to_string()),
        ("method", facts.session.method().name().to_owned()),
        ("frames", format!("{}, {} a second", facts.seen.len(), facts.rate)),
        (
            "computing",
            format!(
                "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
                latency.all.p50_ms, latency.all.p95_ms, latency.all.p99_ms
            ),
        ),
        ("missed deadlines", facts.phases.iter().map(|p| p.missed).sum::<usize>().to_string()),
    ]);
    r.section("The drive");
    let running = |f: &dyn Fn(&Frame) -> bool| -> Vec<(f64, f64)> {
        facts
            .seen
            .windows(WINDOW.min(facts.seen.len().max(1)))
            .enumerate()
            .map(|(i, w)| {
                ((i + w.len()) as f64 / facts.rate, w.iter().filter(|x| f(x)).count() as f64 / w.len() as f64)
            })
            .collect()
    };
    let each = |f: &dyn Fn(&Frame) -> f64| -> Vec<(f64, f64)> {
        facts.seen.iter().enumerate().map(|(i, x)| (i as f64 / facts.rate, f(x))).filter(|p| p.1.is_finite()).collect()
    };
    let plot = |title: &str, y: &str, series: Vec<Series>| LinePlot {
        title: title.into(),
        x_label: "seconds".into(),
        y_label: y.into(),
        series,
        y_range: None,
    };
    let series = |name: &str, points| Series { name: name.into(), points };
    r.plots(&[
        plot(
            "Accuracy over 60 frames",
            "share right",
            vec![series("session", running(&Frame::right)), series("frozen", running(&Frame::frozen_right))],
        ),
        plot(
            "From arrival to answer",
            "milliseconds",
            vec![
                series("from arrival to answer", each(&|f| f.response_ms)),
                series("computing", each(&|f| f.took_ms)),
                series("deadline", each(&|_| 1e3 / facts.rate)),
            ],
        ),
        plot(
            "Rung of the budget (0 is everything)",
            "rung",
            vec![series("rung", each(&|f| f64::from(f.answer.receipt.rung.level)))],
        ),
        plot("Light meter", "reading", vec![series("light", each(&|f| f.light))]),
    ]);
    for (at, p) in facts.phases.iter().enumerate() {
        r.section(&format!("{}{}", p.name[..1].to_uppercase(), &p.name[1..]));
        let rungs: Vec<String> = p.rungs.iter().map(|(name, n)| format!("{name}: {n}")).collect();
        r.facts([
            ("accuracy", format!("{:.1} %, frozen {:.1} %", 100.0 * p.accuracy, 100.0 * p.frozen_accuracy)),
            ("missed deadlines", format!("{} of {}", p.missed, p.frames)),
            (
                "from arrival to answer",
                format!("p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", p.p50_ms, p.p95_ms, p.p99_ms),
            ),
            ("rungs", rungs.join(", ")),
            ("acted on, rolled back", format!("{}, {}", p.acted, p.rolled_back)),
        ]);
        for (index, event) in &p.events {
            r.text(&format!("Before frame {index}, {event}."));
        }
        let of_phase: Vec<&Frame> = facts.seen.iter().filter(|f| f.phase == at).collect();
        // Where the session and the frozen model differ is most to see; then evenly spread.
        let mut shown: Vec<&Frame> =
            of_phase.iter().filter(|f| f.right() != f.frozen_right()).take(SHOWN / 2).copied().collect();
        let stride = (of_phase.len() / SHOWN).max(1);
        shown.extend(of_phase.iter().step_by(stride).take(SHOWN - shown.len()));
        let mut cards = Vec::new();
        for f in &shown {
            let corrected = facts.session.corrected(&f.pixels, facts.dims)?;
            let guess = |method: &str, g: acclimate::infer::receipt::Guess| report::Labelled {
                method: method.into(),
                class: names.get(g.class as usize).copied().unwrap_or("?").to_owned(),
                confidence: g.confidence,
                right: g.class == f.label,
            };
            let facts_of = &f.answer.receipt.facts;
            cards.push(ImageCard {
                title: format!("frame {}: {}", f.answer.receipt.index, names[f.label as usize]),
                pictures: vec![
                    ("as it came".into(), Picture::from_unit(&f.pixels, facts.dims)?),
                    ("as the method would see it".into(), Picture::from_unit(&corrected, facts.dims)?),
                ],
                answers: vec![guess("frozen", facts_of.before), guess("session", facts_of.after)],
            });
        }
        r.images(&cards)?;
        if let Some(f) = shown.first() {
            r.receipt(&f.answer.receipt, &names)?;
        }
    }
    r.section("Training");
    let t = facts.trained;
    r.facts([
        ("training", format!("{:.1} s, {:.1} CPU-seconds, {} epochs", t.seconds, t.cpu_seconds, t.epochs)),
        ("test images right", format!("{:.2} %", 100.0 * t.clean_accuracy)),
    ]);
    r.plots(&[
        LinePlot {
            x_label: "step".into(),
            ..plot("Loss", "cross-entropy", vec![series("training loss", t.losses.clone())])
        },
        LinePlot {
            x_label: "epoch".into(),
            ..plot("Accuracy on held-out images", "accuracy", vec![series("test accuracy", t.accuracies.clone())])
        },
    ]);
    r.write(path)?;
    Ok(())
}
