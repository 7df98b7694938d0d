//! The quick start's table and report.

use std::collections::BTreeMap;
use std::path::Path;

use acclimate::infer::report::{ImageCard, LinePlot, Picture, Report, Series};
use acclimate::infer::{report, sensor};
use acclimate::prelude::*;
use anyhow::Result;

use crate::train::Trained;

/// Test images shown in the report.
const SHOWN: usize = 6;

/// Answers of the first images of each shift at severity 5, by method.
#[derive(Default)]
pub struct Gallery {
    shown: BTreeMap<String, Vec<Shown>>,
}

struct Shown {
    pixels: Vec<f32>,
    label: u32,
    answers: Vec<(String, u32, f32)>,
}

impl Gallery {
    /// Keeps what the report shows of an evaluation.
    pub fn note(&mut self, shift: &str, severity: u8, method: &str, images: &Images, answers: &[Answered]) {
        if severity != 5 {
            return;
        }
        // The subset of the costly methods is the first of each class; rows are matched by their pixels.
        let rows = self.shown.entry(shift.to_owned()).or_default();
        for (i, answer) in answers.iter().enumerate().take(200) {
            let Ok(pixels) = images.to_f32(i..i + 1) else { return };
            let guess = answer.receipt.facts.after;
            let entry = (method.to_owned(), guess.class, guess.confidence);
            match rows.iter().position(|s| s.pixels == pixels) {
                Some(at) => rows[at].answers.push(entry),
                None if rows.len() < SHOWN => {
                    rows.push(Shown { pixels, label: images.labels()[i], answers: vec![entry] });
                }
                None => {}
            }
        }
    }
}

/// What the report is made of.
pub struct Facts<'a> {
    pub device: &'a Device,
    pub trained: &'a Trained,
    pub rows: &'a [report::ResultRow],
    pub gallery: &'a Gallery,
    pub receipt: Option<&'a Receipt>,
    pub session: &'a Session,
    pub dims: [usize; 3],
}

/// One line about a shift, as soon as it is done.
pub fn line(rows: &[report::ResultRow], shift: &str, severity: u8) -> String {
    let of = rows.iter().filter(|r| r.shift == shift && r.severity == u32::from(severity));
    let each: Vec<String> = of.map(|r| format!("{} {:.3}", r.method, r.accuracy)).collect();
    format!("{shift} {severity}: {}", each.join("  "))
}

/// The table for a terminal.
pub fn table(rows: &[report::ResultRow]) -> String {
    let mut text = format!(
        "{:<10} {:>3}  {:<15} {:>6} {:>9} {:>6} {:>9} {:>6} {:>12}\n",
        "shift", "sev", "method", "images", "accuracy", "ECE", "ms/image", "acted", "rolled back"
    );
    for r in rows {
        text += &format!(
            "{:<10} {:>3}  {:<15} {:>6} {:>9.3} {:>6.3} {:>9.3} {:>6} {:>12}\n",
            r.shift, r.severity, r.method, r.images, r.accuracy, r.ece, r.ms_per_image, r.acted, r.rolled_back
        );
    }
    text
}

/// Writes the report.
pub fn write(path: &Path, facts: &Facts<'_>) -> Result<()> {
    let names = &data::idx::FASHION_CLASSES;
    let t = facts.trained;
    let mut r = Report::new("Adapting to each image");
    r.lede("A small classifier, trained here, answers images that a camera has spoiled. Each row of the tables is one way to answer; two of them adapt every image alone, with weights or a correction of its own.");
    r.facts([
        ("device", facts.device.to_string()),
        ("training", format!("{:.1} s, {:.1} CPU-seconds, {} epochs", t.seconds, t.cpu_seconds, t.epochs)),
        ("clean accuracy", format!("{:.2} %", 100.0 * t.clean_accuracy)),
        ("parameters", t.params.n_values().to_string()),
    ]);
    r.section("Results");
    r.overview(facts.rows);
    r.results(facts.rows);
    if facts.rows.iter().any(|r| r.severity > 0 && r.severity < 5) {
        r.section("Accuracy per severity");
    }
    r.accuracy_by_severity(facts.rows);
    r.section("Training");
    r.plots(&[
        LinePlot {
            title: "Loss".into(),
            x_label: "step".into(),
            y_label: "cross-entropy".into(),
            series: vec![Series { name: "training loss".into(), points: t.losses.clone() }],
            y_range: None,
        },
        LinePlot {
            title: "Accuracy on held-out images".into(),
            x_label: "epoch".into(),
            y_label: "accuracy".into(),
            series: vec![Series { name: "test accuracy".into(), points: t.accuracies.clone() }],
            y_range: None,
        },
    ]);
    r.section("Images");
    r.text("Clean images as the shift made them, the closed-form candidate that calibrate would start from, and what each way answers.");
    let mut cards = Vec::new();
    for (shift, shown) in &facts.gallery.shown {
        for s in shown.iter().take(if shift == "clean" { 2 } else { 3 }) {
            let x = Tensor::from_slice(facts.device, &s.pixels, &facts.dims)?;
            let corrected = facts.session.corrected(&s.pixels, facts.dims)?;
            let stretched = sensor::stretch(&x)?.to_vec::<f32>()?;
            cards.push(ImageCard {
                title: format!("{} under {shift}", names[s.label as usize]),
                pictures: vec![
                    ("as it came".into(), Picture::from_unit(&s.pixels, facts.dims)?),
                    ("stretched".into(), Picture::from_unit(&stretched, facts.dims)?),
                    ("calibrated".into(), Picture::from_unit(&corrected, facts.dims)?),
                ],
                answers: s
                    .answers
                    .iter()
                    .map(|(method, class, confidence)| report::Labelled {
                        method: method.clone(),
                        class: names[*class as usize].to_owned(),
                        confidence: *confidence,
                        right: *class == s.label,
                    })
                    .collect(),
            });
        }
    }
    r.images(&cards)?;
    if let Some(receipt) = facts.receipt {
        r.section("One receipt in words");
        r.receipt(receipt, names)?;
    }
    r.write(path)?;
    Ok(())
}
